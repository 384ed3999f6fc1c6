"""Only regular files are read, and only so much of them; only numbers are numbers."""

import gzip
import hashlib
import json
import math
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neulite_sim.outside import (
    create_regular,
    file_sha256,
    open_own,
    open_regular,
    open_unpacked,
    plain_json,
    plain_number,
    plain_numbers,
    printable,
    read_regular,
    user_path,
    what_stands,
)


def test_a_regular_file_is_read_whole(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert read_regular(tmp_path / "a", most_bytes=3) == b"abc"
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_a_larger_file_is_refused_with_both_sizes(tmp_path):
    (tmp_path / "a").write_bytes(b"abcd")
    with pytest.raises(OSError, match="holds 4 B; at most 3 B are read"):
        read_regular(tmp_path / "a", most_bytes=3)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no file here that is larger than it says")
def test_a_file_that_is_larger_than_it_says_is_refused():
    with pytest.raises(OSError, match="holds more than 10 B, the most that is read"):
        read_regular("/proc/self/status", most_bytes=10)


def _fifo(path):
    os.mkfifo(path)


def _socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize("made", [_fifo, _socket])
def test_nothing_but_a_regular_file_is_opened(tmp_path, made):
    made(tmp_path / "it")
    with pytest.raises(OSError, match=r"is not a regular file|No such device or address"):
        open_regular(tmp_path / "it", most_bytes=10)


def test_an_endless_device_is_refused():
    with pytest.raises(OSError, match="is not a regular file"):
        read_regular("/dev/zero")


def test_a_folder_is_a_folder(tmp_path):
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)


@pytest.mark.parametrize("name", ["a\0b", "a\ud800"])
def test_an_impossible_name_is_an_error_in_words(name):
    with pytest.raises(OSError, match=r"no file can have this name"):
        read_regular(name)


def test_a_link_is_followed_only_where_that_is_wanted(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("a")
    assert read_regular(tmp_path / "link") == b"abc"
    with pytest.raises(OSError, match="symbolic links"):
        read_regular(tmp_path / "link", follows_links=False)


def test_a_loop_of_links_is_an_error_in_words(tmp_path):
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(OSError, match="symbolic links"):
        read_regular(tmp_path / "link")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_python_prints_is_read_back(value):
    assert plain_number(f" {value!r}\t") == value


@pytest.mark.parametrize(
    "text", ["1_000", "nan", "inf", "1e999", "", " ", "0x10", "1\0", "\u0661", "1 2", "1\n", "--1"]
)
def test_what_is_no_decimal_number_is_refused(text):
    with pytest.raises(ValueError, match="is not a finite decimal number"):
        plain_number(text)


def kinds(folder):
    """Make one thing of every kind in a folder, by what it is called."""
    (folder / "file").write_text("content")
    (folder / "folder").mkdir()
    (folder / "link").symlink_to(folder / "file")
    (folder / "dangling").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe")
    return {"file": "a file", "folder": "a folder", "link": "a symbolic link", "dangling": "a symbolic link",
            "pipe": "no regular file", "nothing": None, "file/below": None}  # fmt: skip


def test_what_stands_in_a_place_is_told_without_following_links(tmp_path):
    for name, what in kinds(tmp_path).items():
        assert what_stands(tmp_path / name) == what


@pytest.mark.parametrize("name", ["file", "folder", "link", "dangling", "pipe"])
def test_a_new_file_takes_nobodys_place(tmp_path, name):
    kinds(tmp_path)
    with pytest.raises(FileExistsError):
        create_regular(tmp_path / name)
    assert (tmp_path / "file").read_text() == "content"
    assert not (tmp_path / "nowhere").exists()


def test_an_own_file_is_opened_at_its_end_or_made_and_nothing_else_is(tmp_path):
    kinds(tmp_path)
    with open_own(tmp_path / "file") as file, open_own(tmp_path / "new") as new:
        assert (file.tell(), new.tell()) == (7, 0)
    for name in ("folder", "link", "dangling", "pipe"):
        with pytest.raises(OSError, match=r"Is a directory|symbolic links|is not a regular file"):
            open_own(tmp_path / name)


def test_a_generous_limit_takes_no_memory(tmp_path):
    (tmp_path / "small").write_bytes(b"abc")
    assert read_regular(tmp_path / "small", most_bytes=10**15) == b"abc"


@given(st.lists(st.one_of(st.text(alphabet="0123456789.eE+-_ naif\x00", max_size=6), st.floats().map(repr))))
def test_many_cells_are_read_as_each_by_itself(cells):
    def one(cell):
        try:
            return plain_number(cell)
        except ValueError:
            return math.nan

    assert list(map(repr, plain_numbers(cells))) == [repr(one(cell)) for cell in cells]


def test_a_packed_file_is_unpacked_and_closed(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"abc" * 1000))
    with open_unpacked(tmp_path / "a.gz") as file:
        assert file.read() == b"abc" * 1000
    (tmp_path / "a").write_bytes(b"abc")
    with open_unpacked(tmp_path / "a") as file:
        assert file.read() == b"abc"


def test_a_packed_file_may_not_unpack_beyond_the_limit(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(os.urandom(3000)))
    with open_unpacked(tmp_path / "a.gz", most_bytes=5000) as file:
        assert len(file.read()) == 3000
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"a" * 6000))
    with (
        open_unpacked(tmp_path / "a.gz", most_bytes=5000) as file,
        pytest.raises(OSError, match="holds more than 5 kB once unpacked, the most that is read"),
    ):
        file.read()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' stands twice in an object; one of them would be dropped"),
        ("[NaN]", "NaN is not a number"),
        ("[-Infinity]", "-Infinity is not a number"),
        ("[" * 5000, "it is nested too deeply"),
        ("9" * 5000, "integer string conversion"),
        (b'"\xff"', r"it is not text in UTF-8 \(byte 0xff at 1\)"),
        ("[1", "Expecting ',' delimiter"),
    ],
)
def test_json_that_would_be_read_otherwise_than_it_stands_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        plain_json(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(json_values)
def test_other_json_is_read_as_it_stands(value):
    assert plain_json(json.dumps(value)) == value
    assert plain_json(json.dumps(value).encode()) == value


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_any_text_becomes_one_that_can_be_written(text):
    assert printable(text).encode().decode() == printable(text)
    assert printable(printable(text)) == printable(text)


def test_what_can_be_written_stays_as_it_is():
    assert printable("ü€\n\x00") == "ü€\n\x00"
    assert printable("a\udcff") == r"a\udcff"


def test_the_home_of_nobody_is_a_name_like_any_other():
    assert user_path("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
    assert user_path("~/x") == Path.home() / "x"
