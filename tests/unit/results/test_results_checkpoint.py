"""Checkpoints: written whole or not at all, and read back as they were, without any pickle."""

import datetime
import enum
import json
from collections import Counter, OrderedDict
from dataclasses import dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored_runs import resealed

from neulite_sim.errors import DataNotFoundError, OutputError, Problem, SimulationError
from neulite_sim.methods.contract import State
from neulite_sim.methods.state_files import Packing, unpack
from neulite_sim.results import checkpoint as module
from neulite_sim.results.checkpoint import Saved, find_checkpoint, read_checkpoint
from neulite_sim.results.journal import Mark

PACKAGES = frozenset({"neulite_sim", __name__.partition(".")[0]})


MARKS = {"updates": Mark(length=10, check="ab" * 16)}


def write_checkpoint(folder, saved, journal):
    module.write_checkpoint(folder, saved, journal, packages=PACKAGES)


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
    write_checkpoint(tmp_path, _saved(extra=extra), MARKS)
    found = find_checkpoint(tmp_path)
    assert (found.round, found.journal) == (3, MARKS)
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
    resealed(tmp_path / "round-00000003" / "manifest.json", schema_version=99)
    with pytest.raises(DataNotFoundError, match="is of schema version 99, this neulite-sim reads 2; resume with"):
        find_checkpoint(tmp_path)


def test_a_checkpoint_of_an_older_version_without_checksums_is_refused(tmp_path):
    write_checkpoint(tmp_path, _saved(), {})
    (tmp_path / "round-00000003" / "manifest.json").unlink()
    with pytest.raises(
        DataNotFoundError, match=r"has no manifest.json; it was made by an older version, without check"
    ):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize("file", ["state.json", "tensors.safetensors", "manifest.json"])
@given(seed=st.integers(0, 2**32))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_flipped_bit_of_a_checkpoint_is_refused_or_changes_nothing(tmp_path, file, seed):
    write_checkpoint(tmp_path, _saved(extra=Memory(names=("x",), weights=torch.arange(3.0))), MARKS)
    whole = find_checkpoint(tmp_path)
    path = whole.path / file
    content = bytearray(path.read_bytes())
    content[seed % len(content)] ^= 1 << (seed >> 24) % 8
    path.write_bytes(content)
    try:
        found = find_checkpoint(tmp_path)
    except DataNotFoundError as refused:
        assert str(path) in str(refused)  # noqa: PT017
        assert str(refused).endswith("the run cannot be resumed")  # noqa: PT017
        return
    assert file == "manifest.json", "only spaces of the manifest may change"
    assert found == whole


@pytest.mark.parametrize("file", ["state.json", "tensors.safetensors", "manifest.json"])
def test_a_lost_file_of_a_checkpoint_is_told(tmp_path, file):
    write_checkpoint(tmp_path, _saved(), {})
    (tmp_path / "round-00000003" / file).unlink()
    with pytest.raises(DataNotFoundError, match=r"the run cannot be resumed$"):
        find_checkpoint(tmp_path)


def test_a_file_that_changes_after_the_checkpoint_was_found_is_refused(tmp_path):
    write_checkpoint(tmp_path, _saved(), {})
    found = find_checkpoint(tmp_path)
    (found.path / "tensors.safetensors").write_bytes(b"other")
    with pytest.raises(DataNotFoundError, match=r"tensors.safetensors: is not as it was written; it was changed"):
        read_checkpoint(found, packages=PACKAGES)


