"""Profiles on disk: equal to those that were kept, checked before they are believed, and never in anybody's way."""

import dataclasses
import json
import os

import numpy as np
import pytest

from neulite_sim.profiling import kept as home
from neulite_sim.profiling import kept_files as files
from neulite_sim.profiling.kept import KeptProfiles, kept_profiles
from neulite_sim.profiling.profile import Profile
from neulite_sim.profiling.tracer import MemoryBytes

IDENTITY = "ab" * 32


def made(**changes):
    values = {
        "submodel": "stage-1",
        "batch_size": 5,
        "parameters": 7,
        "trainable_parameters": 6,
        "memory": MemoryBytes(parameters=1, gradients=2, optimizer=3, activations=4, inputs=5, temporaries=6),
        "operator_flops": np.array([0.0, 0.1, 2.0**60], dtype=np.float64),
        "operator_bytes": np.array([1.0, 1 / 3, 3e15], dtype=np.float64),
        "operator_kinds": np.array([0, 1, 2], dtype=np.int8),
        "bytes_down": 40,
        "bytes_up": 30,
        "micro_batch_sizes": (3, 2),
        "allocator_bytes": 512,
        "kept_bytes_per_sample": 8,
        "later_operator_flops": np.array([0.0, 0.5], dtype=np.float64),
        "later_operator_bytes": np.array([1.0, 3e15], dtype=np.float64),
        "later_operator_kinds": np.array([2, 0], dtype=np.int8),
        "part_peaks_bytes": (11, 21),
        "part_kept_bytes_per_sample": (8, 0),
        "loaded_bytes": 60,
    }
    return Profile(**{**values, **changes})


LATER = {
    "kept_bytes_per_sample": 8,
    "later_operator_flops": np.array([3.0]),
    "later_operator_bytes": np.array([4.0]),
    "later_operator_kinds": np.array([2], dtype=np.int8),
}


def assert_equal(one, other):
    for field in dataclasses.fields(Profile):
        mine, its = getattr(one, field.name), getattr(other, field.name)
        assert type(mine) is type(its), field.name
        if isinstance(mine, np.ndarray):
            assert (mine.dtype, mine.tobytes()) == (its.dtype, its.tobytes()), field.name
        else:
            assert mine == its, field.name


@pytest.fixture
def kept(tmp_path):
    return KeptProfiles(tmp_path / "profiles")


def find(kept):
    return kept.find(IDENTITY, "stage-1", 5)


@pytest.mark.parametrize("changes", [{}, {"operator_kinds": None, "allocator_bytes": None}, {"batch_size": 3, "micro_batch_sizes": (3,)}, LATER])  # fmt: skip
def test_what_is_found_is_what_was_kept_to_the_byte(kept, changes):
    profile = made(**changes)
    kept.keep(IDENTITY, profile)
    assert_equal(kept.find(IDENTITY, "stage-1", profile.batch_size), profile)
    assert [path.name for path in kept.folder.iterdir()] == [f"{IDENTITY}.json"]


def test_whatever_a_profile_says_is_kept():
    """A new field that an entry does not hold would keep everything from being kept."""
    assert {field.name for field in dataclasses.fields(Profile)} == set(home._Entry.model_fields)
    assert {field.name for field in dataclasses.fields(MemoryBytes)} == set(home._Split.model_fields)


def test_nothing_is_found_where_nothing_is_kept(kept):
    assert find(kept) is None
    assert not kept.folder.exists()


