"""Checkpoints: written whole or not at all, and read back as they were, without any pickle."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from neulite_sim.errors import DataNotFoundError, OutputError
from neulite_sim.methods.contract import State
from neulite_sim.results import checkpoint as module
from neulite_sim.results.checkpoint import Saved, find_checkpoint, read_checkpoint, write_checkpoint
from neulite_sim.results.state_files import Packing, unpack

PACKAGES = frozenset({"neulite_sim", __name__.partition(".")[0]})


@dataclass(frozen=True)
class Memory:
    names: tuple[str, ...]
    weights: torch.Tensor
    nested: object = None


def _saved(number=3, *, version=None, extra=None, sent=None):
    tensors = {"a": torch.arange(4.0), "b": torch.tensor(2.5, dtype=torch.float64)}
    state = State(version=number if version is None else version, tensors=tensors, extra=extra)
    return Saved(round=number, wall_time_s=1.5, state=state, sent=sent or {})


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    extra = Memory(names=("x", "y"), weights=torch.tensor([1, 2]), nested={1: (None, True, frozenset({"b", "a"}))})
    write_checkpoint(tmp_path, _saved(extra=extra), {"updates": 10})
    found = find_checkpoint(tmp_path)
    assert (found.round, found.journal) == (3, {"updates": 10})
    saved = read_checkpoint(found, packages=PACKAGES)
    assert (saved.round, saved.wall_time_s, saved.state.version) == (3, 1.5, 3)
    assert list(saved.state.tensors) == ["a", "b"]
    assert torch.equal(saved.state.tensors["a"], torch.arange(4.0))
    assert saved.state.tensors["b"].dtype == torch.float64
    assert saved.state.extra.names == ("x", "y")
    assert torch.equal(saved.state.extra.weights, torch.tensor([1, 2]))
    assert saved.state.extra.nested == {1: (None, True, frozenset({"a", "b"}))}


def test_states_of_several_versions_share_what_did_not_change(tmp_path):
    newer = _saved(4)
    older = State(version=2, tensors={**newer.state.tensors, "b": torch.tensor(0.0)})
    write_checkpoint(tmp_path, Saved(round=4, wall_time_s=0.0, state=newer.state, sent={2: older}), {})
    saved = read_checkpoint(find_checkpoint(tmp_path), packages=PACKAGES)
    assert set(saved.sent) == {2}
    assert saved.sent[2].tensors["b"] == 0
    assert saved.sent[2].tensors["a"] is saved.state.tensors["a"]


def test_only_the_latest_is_kept(tmp_path):
    for number in (9, 10, 100):
        write_checkpoint(tmp_path, _saved(number), {})
    assert [path.name for path in tmp_path.iterdir()] == ["round-00000100"]


def test_without_a_checkpoint_there_is_none(tmp_path):
    assert find_checkpoint(tmp_path / "nowhere") is None


def test_a_full_disk_leaves_the_one_before(tmp_path, monkeypatch):
    write_checkpoint(tmp_path, _saved(1), {})

    def full(*_arguments, **_keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    message = "round-00000002: the checkpoint cannot be written: No space left on device; the one before, if any, stays"
    with pytest.raises(OutputError, match=message):
        write_checkpoint(tmp_path, _saved(2), {})
    assert [path.name for path in tmp_path.iterdir()] == ["round-00000001"]
    assert read_checkpoint(find_checkpoint(tmp_path), packages=PACKAGES).state.version == 1


def test_a_kill_before_the_rename_leaves_the_one_before(tmp_path, monkeypatch):
    write_checkpoint(tmp_path, _saved(1), {})

    class Killed(BaseException):
        pass

    def killed(*_arguments):
        raise Killed

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(Killed):
        write_checkpoint(tmp_path, _saved(2), {})
    monkeypatch.undo()
    assert find_checkpoint(tmp_path).round == 1
    write_checkpoint(tmp_path, _saved(2), {})
    assert find_checkpoint(tmp_path).round == 2


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    write_checkpoint(tmp_path, _saved(), {})
    path = tmp_path / "round-00000003" / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    with pytest.raises(DataNotFoundError, match="is of schema version 99, this neulite-sim reads 1; resume with"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize("file", ["state.json", "tensors.safetensors"])
def test_a_damaged_checkpoint_is_refused(tmp_path, file):
    write_checkpoint(tmp_path, _saved(), {})
    (tmp_path / "round-00000003" / file).write_bytes(b"\x00 garbage")
    with pytest.raises(DataNotFoundError, match=f"{file}: cannot be read: .*; the run cannot be resumed"):
        read_checkpoint(find_checkpoint(tmp_path), packages=PACKAGES)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"round": None}, "TypeError"),
        ({"journal": [1]}, "AttributeError"),
        ({"journal": {"updates": "many"}}, "ValueError: invalid literal"),
        ({"wall_time_s": "long"}, "ValueError"),
        ({"state": {"tensor": "t99"}}, "KeyError: 't99'"),
        ({"state": {"map": [1]}}, "TypeError"),
    ],
)
def test_a_checkpoint_that_is_json_but_none_that_was_written_is_refused(tmp_path, changes, said):
    write_checkpoint(tmp_path, _saved(), {})
    path = tmp_path / "round-00000003" / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(
        DataNotFoundError, match=rf"state.json: is no checkpoint \({said}.*; it was changed, and the run cannot be"
    ):
        read_checkpoint(find_checkpoint(tmp_path), packages=PACKAGES)


@pytest.mark.parametrize("content", ["[]", '"text"', "3"])
def test_a_checkpoint_that_is_no_mapping_is_refused(tmp_path, content):
    write_checkpoint(tmp_path, _saved(), {})
    (tmp_path / "round-00000003" / "state.json").write_text(content)
    with pytest.raises(DataNotFoundError, match=r"state.json: is no checkpoint; it was changed, and the run cannot be"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize("path", ["os:system", "builtins:eval", "neulite_sim.seeding:stream", "subprocess:Popen"])
def test_no_class_but_a_dataclass_of_the_project_or_the_method_is_made(path):
    packed = {"class": path, "fields": {}}
    with pytest.raises(DataNotFoundError, match=f"names the class '{path}', which is no part of a method's state"):
        unpack(packed, {}, packages=PACKAGES)


def test_what_is_no_value_is_refused_when_written():
    with pytest.raises(TypeError, match="a state holds Generator, which a checkpoint cannot keep"):
        Packing().pack(torch.Generator())


def test_arrays_and_numpy_numbers_are_kept():
    packing = Packing()
    packed = packing.pack((np.arange(3), np.float64(0.1), [1, "a"]))
    array, number, items = unpack(json.loads(json.dumps(packed)), packing.tensors, packages=PACKAGES)
    assert array.tolist() == [0, 1, 2]
    assert (number, items) == (0.1, [1, "a"])
