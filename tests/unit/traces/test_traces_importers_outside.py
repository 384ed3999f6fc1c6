"""Importers and what others write: units as they are spelt, names of any characters, files of any size and depth."""

from __future__ import annotations

import json
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from neulite_sim import registry
from neulite_sim.cli import app
from neulite_sim.errors import NeuliteError, ScenarioError
from neulite_sim.traces.availability import read_trace
from neulite_sim.traces.importers import fedscale
from neulite_sim.traces.importers.flash_matrix import _same_time
from neulite_sim.traces.importers.plain_pickle import PickleRefusedError, plain_values
from neulite_sim.traces.importers.running import import_trace
from neulite_sim.traces.individuals import read_individuals
from neulite_sim.traces.throughput import read_throughput

LONE = "\ud800"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def imported(format_name: str, content: bytes | str, **settings: Any) -> dict[str, Any]:
    Path("foreign.dat").write_bytes(content.encode() if isinstance(content, str) else content)
    Path("own.csv").unlink(missing_ok=True)
    return import_trace(format_name, [Path("foreign.dat")], settings=settings, out=Path("own.csv"))


def rates(header: str) -> list[float]:
    imported("throughput-csv", f"t_s,{header}\n0,10\n1,20\n2,10\n")
    return read_throughput(Path("own.csv")).traces[0].rates.tolist()


BITS = {"bps": 1, "kbps": 1e3, "Kbps": 1e3, "Mbps": 1e6, "mbps": 1e6, "Gbps": 1e9, "gbps": 1e9, "Mbit/s": 1e6,
        "kbit/s": 1e3, "Mibit/s": 2**20, "Kibps": 2**10, "bits_per_second": 1, "MBps": 8e6, "kBps": 8e3, "KB/s": 8e3,
        "MB/s": 8e6, "MiB/s": 8 * 2**20, "KiB/s": 8 * 2**10, "GBps": 8e9, "B/s": 8, "bytes_per_second": 8}  # fmt: skip


@pytest.mark.parametrize("header", BITS)
def test_a_unit_is_read_as_it_is_spelt(header: str) -> None:
    assert rates(header) == [10 * BITS[header], 20 * BITS[header], 10 * BITS[header]]


@pytest.mark.parametrize("header", ["MBPS", "mBps", "Mb", "MB", "mibps", "megabit", "rate", "Mbpm", "kpbs", "mb/h"])
def test_a_unit_that_might_be_either_is_refused(header: str) -> None:
    with pytest.raises(ScenarioError, match=rf"foreign\.dat:1: its last column '{header}' names no unit; set unit to"):
        rates(header)


@pytest.mark.parametrize(
    ("header", "seconds"), [("t_s", 1), ("time", 1), ("time_ms", 1e-3), ("t (ms)", 1e-3), ("seconds", 1), ("t_min", 60)]
)
def test_times_are_in_the_unit_that_their_column_names(header: str, seconds: float) -> None:
    imported("throughput-csv", f"{header},Mbps\n0,10\n1000,20\n2000,10\n")
    assert read_throughput(Path("own.csv")).traces[0].at_s.tolist() == pytest.approx(np.arange(4) * 1000 * seconds)


def test_times_in_another_unit_are_refused() -> None:
    with pytest.raises(ScenarioError, match=r"dat:1: its time column 't_days' is in days; write seconds, as t_s"):
        imported("throughput-csv", "t_days,Mbps\n0,10\n1,20\n")


