"""Only regular files are read, and only so much of them; only numbers are numbers."""

import hashlib
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neulite_sim.outside import file_sha256, open_regular, plain_number, read_regular


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