def test_the_checkpoint_of_another_round_under_this_name_is_refused(tmp_path):
    write_checkpoint(tmp_path, _saved(), {})
    (tmp_path / "round-00000003").rename(tmp_path / "round-00000007")
    with pytest.raises(DataNotFoundError, match="round-00000007: holds the checkpoint of round 3; it was changed"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize("path", ["os:system", "builtins:eval", "neulite_sim.seeding:stream", "subprocess:Popen"])
def test_no_class_but_a_dataclass_of_the_project_or_the_method_is_made(path):
    packed = {"class": path, "fields": {}}
    with pytest.raises(DataNotFoundError, match=f"names the class '{path}', which is no part of a method's state"):
        unpack(packed, {}, packages=PACKAGES)


class Tally(Counter):
    """A class of this package that is no dataclass."""


class Level(enum.IntEnum):
    LOW = 1


class Pair(NamedTuple):
    left: int


@dataclass
class Derived:
    given: int
    made: int = field(init=False, default=0)


@dataclass(frozen=True)
class Picky:
    value: float

    def __post_init__(self):
        if isinstance(self.value, float) and self.value == 0.25:
            raise ValueError("a quarter is too much")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            torch.Generator(),
            r"the state.x\[1\] is torch._C.Generator, which a checkpoint cannot keep; a state holds plain",
        ),
        (Fraction(1, 2), r"the state.x\[1\] is fractions.Fraction, which"),
        (datetime.timedelta(1), r"the state.x\[1\] is datetime.timedelta, which"),
        (
            Problem(key="", message=""),
            r"the state.x\[1\] is neulite_sim.errors.Problem, which .* dataclasses of other only",
        ),
        ({"deep": (1, [Fraction(1)])}, r"the state.x\[1\]\['deep'\]\[1\]\[0\] is fractions.Fraction"),
        (Tally(), r"is test_results_checkpoint.Tally"),
        (Level.LOW, r"is test_results_checkpoint.Level"),
        (Pair(1), r"is test_results_checkpoint.Pair"),
        (Derived(1), r"is test_results_checkpoint.Derived, .* fields can all be given \(not made\)"),
        ({1, 2}, r"is builtins.set"),
        (frozenset({1, "a"}), r"is a set without an order"),
        (np.array(["text"]), r"is ndarray of <U4"),
        (np.datetime64("2026-01-01"), r"is datetime64 of datetime64\[D\]"),
        (torch.eye(2).to_sparse(), r"a tensor of layout torch.sparse_coo"),
        (object, r"is builtins.type"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_what_could_not_be_read_back_is_refused_when_it_is_packed(value, said):
    packages = frozenset({"other"}) if isinstance(value, Problem) else PACKAGES
    with pytest.raises(SimulationError, match=said):
        Packing(packages)._packed((0, value), "the state.x")


def test_a_value_that_its_class_does_not_take_again_is_refused_when_it_is_packed():
    picky = Picky(0.5)
    object.__setattr__(picky, "value", 0.25)
    with pytest.raises(
        SimulationError, match="the state could not be read back from a checkpoint: a quarter is too much"
    ):
        Packing(PACKAGES).pack(picky, "the state")


def test_a_state_of_a_foreign_class_leaves_no_checkpoint_and_keeps_the_one_before(tmp_path):
    write_checkpoint(tmp_path, _saved(1), {})
    with pytest.raises(SimulationError, match=r"the method's state.extra is fractions.Fraction, which a checkpoint"):
        write_checkpoint(tmp_path, _saved(2, extra=Fraction(1)), {})
    assert find_checkpoint(tmp_path).round == 1


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([np.float32(0.1), np.int64(3), np.bool_(True), np.float64(0.1)])
    | st.sampled_from([np.arange(6).reshape(2, 3)[:, ::-1], np.array(2.5), np.zeros((0, 2), np.int16)])
    | st.sampled_from([torch.ones(2, 1), torch.tensor(1, dtype=torch.int8), torch.zeros(0)]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.integers() | st.text(), inner, max_size=3)
        | st.dictionaries(st.text(), inner, max_size=2).map(OrderedDict)
        | st.frozensets(st.integers(), max_size=3)
        | st.builds(Memory, names=inner, weights=st.just(torch.arange(2)), nested=inner)
    ),
    max_leaves=8,
)


def alike(one, other):
    if isinstance(one, OrderedDict):
        one = dict(one)
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray | np.generic):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(alike, one.values(), other.values()))
    if isinstance(one, Memory):
        return all(alike(getattr(one, item.name), getattr(other, item.name)) for item in fields(Memory))
    return one == other or one != one


@pytest.mark.slow
@given(VALUES)
@settings(max_examples=60, deadline=None)
def test_what_is_packed_comes_back_with_its_types_and_bits(value):
    packing = Packing(PACKAGES)
    packed = json.loads(json.dumps(packing.pack(value, "it")))
    assert alike(value, unpack(packed, packing.tensors, packages=PACKAGES))