def test_memory_is_in_the_unit_that_its_column_names() -> None:
    for column, factor in (("ram_bytes", 1), ("ram_gb", 1e9), ("RAM (GiB)", 2**30), ("memory", 1)):
        imported("ai-benchmark", f"model,{column},CPU_F_AI_Score\nA,400,1\nB,800,2\n", memory=column)
        assert read_individuals(Path("own.csv")).columns["memory_bytes"].tolist() == [400 * factor, 800 * factor]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model,ram_bytes,CPU_F_AI_Score\nA,1,1,5\n", r"dat:2: has 4 columns where the header has 3"),
        ("model,ram_bytes,ram_bytes,CPU_F_AI_Score\nA,1,2,1\n", r"dat:1: has more than one column 'ram_bytes'"),
        ("model,ram_bytes,CPU_F_AI_Score\nA,-5,1\n", r"dat:2: ram_bytes '-5' is not a number from 0 to 1\.15e\+18;"),
        ("model,ram_bytes,CPU_F_AI_Score\nA,8 GB,1\n", r"dat:2: ram_bytes '8 GB' is not a number .*leave it empty"),
        (
            "model,ram_bytes,CPU_F_AI_Score\nA,1,1\nB,1,1e-15\nC,1,1\n",
            r"dat: .*gives a table that is wrong at its line",
        ),
    ],
)
def test_a_phone_that_is_no_line_is_refused(content: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        imported("ai-benchmark", content)
    assert not Path("own.csv").exists()


def test_phones_without_numbers_are_counted_and_not_invented() -> None:
    report = imported("ai-benchmark", "model,ram_bytes,CPU_F_AI_Score\nA,8,1\nB,,1\nC,-,1\nD,N/A,1\nE,8,0\n")
    assert report["left_out"] == 4
    assert "4 phones left out: no memory or no speed" in report["notes"]


def test_a_matrix_without_a_header_loses_no_device() -> None:
    with pytest.raises(ScenarioError, match=r"dat:1: has no header but 'a,0110'; write device,slots above"):
        imported("flash-matrix", "a,0110\nb,1100\n", slot=43_200)


# Names.


def window(**entry: Any) -> dict[str, Any]:
    return {"active": [0], "inactive": [5], "finish_time": 10, **entry}


NAMED = {
    "fedscale-availability": lambda *names: pickle.dumps({name: window() for name in names}),
    "fedscale-capacity": lambda *names: pickle.dumps({name: [10.0, 50.0] for name in names}),
    "flash-states": lambda *names: json.dumps(
        {
            str(name): {"messages": "2020-01-02 00:00:00\twifi\n2020-01-02 01:00:00\twifi"} for name in names
        }
    ),
    "flash-matrix": lambda *names: "device,slots\n" + "".join(f'"{name}",01\n' for name in names),
    "throughput-csv": lambda *names: "".join(f'"{name}",{at_s},5\n' for name in names for at_s in (0, 1)),
}  # fmt: skip
SETTINGS = {"flash-states": {"ready": ["wifi"]}, "flash-matrix": {"slot": 43_200}}


def labels(format_name: str) -> list[str]:
    own = Path("own.csv")
    if format_name == "fedscale-capacity":
        return list(read_individuals(own).models)
    return list(read_throughput(own).labels if format_name == "throughput-csv" else read_trace(own).labels)


@pytest.mark.parametrize("format_name", NAMED)
@pytest.mark.parametrize("name", ["a\nb", '"', "a,b", "ü", "a\u2028b", "x" * 200, "a\x0bb", "#1"])
def test_names_of_any_characters_come_back(format_name: str, name: str) -> None:
    quoted = (
        name.replace('"', '""') if NAMED[format_name]("q").__class__ is str and format_name != "flash-states" else name
    )
    imported(format_name, NAMED[format_name](quoted, "z"), **SETTINGS.get(format_name, {}))
    assert labels(format_name) == [name, "z"]


@pytest.mark.parametrize("format_name", ["fedscale-availability", "fedscale-capacity", "flash-states"])
def test_characters_of_no_encoding_are_written_as_escapes(format_name: str) -> None:
    Path("foreign.dat").write_bytes(
        found.encode() if isinstance(found := NAMED[format_name](f"a{LONE}", "b"), str) else found
    )
    settings = ["--set", "ready=[wifi]"] if format_name == "flash-states" else []
    told = CliRunner().invoke(app, ["traces", "import", format_name, "foreign.dat", "--out", "own.csv", *settings])
    assert (told.exit_code, told.stderr) == (0, "")
    assert labels(format_name) == [r"a\ud800", "b"]


@pytest.mark.parametrize("format_name", ["fedscale-availability", "fedscale-capacity", "flash-states"])
@pytest.mark.parametrize("names", [("a", " a "), (r"\ud800", LONE), ("1", "1 ")])
def test_names_that_become_one_are_refused(format_name: str, names: tuple[str, ...]) -> None:
    with pytest.raises(ScenarioError, match=r"dat: has two entries called '.*'; rename one"):
        imported(format_name, NAMED[format_name](*names), **SETTINGS.get(format_name, {}))


def test_a_number_and_its_text_are_two_names_of_one_device() -> None:
    with pytest.raises(ScenarioError, match="has two entries called '1'"):
        imported("fedscale-availability", NAMED["fedscale-availability"](1, "1"))


@pytest.mark.parametrize("format_name", NAMED)
@pytest.mark.parametrize(("name", "message"), [("", "a name is empty"), ("y" * 201, "more than 200 characters")])
def test_names_that_are_none_are_refused(format_name: str, name: str, message: str) -> None:
    with pytest.raises(NeuliteError, match=rf"{message}|is not a device and its slots"):
        imported(format_name, NAMED[format_name](name), **SETTINGS.get(format_name, {}))


@pytest.mark.parametrize("name", [1.5, True, None, (1, 2)])
def test_a_name_is_a_text_or_a_number(name: object) -> None:
    with pytest.raises(ScenarioError, match="a name must be a text or a whole number, found a"):
        imported("fedscale-capacity", NAMED["fedscale-capacity"](name))
    with pytest.raises(ScenarioError, match="more than 200 characters"):
        imported("fedscale-capacity", NAMED["fedscale-capacity"](10**4000))


# Files that are small and ask for much.


def laughs(depth: int) -> bytes:
    """A tuple of two tuples of two tuples...: 2^depth of them in a few bytes each."""
    return b"\x80\x04)" + b"2\x86" * depth


def test_keys_that_would_take_for_ever_to_hash_are_refused() -> None:
    started = time.perf_counter()
    for ending in (b"}" + laughs(60)[2:] + b"K\x01s.", b"(" + laughs(60)[2:] + b"K\x01d."):
        with pytest.raises(PickleRefusedError, match="is not a whole pickle"):
            plain_values(b"\x80\x04" + ending)
    with pytest.raises(ScenarioError, match="none of its 1 client has two numbers"):
        imported("fedscale-capacity", b"\x80\x04}K\x01" + laughs(60)[2:] + b"s.")
    assert time.perf_counter() - started < 1


def test_one_list_named_a_thousand_times_is_not_read_a_million_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fedscale, "MOST_WINDOWS", 1000)
    shared = list(range(0, 200, 2)), list(range(1, 201, 2))
    clients = {client: window(active=shared[0], inactive=shared[1], finish_time=500) for client in range(20)}
    with pytest.raises(ScenarioError, match="holds more than 1,000 windows, the most that are read"):
        imported("fedscale-availability", pickle.dumps(clients))


