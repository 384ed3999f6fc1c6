"""Pickles that are not trusted: plain values come out, anything else is refused and nothing of it runs."""

from __future__ import annotations

import codecs
import collections
import datetime
import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neulite_sim.errors import ScenarioError
from neulite_sim.traces.importers.plain_pickle import PickleRefusedError, plain_values
from neulite_sim.traces.importers.running import import_trace

PROTOCOLS = range(6)

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
keys = st.integers() | st.text() | st.tuples(st.integers(), st.text())
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner),
    max_leaves=20,
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, derandomize=True)
@given(value=values, protocol=st.sampled_from(PROTOCOLS))
def test_plain_values_come_back_as_they_were(value: Any, protocol: int) -> None:
    assert repr(plain_values(pickle.dumps(value, protocol))) == repr(value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_and_long_values_come_back(protocol: int) -> None:
    shared = list(range(5000))
    value = {"a": shared, "b": shared, "c": 2**2000, "d": "ü" * 70_000, "e": {n: float(n) for n in range(3000)}}
    assert plain_values(pickle.dumps(value, protocol)) == value


def test_text_of_python_2_is_read() -> None:
    assert plain_values(b"(dp0\nS'active'\np1\n(lp2\nI1\naL5L\nas.") == {"active": [1, 5]}
    assert plain_values(b"\x80\x02}U\x06activeq\x01K\x07s.") == {"active": 7}


class Calls:
    """Becomes a call of `function` with `arguments` when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduction = function, arguments

    def __reduce__(self) -> Any:
        return self.reduction


class WithState:
    def __init__(self) -> None:
        self.canary = "canary"


CANARY = "canary"
HOSTILE = {
    "system": (lambda: Calls(os.system, f"touch {CANARY}"), f"{os.system.__module__}.system"),
    "eval": (lambda: Calls(eval, f"open({CANARY!r}, 'w')"), r"builtin.*\.eval"),
    "exec": (lambda: Calls(exec, f"open({CANARY!r}, 'w')"), r"builtin.*\.exec"),
    "open": (lambda: Calls(open, CANARY, "w"), "open"),
    "codecs": (lambda: Calls(codecs.encode, "x", "rot13"), "encode"),
    "nested": (
        lambda: {"deep": [(1, {"deeper": Calls(os.system, f"touch {CANARY}")})]},
        f"{os.system.__module__}.system",
    ),
    "key": (lambda: {Calls(os.mkdir, CANARY): 1}, f"{os.mkdir.__module__}.mkdir"),
    "object": (WithState, "WithState|_reconstructor"),
    "ordered": (collections.OrderedDict, "OrderedDict"),
    "date": (lambda: datetime.date(2020, 1, 1), "datetime.date"),
    "class": (lambda: Path, "Path"),
    "numpy": (lambda: {1: np.float64(2.5)}, "numpy"),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", HOSTILE)
def test_what_asks_for_more_is_refused_by_the_name_of_it_and_does_not_run(name: str, protocol: int) -> None:
    make, asked = HOSTILE[name]
    data = pickle.dumps(make(), protocol)
    with pytest.raises(
        PickleRefusedError, match=rf"asks for .*({asked}).* at byte \d+; only numbers.*nothing of it was"
    ):
        plain_values(data)
    assert not Path(CANARY).exists()


def test_the_hostile_pickles_would_have_run_in_an_unpickler() -> None:
    pickle.loads(pickle.dumps(HOSTILE["system"][0]()))
    assert Path(CANARY).exists()


# Written by hand, as an attacker would: what the standard pickler never writes.
BY_HAND = {
    "a global of protocol 0": (b"cos\nsystem\n(S'touch canary'\ntR.", "asks for os.system at byte 0"),
    "an instance": (b"(S'touch canary'\nios\nsystem\n.", "asks for os.system at byte 17"),
    "an object": (b"(cos\nsystem\nS'touch canary'\no.", "asks for os.system at byte 1"),
    "a name from the memo": (
        b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940" + b"h\x00h\x01\x93\x8c\x0ctouch canary\x85R.",
        "asks for os.system",
    ),
    "a global without a name": (b"\x80\x04]]\x93.", "asks for a global at byte 4"),
    "a call of a string": (b"\x80\x04\x8c\x06system)R.", r"holds more than plain values \(instruction REDUCE\)"),
    "a state": (b"}}b.", r"instruction BUILD"),
    "a new object": (b"\x80\x02))\x81.", "instruction NEWOBJ"),
    "an extension": (b"\x80\x02\x82\x01.", "instruction EXT1"),
    "a persistent id": (b"Pcanary\n.", "instruction PERSID"),
    "bytes": (b"C\x01x.", "instruction SHORT_BINBYTES"),
    "a set": (b"\x80\x04\x8f.", "instruction EMPTY_SET"),
    "a buffer": (b"\x80\x05\x97.", "instruction NEXT_BUFFER"),
    "a protocol of the future": (b"\x80\xff}.", "is a pickle of protocol 255; protocols 0 to 5 exist"),
    "a place in the memo that would take 32 GiB": (
        b"}r\xff\xff\xff\xffj\xff\xff\xff\xfej\x00\x00\x00\x00.",
        "broken at",
    ),
    "a text longer than the file": (b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.", "is not a whole pickle"),
    "a number longer than the file": (b"\x80\x02\x8b\xff\xff\xff\x7f.", "is not a whole pickle"),
    "a number of more digits than Python reads": (b"L" + b"9" * 5000 + b"L\n.", "is not a whole pickle"),
    "an unknown place in the memo": (b"h\x07.", "is not a whole pickle: broken at byte 2 of 3"),
    "a mark alone": (b"(.", "is not a whole pickle"),
    "a mark in the memo": (b"(q\x00h\x00.", "is not a whole pickle"),
    "a mark as a value": (b"}K\x01(s.", "is not a whole pickle"),
    "two values": (b"}}.", "is not a whole pickle"),
    "nothing": (b"", "broken at byte 0 of 0"),
    "a list as a key": (b"}]K\x01s.", "is not a whole pickle"),
    "an item of a number": (b"K\x01K\x02a.", "is not a whole pickle"),
    "a key without a value": (b"}(K\x01u.", "is not a whole pickle"),
    "a string that is code": (b"S__import__('os').system('touch canary')\n.", "is not a whole pickle"),
    "text": (b"device,start_s,end_s\n", "is not a|holds more than plain"),
    "binary": (bytes(range(255, 0, -1)), "is not a pickle: byte 0xff at byte 0 is no instruction"),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_tricks_are_refused_and_run_nothing(name: str) -> None:
    data, message = BY_HAND[name]
    with pytest.raises(PickleRefusedError, match=message):
        plain_values(data)
    assert not Path(CANARY).exists()


def test_a_pickle_that_claims_a_far_place_of_the_memo_is_read_in_the_memory_it_has() -> None:
    assert plain_values(b"}r\xff\xff\xff\xff0j\xff\xff\xff\xff.") == {}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_cut_anywhere_is_refused(protocol: int) -> None:
    data = pickle.dumps({1: {"active": [1, 2.5, "x"], "finish_time": 10}}, protocol)
    for end in range(len(data)):
        with pytest.raises(PickleRefusedError, match=r"is not a whole pickle"):
            plain_values(data[:end])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.binary(max_size=200), prefix=st.sampled_from([b"", b"\x80\x04", b"\x80\x02}(", b"(l"]))
def test_garbage_is_refused_or_plain_and_never_anything_else(data: bytes, prefix: bytes) -> None:
    try:
        plain_values(prefix + data)
    except PickleRefusedError:
        return


def test_no_unpickler_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("an unpickler was made")

    data = pickle.dumps({1: [1]})
    for name in ("Unpickler", "_Unpickler", "loads", "load"):
        monkeypatch.setattr(pickle, name, fail)
    assert plain_values(data) == {1: [1]}


@pytest.mark.parametrize("format_name", ["fedscale-capacity", "fedscale-availability"])
def test_an_import_of_a_hostile_pickle_names_the_file_and_writes_nothing(format_name: str) -> None:
    buffer = io.BytesIO()
    pickle.dump({1: {"computation": Calls(os.system, f"touch {CANARY}"), "communication": 1.0}}, buffer)
    Path("evil.pkl").write_bytes(buffer.getvalue())
    with pytest.raises(ScenarioError, match=rf"^evil\.pkl: asks for {os.system.__module__}\.system at byte"):
        import_trace(format_name, [Path("evil.pkl")])
    assert [path.name for path in Path().iterdir()] == ["evil.pkl"]