def resealed(content, *path_and_value):
    """Return an entry with one value replaced and the checksum that goes with it."""
    *path, value = path_and_value
    entry = json.loads(content)
    place = entry["content"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    entry["sha256"] = files.checksum(entry["content"])
    return json.dumps(entry).encode()


DAMAGES = {
    "cut off": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "not text": lambda content: b"\xff" + content,
    "no object": lambda content: b"[]",
    "a key too many": lambda content: content.replace(b'{"identity"', b'{"more": 1, "identity"', 1),
    "another number": lambda content: content.replace(b'"parameters": 7', b'"parameters": 8'),
    "another's": lambda content: content.replace(b"abab", b"cdcd"),
    "deep": lambda content: b"[" * 100_000,
    "negative": lambda content: resealed(content, "parameters", -1),
    "a fraction": lambda content: resealed(content, "bytes_up", 1.5),
    "a text": lambda content: resealed(content, "memory", "gradients", "2"),
    "true for one": lambda content: resealed(content, "memory", "gradients", True),
    "too large": lambda content: resealed(content, "operator_flops", 0, 1e300),
    "not a number": lambda content: resealed(content, "operator_flops", 0, float("nan")),
    "a column too short": lambda content: resealed(content, "operator_bytes", [1.0]),
    "no kind": lambda content: resealed(content, "operator_kinds", 0, 5),
    "another batch": lambda content: resealed(content, "micro_batch_sizes", [3, 3]),
    "another submodel": lambda content: resealed(content, "submodel", "stage-2"),
    "half of a later step": lambda content: resealed(content, "later_operator_flops", [1.0]),
    "half of its parts": lambda content: resealed(content, "part_peaks_bytes", [1]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_dropped_in_silence_and_can_be_kept_again(kept, damage, capfd):
    kept.keep(IDENTITY, made())
    (path,) = kept.folder.iterdir()
    content = path.read_bytes()
    assert DAMAGES[damage](content) != content
    path.write_bytes(DAMAGES[damage](content))
    assert find(kept) is None
    assert not path.exists()
    kept.keep(IDENTITY, made())
    assert_equal(find(kept), made())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("place", [lambda path: path.mkdir(), lambda path: os.mkfifo(path), lambda path: path.symlink_to("/dev/zero")])  # fmt: skip
def test_what_is_no_regular_file_is_not_read(kept, place):
    kept.folder.mkdir(parents=True)
    place(kept.folder / f"{IDENTITY}.json")
    assert find(kept) is None
    kept.keep(IDENTITY, made())


def test_an_entry_that_is_too_large_is_not_read(kept, monkeypatch):
    kept.keep(IDENTITY, made())
    monkeypatch.setattr(files, "MOST_ENTRY_BYTES", 100)
    assert find(kept) is None


@pytest.mark.parametrize("changes", [{"parameters": 2**62}, {"bytes_up": -1}, {"operator_flops": np.array([-1.0, 0, 0])},
                                     {"operator_flops": np.array([1, 2, 3], dtype=np.float32)}])  # fmt: skip
def test_what_would_not_be_believed_is_not_kept(kept, changes):
    kept.keep(IDENTITY, made(**changes))
    assert not kept.folder.exists()


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    blocked = KeptProfiles(tmp_path / "file" / "profiles")
    blocked.keep(IDENTITY, made())
    assert (find(blocked), blocked.contents().entries, blocked.clear().entries) == (None, 0, 0)


def test_a_write_that_fails_leaves_nothing_behind(kept, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    kept.keep(IDENTITY, made())
    assert list(kept.folder.iterdir()) == []


def test_what_was_used_longest_ago_makes_room(kept, monkeypatch):
    monkeypatch.setattr(files, "MOST_ENTRIES", 4)
    names = [f"{number:064x}" for number in range(5)]
    for number, name in enumerate(names[:4]):
        kept.keep(name, made())
        os.utime(kept.folder / f"{name}.json", (1000 + number,) * 2)
    assert kept.find(names[0], "stage-1", 5) is not None
    kept.keep(names[4], made())
    assert sorted(path.stem for path in kept.folder.iterdir()) == [names[0], names[3], names[4]]


def test_bytes_are_bounded_as_well(kept, monkeypatch):
    kept.keep("a", made())
    monkeypatch.setattr(files, "MOST_BYTES", int(1.5 * kept.contents().num_bytes))
    kept.keep("b", made())
    assert kept.contents().entries == 1


def test_what_killed_processes_left_is_removed(kept):
    kept.keep("a", made())
    for name, age in (("old.part", 10_000), ("new.part", 0)):
        path = kept.folder / name
        path.touch()
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    kept.keep("b", made())
    assert sorted(path.name for path in kept.folder.iterdir()) == ["a.json", "b.json", "new.part"]


def test_clearing_drops_everything_of_its_own_and_tells_how_much(kept):
    kept.keep("a", made())
    kept.keep("b", made())
    (kept.folder / "notes.txt").touch()
    before = kept.contents()
    assert (kept.clear(), before.entries) == (before, 2)
    assert [path.name for path in kept.folder.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"NEULITE_SIM_CACHE": "/kept"}, "/kept"),
        ({"XDG_CACHE_HOME": "/caches"}, "/caches/neulite-sim/profiles"),
        ({"XDG_CACHE_HOME": "caches"}, "/home/somebody/.cache/neulite-sim/profiles"),
        ({}, "/home/somebody/.cache/neulite-sim/profiles"),
    ],
)
def test_the_folder_is_where_the_environment_says(monkeypatch, environment, folder):
    for name in ("NEULITE_SIM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/somebody", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(files.sys, "platform", "linux")
    assert str(kept_profiles().folder) == folder


@pytest.mark.parametrize("word", ["off", " OFF "])
def test_keeping_can_be_switched_off(monkeypatch, word):
    monkeypatch.setenv("NEULITE_SIM_CACHE", word)
    assert kept_profiles() is None