@pytest.mark.parametrize("text", ["[" * 5000 + "]" * 5000, '{"a": ' * 5000 + "1" + "}" * 5000])
def test_json_of_any_depth_is_refused_in_words(text: str) -> None:
    with pytest.raises(ScenarioError, match="is not JSON of this format: it is nested too deeply"):
        imported("flash-states", text)


def test_a_device_that_stands_twice_is_refused() -> None:
    with pytest.raises(ScenarioError, match="the key 'a' stands twice in an object"):
        imported("flash-states", '{"a": {"messages": ""}, "a": {"messages": ""}}')


def test_fifty_thousand_slots_of_one_time_of_day_are_read_at_once() -> None:
    slots = "1" + "-" * 49_999 + "0"
    started = time.perf_counter()
    found = _same_time(slots, 1)
    assert time.perf_counter() - started < 1
    assert found == "1" * 25_001 + "0" * 25_000


def slowly(slots: str, per_day: int) -> str | None:
    """The same by looking at every day for every slot."""
    filled = []
    for place in range(len(slots)):
        days = [
            (abs(other - place), other) for other in range(place % per_day, len(slots), per_day) if slots[other] != "-"
        ]
        if not days:
            return None
        filled.append(slots[min(days)[1]])
    return "".join(filled)


@pytest.mark.parametrize("seed", range(40))
def test_the_nearest_known_day_is_found_as_by_looking_at_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    slots = "".join(rng.choice(["0", "1", "-"], int(rng.integers(1, 30)), p=[0.2, 0.2, 0.6]))
    per_day = int(rng.integers(1, 5))
    assert _same_time(slots, per_day) == slowly(slots, per_day)


@pytest.mark.parametrize("format_name", registry.names(registry.TRACE_FORMAT))
def test_no_format_waits_for_a_pipe(format_name: str) -> None:
    import os

    os.mkfifo("pipe")
    with pytest.raises(NeuliteError, match=r"pipe cannot be read \(is not a regular file\)"):
        import_trace(format_name, [Path("pipe")], out=Path("own.csv"))
