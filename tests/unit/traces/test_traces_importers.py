"""Importers: a foreign file is generated, imported and looked up; what is wrong in it is refused by its place."""

from __future__ import annotations

import csv
import gzip
import json
import pickle
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neulite_sim import registry
from neulite_sim.errors import DataNotFoundError, NeuliteError, OutputError, ScenarioError, UnknownComponentError
from neulite_sim.population.availability.contract import Availability
from neulite_sim.population.availability.kinds import TRACE
from neulite_sim.population.link.throughput import SteppedRate
from neulite_sim.seeding import stream
from neulite_sim.traces.importers import mahimahi
from neulite_sim.traces.importers.contract import Imported
from neulite_sim.traces.importers.running import SUMMARIES, import_trace
from neulite_sim.traces.individuals import read_individuals
from neulite_sim.traces.throughput import read_throughput

REAL = Path(__file__).parents[4] / "shared" / "data" / "traces"
FORMATS = registry.names(registry.TRACE_FORMAT)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def imported(format_name: str, content: bytes | str, *, name: str = "foreign.dat", **settings: Any) -> dict[str, Any]:
    data = content.encode() if isinstance(content, str) else content
    Path(name).write_bytes(data)
    Path("own.csv").unlink(missing_ok=True)
    return import_trace(format_name, [Path(name)], settings=settings, out=Path("own.csv"))


def fleet(num_devices: int) -> Availability:
    return TRACE.build(TRACE.options(path="own.csv"))(num_devices, 0)


def refusal(format_name: str, content: bytes | str, **settings: Any) -> str:
    with pytest.raises(NeuliteError) as caught:
        imported(format_name, content, **settings)
    assert not Path("own.csv").exists()
    return str(caught.value)


# FedScale.


def fedscale(clients: dict[Any, Any]) -> bytes:
    return pickle.dumps(clients)


def active(entry: dict[str, Any], at_s: float) -> bool:
    """Return what a FedScale trace says at a time, by looking at all its windows."""
    within_s = at_s % entry["finish_time"]
    return any(start <= within_s < end for start, end in zip(entry["active"], entry["inactive"], strict=False))


def random_clients(count: int) -> dict[int, Any]:
    rng = stream(5, "test")
    clients = {}
    for client in range(count):
        finish = int(rng.integers(500, 5000))
        edges = np.sort(rng.choice(finish, 2 * int(rng.integers(0, 8)), replace=False)).tolist()
        clients[client] = {"duration": 7, "finish_time": finish, "active": edges[::2], "inactive": edges[1::2],
                           "model": "CPH1901"}  # fmt: skip
    return clients


def test_fedscale_availability_answers_as_a_scan_of_its_windows_in_any_order() -> None:
    clients = random_clients(20)
    report = imported("fedscale-availability", fedscale(clients))
    assert report["devices"] == 20
    availability = fleet(20)
    for at_s in stream(6, "test").uniform(0, 3e5, 300):
        expected = [active(entry, at_s) for entry in clients.values()]
        assert availability.online(at_s).tolist() == expected


class Stateful:
    """A lookup that walks on by at most one window per question, as FedScale's does."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.entry, self.at = entry, 0

    def online(self, at_s: float) -> bool:
        within_s = at_s % self.entry["finish_time"]
        if within_s > self.entry["inactive"][self.at]:
            self.at += 1
        self.at %= len(self.entry["active"])
        return self.entry["active"][self.at] <= within_s <= self.entry["inactive"][self.at]


def test_the_lookup_that_walks_is_wrong_for_sparse_questions_and_ours_is_not() -> None:
    # The trace of FedScale's own unit test, whose first window has no length.
    entry = {"active": [1, 3, 6, 9], "inactive": [1, 4, 7, 10], "finish_time": 10}
    report = imported("fedscale-availability", fedscale({1: entry}))
    assert report["empty_windows"] == 1
    for at_s in (6, 9):
        assert not Stateful(entry).online(at_s)
        assert fleet(1).online(at_s)[0]
    rng = stream(8, "test")
    edges = np.sort(rng.choice(100_000, 40, replace=False)).tolist()
    long = {"active": edges[::2], "inactive": edges[1::2], "finish_time": 100_000}
    imported("fedscale-availability", fedscale({1: long}))
    walking, ours = Stateful(long), fleet(1)
    asked = np.cumsum(rng.exponential(20_000, 400))
    expected = [active(long, at_s) for at_s in asked]
    assert [bool(ours.online(at_s)[0]) for at_s in asked] == expected
    wrong = np.mean([walking.online(at_s) != truth for at_s, truth in zip(asked, expected, strict=True)])
    assert wrong > 0.2


def test_a_client_still_active_at_the_end_and_one_never_active_keep_their_meaning() -> None:
    clients = {"a": {"active": [0, 50], "inactive": [10], "finish_time": 60},
               "b": {"active": [], "inactive": [], "finish_time": 60}}  # fmt: skip
    report = imported("fedscale-availability", fedscale(clients))
    assert (report["devices"], report["never_online"]) == (2, 1)
    assert fleet(2).online(55).tolist() == [True, False]
    assert fleet(2).online_until_s(np.array([0]), 55)[0] == 70
    assert fleet(2).next_online_s(np.array([1]), 0)[0] == np.inf


def test_fedscale_capacity_keeps_speed_and_rate_of_a_client_together() -> None:
    clients = {n: {"computation": 10.0 * n, "communication": 1000.0 / n} for n in range(1, 6)}
    report = imported("fedscale-capacity", fedscale(clients))
    table = read_individuals(Path("own.csv"))
    assert table.models == ("1", "2", "3", "4", "5")
    assert report["reference_ms"] == 30
    assert table.columns["speed_factor"].tolist() == pytest.approx([30 / (10 * n) for n in range(1, 6)])
    assert table.columns["downlink_bits_per_second"].tolist() == pytest.approx([1e6 / n for n in range(1, 6)])
    assert np.array_equal(table.columns["uplink_bits_per_second"], table.columns["downlink_bits_per_second"])


def test_oorts_lists_a_given_reference_and_useless_clients() -> None:
    clients = {1: [153.0, 2209.61], 2: [0.0, 5.0], 3: [10, -1], 4: [float("nan"), 1.0], 5: [True, 1.0]}
    report = imported("fedscale-capacity", fedscale(clients), reference_ms=306)
    assert (report["devices"], report["left_out"]) == (1, 4)
    assert read_individuals(Path("own.csv")).columns["speed_factor"].tolist() == [2.0]
    assert "4 clients left out" in report["notes"][-1]


@pytest.mark.parametrize(
    ("clients", "message"),
    [
        ([1], "holds a list; FedScale's files hold a dict"),
        ({}, "holds an empty dict"),
        ({1: {"active": [1]}}, "client 1 has no active, inactive and finish_time"),
        ({1: {"active": [1], "inactive": [2], "finish_time": 0}}, "finish_time 0 is not a number of seconds from 1 up"),
        ({1: {"active": [1], "inactive": [2], "finish_time": "x"}}, "finish_time 'x' is not a number"),
        ({1: {"active": [1], "inactive": ["2"], "finish_time": 9}}, "active and inactive must be lists of numbers"),
        ({1: {"active": [1, 2, 3], "inactive": [2], "finish_time": 9}}, "3 times active but 1 times inactive"),
        ({1: {"active": [5], "inactive": [2], "finish_time": 9}}, "active at 5 until 2 runs backwards"),
    ],
)
def test_wrong_availability_of_fedscale_is_refused(clients: Any, message: str) -> None:
    assert message in refusal("fedscale-availability", fedscale(clients))


def test_wrong_capacity_of_fedscale_is_refused() -> None:
    assert "client 1 has no computation and communication" in refusal("fedscale-capacity", fedscale({1: {"x": 1}}))
    assert "none of its 1 client has two numbers above 0" in refusal("fedscale-capacity", fedscale({1: [0, 0]}))


# FLASH's states.

ORIGIN = datetime(2020, 1, 2)


def messages(*events: tuple[int, str]) -> str:
    return "\n".join(f"{ORIGIN + timedelta(seconds=at_s):%Y-%m-%d %H:%M:%S}\t{event}" for at_s, event in events)


def states(**devices: str) -> str:
    return json.dumps({name: {"guid": "x", "model": "CPH1901", "messages": text} for name, text in devices.items()})


READY = [(0, "screen_off"), (10, "screen_lock"), (20, "wifi"), (30, "battery_charged_on"), (35, "77.0%")]


def test_a_phone_is_online_while_locked_charging_and_on_wifi() -> None:
    imported("flash-states", states(a=messages(*READY, (60, "4G"), (70, "Wifi"), (80, "screen_unlock"), (100, "50%"))))
    online = [at_s for at_s in range(100) if fleet(1).online(at_s)[0]]
    assert online == [*range(30, 60), *range(70, 80)]
    # It repeats over its own span of 100 s.
    assert fleet(1).online(1035)[0]
    assert not fleet(1).online(1065)[0]


def test_the_ready_rule_is_an_option() -> None:
    text = states(a=messages((0, "wifi"), (10, "battery_charged_on"), (20, "screen_off"), (40, "screen_on"),
                             (50, "screen_lock"), (70, "screen_unlock"), (80, "1%")))  # fmt: skip
    rules = {
        ("charging", "wifi"): range(10, 80),
        ("screen_off or locked", "wifi", "charging"): [*range(20, 40), *range(50, 70)],
    }
    for ready, expected in rules.items():
        imported("flash-states", text, ready=list(ready))
        assert [at_s for at_s in range(80) if fleet(1).online(at_s)[0]] == list(expected)
    assert "'wify' is not a condition; did you mean 'wifi'?" in refusal("flash-states", text, ready=["wify"])


def test_a_trace_that_begins_late_keeps_its_time_of_day_and_wraps_around() -> None:
    # Recorded from 250 s to 350 s, ready from 290 s on: with a span of 100 s that is 90 to 100 and 0 to 50.
    events = [(at_s + 250, event) for at_s, event in READY] + [(350, "50%")]
    imported(
        "flash-states", states(a=messages(*[(at_s + 10, e) for at_s, e in events[:-1]], (350, "50%"), (250, "1%")))
    )
    online = [at_s for at_s in range(100) if fleet(1).online(at_s)[0]]
    assert online == [*range(50), *range(90, 100)]


def test_unreadable_devices_are_left_out_and_counted_and_never_ready_ones_stay() -> None:
    good = messages(*READY, (50, "1%"))
    text = json.loads(states(good=good, bad="nonsense", odd=messages((0, "warp")), short=messages((0, "wifi")),
                             never=messages((0, "wifi"), (9, "4G"))))  # fmt: skip
    text["lines"] = {"messages": good.split("\n")}
    text["none"] = {"messages": None}
    report = imported("flash-states", json.dumps(text))
    assert (report["devices"], report["left_out"], report["never_online"]) == (3, 4, 1)
    assert "the first: bad: 'nonsense' is not a time, a tab and an event" in report["notes"][2]
    # good and lines: 30 of 50 s until all is known; never: 9 of 9.
    assert report["unknown_share"] == pytest.approx((30 + 30 + 9) / 109)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", ":1: is not JSON: Expecting property name"),
        ("[1]", "holds no object with an entry per device"),
        (b"\xff\xfe{}", "is not UTF-8 text (byte 0xff at position 0)"),
        ("[" * 100_000, "nested too deeply"),
        (states(a=""), "none of its 1 device has a readable trace; a: its messages span less than a second"),
        (states(a=messages((0, "warp"))), "a: 'warp' is not a known event"),
        (states(a="2020-01-02 00:00+00\twifi"), "a: '2020-01-02 00:00+00\\twifi' is not a time, a tab and an event"),
    ],
)
def test_wrong_states_are_refused(content: str | bytes, message: str) -> None:
    assert message in refusal("flash-states", content)


def test_an_origin_with_a_time_zone_is_refused() -> None:
    assert "have no time zone" in refusal("flash-states", states(a=messages(*READY)), origin="2020-01-02T00:00:00Z")


# The matrix.


def matrix(**devices: str) -> str:
    return "device,slots\n" + "".join(f"{name},{slots}\n" for name, slots in devices.items())


HALF_DAYS = {"slot": 43_200}


def test_a_matrix_without_unknown_slots_is_looked_up_slot_by_slot() -> None:
    rng = stream(9, "test")
    slots = {f"d{n}": "".join(rng.choice(["0", "1"], 96)) for n in range(8)}
    imported("flash-matrix", matrix(**slots))
    availability = fleet(8)
    for at_s in rng.uniform(0, 1e7, 300):
        expected = [text[int(at_s // 1800) % 96] == "1" for text in slots.values()]
        assert availability.online(at_s).tolist() == expected


@pytest.mark.parametrize(
    ("unknown", "expected"),
    [
        ("offline", {"a": "1000", "b": "0010"}),
        ("online", {"a": "1101", "b": "1110"}),
        ("leave-out", None),
        ("same-time", {"a": "1010", "b": "1010"}),
    ],
)
def test_an_unknown_slot_becomes_what_the_option_says(unknown: str, expected: dict[str, str] | None) -> None:
    # Two slots a day: morning and evening of two days.
    content = matrix(a="1-0-" if unknown != "same-time" else "10--", b="--10")
    if expected is None:
        assert "all 2 devices left out with unknown=leave-out" in refusal(
            "flash-matrix", content, unknown=unknown, **HALF_DAYS
        )
        return
    report = imported("flash-matrix", content, unknown=unknown, **HALF_DAYS)
    assert report["unknown_share"] == 0.5
    for number, slots in enumerate(expected.values()):
        assert "".join("01"[int(fleet(2).online(k * 43_200)[number])] for k in range(4)) == slots


def test_unknown_is_not_offline_unless_that_is_asked_for() -> None:
    report = imported("flash-matrix", matrix(a="-1-1", b="1--0", c="----"), **HALF_DAYS)
    assert report["notes"][0] == "66.7% of the slots are unknown: same-time"
    # No morning of a is known, no slot of c: they are left out rather than taken for offline.
    assert (report["devices"], report["left_out"]) == (1, 2)
    assert [fleet(1).online(k * 43_200)[0] for k in range(4)] == [True, False, True, False]


def test_the_nearest_day_counts_and_the_earlier_of_two() -> None:
    imported("flash-matrix", matrix(a="1-0", b="0-1", c="--1", d="1--"), slot=86_400)
    days = [["01"[int(value)] for value in fleet(4).online(day * 86_400)] for day in range(3)]
    assert ["".join(day[number] for day in days) for number in range(4)] == ["110", "001", "111", "111"]


def test_slots_after_the_last_whole_day_are_cut_off_unless_they_are_kept() -> None:
    report = imported("flash-matrix", matrix(a="011"), **HALF_DAYS)
    assert report["notes"][1] == "the last 1 slot of 3 cut off, to repeat in whole days"
    assert [fleet(1).online(k * 43_200)[0] for k in range(4)] == [False, True, False, True]
    imported("flash-matrix", matrix(a="011"), whole_days=False, **HALF_DAYS)
    assert [fleet(1).online(k * 43_200)[0] for k in range(4)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (matrix(a="01x"), {}, ":2: has slots 'x'; a slot is 1 (online), 0 (offline) or - (unknown)"),
        (matrix(a="01", b="011"), {}, ":3: has 3 slots, the first device has 2"),
        ("device,slots\na,01\na,10\n", {}, ":3: is device 'a' again"),
        ("device,slots\na,01,1\n", {}, ":2: is not a device and its slots"),
        ("device,slots\n", {}, "holds no device"),
        (matrix(a="01"), {}, "its 2 slots of 1800 s are less than a day; set whole_days=false"),
        (matrix(a="01"), {"slot": 7}, "slot 7 s does not divide a day"),
        (b"\x00\x80\xff", {}, "is not UTF-8 text"),
    ],
)
def test_a_wrong_matrix_is_refused(content: str | bytes, settings: dict[str, Any], message: str) -> None:
    assert message in refusal("flash-matrix", content, **settings)


# Mahimahi.


def passed(packets: list[int], until_ms: int) -> int:
    """Return the bits of a packet trace up to the end of a millisecond, by counting its lines."""
    whole, rest = divmod(until_ms, packets[-1])
    return 12_000 * (whole * len(packets) + sum(ms <= rest for ms in packets if rest))


def test_every_packet_passes_in_its_millisecond() -> None:
    rng = stream(4, "test")
    packets = [*sorted(rng.choice(400, 300).tolist()), 450]
    report = imported("mahimahi", "\n".join(map(str, packets)) + "\n", name="lte.down")
    assert report["packets"] == 301
    rate = SteppedRate(steps=read_throughput(Path("own.csv")).traces[0])
    for until_ms in range(1, 1000):
        assert rate.bits(0, until_ms / 1000) == pytest.approx(passed(packets, until_ms))
    assert rate.mean_bits_per_second == pytest.approx(301 * 12_000 / 0.45)


def test_bins_keep_the_bits_and_the_length() -> None:
    packets = [3, 3, 9, 25, 27]
    imported("mahimahi", "\n".join(map(str, packets)), bin_ms=10)
    trace = read_throughput(Path("own.csv")).traces[0]
    assert trace.at_s.tolist() == [0, 0.01, 0.02, 0.027]
    assert trace.rates.tolist() == pytest.approx([3 * 12e3 / 0.01, 0, 2 * 12e3 / 0.007])


def test_a_steady_link_is_one_line() -> None:
    imported("mahimahi", "".join(f"{ms}\n" for ms in range(1, 1001)))
    assert read_throughput(Path("own.csv")).traces[0].rates.tolist() == [12e6]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\n2\nx\n", ":3: 'x' is not a whole number of milliseconds"),
        ("5\n4\n", ":2: 4 ms follows 5 ms; the lines of a packet trace ascend"),
        ("0\n0\n", "lasts no time"),
        ("", "lasts no time"),
        ("-1\n", ":1: '-1' is not a whole number"),
        ("9" * 5000, ":1: '9999999999"),
        (b"\x80\x04\x95", "is not UTF-8 text"),
    ],
)
def test_wrong_packet_lines_are_refused(content: str | bytes, message: str) -> None:
    assert message in refusal("mahimahi", content)


def test_several_files_become_several_traces() -> None:
    for name in ("a.down", "b.down"):
        Path(name).write_text("5\n10\n")
    report = import_trace("mahimahi", [Path("a.down"), Path("b.down")])
    assert (report["out"], report["traces"]) == ("a.throughput.csv", 2)
    assert read_throughput(Path("a.throughput.csv")).labels == ("a.down", "b.down")
    Path("sub").mkdir()
    Path("sub/a.down").write_text("5\n10\n")
    with pytest.raises(ScenarioError, match=r"sub/a\.down: has the name of a\.down"):
        import_trace("mahimahi", [Path("a.down"), Path("sub/a.down")], out=Path("x.csv"))
    with pytest.raises(ScenarioError, match="a matrix is imported one file at a time, found 2"):
        import_trace("flash-matrix", [Path("a.down"), Path("b.down")], out=Path("x.csv"))


# Throughput tables.


def test_a_rate_holds_until_the_next_line_and_the_last_as_long_as_the_median() -> None:
    imported("throughput-csv", "trace,t_s,mbps\na,0.5,4\na,1.5,0\na,4.5,2\nb,0,1\nb,2,3\n")
    first, second = read_throughput(Path("own.csv")).traces
    assert first.at_s.tolist() == [0, 1, 4, 6]
    assert first.rates.tolist() == [4e6, 0, 2e6]
    assert SteppedRate(steps=first).ends_s(0.5, 4e6) == 5
    assert second.at_s.tolist() == [0, 2, 4]


def test_how_long_the_last_rate_holds_is_an_option() -> None:
    imported("throughput-csv", "trace,t_s,mbps\na,0,4\n", last="1min")
    assert read_throughput(Path("own.csv")).traces[0].span_s == 60


def test_a_rate_may_have_been_measured_since_the_line_before() -> None:
    imported("throughput-csv", "trace,t_s,mbps\na,0,9\na,1,4\na,3,2\n", holds="since-last")
    trace = read_throughput(Path("own.csv")).traces[0]
    assert (trace.at_s.tolist(), trace.rates.tolist()) == ([0, 1, 3], [4e6, 2e6])
    assert "last acts only with holds until-next" in refusal("throughput-csv", "0 1\n1 1\n", holds="since-last", last=1)


def test_two_columns_with_and_without_a_header_are_one_trace_called_after_the_file() -> None:
    for content in ("0.5 4\n1.0 2\n", "0.5\t4\n\n1.0\t2\n", "0.5,4\n1.0,2\n", "time,mbps\n0.5,4\n1.0,2\n"):
        imported("throughput-csv", content, name="bus.log")
        found = read_throughput(Path("own.csv"))
        assert found.labels == ("bus.log",)
        assert found.traces[0].rates.tolist() == [4e6, 2e6]


@pytest.mark.parametrize(
    ("header", "settings", "factor"),
    [("kbps", {}, 1e3), ("bits_per_second", {}, 1), ("rate", {"unit": "Gbps"}, 1e9), ("mbps", {"unit": "kbps"}, 1e3)],
)
def test_the_unit_is_that_of_the_header_or_the_option(header: str, settings: dict[str, Any], factor: float) -> None:
    imported("throughput-csv", f"trace,t_s,{header}\na,0,2\na,1,2\n", **settings)
    assert read_throughput(Path("own.csv")).traces[0].rates.tolist() == [2 * factor] * 2


def test_traces_without_length_or_rate_are_left_out_and_counted() -> None:
    report = imported("throughput-csv", "trace,t_s,mbps\na,0,1\na,1,1\nb,0,1\nc,0,0\nc,1,0\n")
    assert (report["traces"], report["too_short"], report["without_rate"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("a,b,c,d\n", ":1: has 4 columns; expected trace,t_s,mbps"),
        (
            "trace,t_s,speed\na,0,1\n",
            ":1: its last column 'speed' names no unit; set unit to one of bps, kbps, Mbps, Gbps",
        ),
        ("trace,t_s,mbps\na,0\n", ":2: has 2 columns where the first line has 3"),
        ("trace,t_s,mbps\na,x,1\n", ":2: time 'x' is not a number of seconds from 0 up"),
        ("trace,t_s,mbps\na,0,-1\n", ":2: rate '-1' is not a number from 0 up"),
        ("trace,t_s,mbps\na,0,nan\n", ":2: rate 'nan' is not a number from 0 up"),
        ("trace,t_s,mbps\na,1,1\na,1,1\n", ":3: time 1 of 'a' is not after 1; times ascend"),
        ("trace,t_s,mbps\na,0,1\n", "holds no trace with two lines and a rate above 0"),
        (b"\x80\x80\x80", "is not UTF-8 text (byte 0x80 at position 0)"),
    ],
)
def test_a_wrong_table_of_throughput_is_refused(content: str | bytes, message: str) -> None:
    assert message in refusal("throughput-csv", content)


# AI-Benchmark.

PHONES = "model,ram_bytes,CPU_F_AI_Score,CPU_Q_AI_Score\nA,1e9,100,7\nB,2e9,200,8\nC,8e9,800,9\nD,,5,5\n"


def test_phones_keep_memory_and_speed_together() -> None:
    report = imported("ai-benchmark", PHONES)
    table = read_individuals(Path("own.csv"))
    assert table.columns["memory_bytes"].tolist() == [1e9, 2e9, 8e9]
    assert table.columns["speed_factor"].tolist() == [0.5, 1, 4]
    assert (report["reference_score"], report["left_out"]) == (200, 1)


def test_the_score_and_the_reference_are_options() -> None:
    imported("ai-benchmark", PHONES, speed="CPU_Q_AI_Score", reference="A")
    assert read_individuals(Path("own.csv")).columns["speed_factor"].tolist() == pytest.approx([1, 8 / 7, 9 / 7])


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (PHONES, {"speed": "CPU_F_AI"}, ":1: has no column 'CPU_F_AI'; did you mean 'CPU_F_AI_Score'"),
        (PHONES, {"reference": "Z"}, "reference 'Z' is none of its 3 phones"),
        ("model,ram_bytes,CPU_F_AI_Score\nA,0,0\n", {}, "none of its 1 phone has memory and speed above 0"),
        ("", {}, ":1: has no column 'model' (columns: none)"),
    ],
)
def test_a_wrong_table_of_phones_is_refused(content: str, settings: dict[str, Any], message: str) -> None:
    assert message in refusal("ai-benchmark", content, **settings)


# Every format.


@pytest.mark.parametrize("format_name", FORMATS)
def test_every_format_says_what_it_is_and_refuses_a_missing_cut_or_binary_file(format_name: str) -> None:
    found = registry.load(registry.TRACE_FORMAT, format_name)
    assert found.kind == format_name
    assert found.summary
    assert found.source
    with pytest.raises(DataNotFoundError, match=r"there is no file at .*gone"):
        import_trace(format_name, [Path("gone")])
    with pytest.raises(DataNotFoundError, match=r"cannot be read .*directory"):
        import_trace(format_name, [Path()], out=Path("x.csv"))
    cut = gzip.compress(b"device,slots\n" * 100)[:-9]
    Path("cut.gz").write_bytes(cut)
    with pytest.raises(DataNotFoundError, match="is not a whole gzip file"):
        import_trace(format_name, [Path("cut.gz")])
    for seed in range(20):
        garbage = stream(seed, "test").integers(128, 256, 200).astype(np.uint8).tobytes()
        assert refusal(format_name, garbage)


def test_the_formats_that_are_promised_are_there_and_a_package_may_bring_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(FORMATS) >= {"fedscale-capacity", "fedscale-availability", "flash-states", "flash-matrix", "mahimahi",
                            "throughput-csv", "ai-benchmark"}  # fmt: skip
    (folder / "ours.py").write_text(
        "from neulite_sim.traces.importers.contract import Imported, read_text\n"
        "from neulite_sim.registry import Component, Options\n"
        "def build(options):\n"
        "    return lambda paths: Imported(kind='devices', header=('model', 'speed_factor'),\n"
        "                                  rows=[(read_text(paths[0]).strip(), 2.5)])\n"
        "COMPONENT = Component(kind='ours', summary='one', source='here', options=Options, build=build)\n"
    )
    info = folder / "ours-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ours\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[neulite_sim.trace_importers]\nours = ours:COMPONENT\n")
    monkeypatch.syspath_prepend(folder)
    registry.forget_installed()
    try:
        assert "ours" in registry.names(registry.TRACE_FORMAT)
        assert imported("ours", "Phone\n")["devices"] == 1
        assert read_individuals(Path("own.csv")).columns["speed_factor"].tolist() == [2.5]
    finally:
        monkeypatch.undo()
        registry.forget_installed()


def test_a_table_that_cannot_be_read_back_is_not_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def overlapping(_options: Any, _paths: Any) -> Imported:
        return Imported(kind="availability", header=("device", "start_s", "end_s"), rows=[("a", 0, 2), ("a", 1, 3)])

    monkeypatch.setattr(mahimahi, "_read", overlapping)
    assert "device 'a': 1 to 3 overlaps 0 to 2 of line 4" in refusal("mahimahi", "1\n")


def test_unknown_formats_and_options_list_what_there_is() -> None:
    with pytest.raises(
        UnknownComponentError, match=r"'flash-state' is not a known trace format; did you mean 'flash-st"
    ):
        import_trace("flash-state", [Path("x")])
    assert refusal("mahimahi", "1\n", bin=3).startswith("--set: bin: unknown key; did you mean 'bin_ms'?")
    assert refusal("fedscale-availability", "", x=1) == ("--set: x: unknown key (choices: none, it takes no options)")
    assert refusal("mahimahi", "1\n", bin_ms=0) == "--set: bin_ms: must be at least 1, found 0"


def test_a_table_that_is_there_is_not_written_over() -> None:
    Path("a.txt").write_text("5\n")
    report = import_trace("mahimahi", [Path("a.txt")])
    before = Path(report["out"]).read_bytes()
    with pytest.raises(OutputError, match=r"a\.throughput\.csv exists already; remove it, or name another with --out"):
        import_trace("mahimahi", [Path("a.txt")])
    assert Path(report["out"]).read_bytes() == before
    with pytest.raises(OutputError, match=r"no/where\.csv cannot be written \(No such file"):
        import_trace("mahimahi", [Path("a.txt")], out=Path("no/where.csv"))


def test_a_table_says_where_it_comes_from_and_equal_imports_are_equal_bytes_gzipped_too() -> None:
    Path("a.txt").write_text("5\n")
    for name in ("one.csv", "two.csv", "one.csv.gz", "two.csv.gz"):
        import_trace("mahimahi", [Path("a.txt")], out=Path(name))
    first, second, third, fourth = (
        Path(name).read_bytes() for name in ("one.csv", "two.csv", "one.csv.gz", "two.csv.gz")
    )
    assert first == second == gzip.decompress(third)
    assert third == fourth
    # The time of writing, bytes 4 to 7 of a gzip file (RFC 1952), is left at 0.
    assert third[4:8] == bytes(4)
    assert first.decode().splitlines()[:4] == [
        "# neulite-sim trace 1 kind=throughput",
        "# source: a.txt, imported as mahimahi; Netravali et al., Mahimahi, USENIX ATC 2015",
        "# note: 1 packet of 1500 bytes, as rates over 1 ms",
        "trace,t_s,bits_per_second",
    ]
    assert SUMMARIES["throughput"](Path("one.csv.gz"))["traces"] == 1


# Real files.


@pytest.fixture
def real() -> Path:
    if not REAL.is_dir():
        pytest.skip(f"{REAL} is not there")
    return REAL


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize(("name", "count"), [("fcc_mba_300", 300), ("hsdpa3g_norway", 80), ("oboe", 428)])
def test_real_throughput_keeps_every_bit_of_its_table(real: Path, name: str, count: int) -> None:
    path = real / "bandwidth" / f"{name}.csv.gz"
    import_trace("throughput-csv", [path], out=Path("own.csv"))
    found = read_throughput(Path("own.csv"))
    assert len(found.traces) == count
    lines: dict[str, list[tuple[float, float]]] = {}
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            lines.setdefault(row["trace"], []).append((float(row["t_s"]), float(row["mbps"]) * 1e6))
    for label, trace in zip(found.labels, found.traces, strict=True):
        table = lines[label]
        bits = sum((later - t_s) * rate for (t_s, rate), (later, _) in pairwise(table))
        rate = SteppedRate(steps=trace, is_repeated=False)
        span_s = table[-1][0] - table[0][0]
        assert rate.bits(0, span_s) == pytest.approx(bits, rel=1e-9)
        assert rate.ends_s(0, bits / 2) < span_s


@pytest.mark.real_data
def test_the_real_matrix_keeps_what_is_known_of_every_device(real: Path) -> None:
    path = real / "flash" / "availability_30min_723dev.csv"
    report = import_trace("flash-matrix", [path], out=Path("own.csv"))
    assert (report["devices"], report["left_out"]) == (722, 1)
    with path.open() as file:
        slots = dict(list(csv.reader(file))[1:])
    labels = [line.split(",")[0] for line in Path("own.csv").read_text().splitlines() if line[0] not in "#d"]
    availability = fleet(722)
    for slot in range(0, 240, 7):
        online = availability.online(slot * 1800.0 + 1)
        for label, is_online in zip(dict.fromkeys(labels), online, strict=True):
            assert slots[label][slot] in ("-", "01"[int(is_online)])


@pytest.mark.real_data
def test_the_real_phones_with_less_memory_are_slower(real: Path) -> None:
    report = import_trace("ai-benchmark", [real / "flash" / "ai_benchmark_devices_333.csv"], out=Path("own.csv"))
    assert (report["devices"], report["left_out"]) == (333, 0)
    columns = read_individuals(Path("own.csv")).columns
    small = columns["memory_bytes"] <= 2 * 2**30
    assert np.median(columns["speed_factor"][small]) < 0.5 * np.median(columns["speed_factor"][~small])


@pytest.mark.real_data
def test_the_real_clients_of_fedscale_come_through_a_pickle(real: Path) -> None:
    with (real / "fedscale" / "demo_capacity_10.csv").open() as file:
        rows = list(csv.DictReader(file))
    clients = {int(row["client"]): {"computation": float(row["computation_ms_per_sample"]),
                                    "communication": float(row["communication_kbps"])} for row in rows}  # fmt: skip
    imported("fedscale-capacity", pickle.dumps(clients, 2))
    columns = read_individuals(Path("own.csv")).columns
    kbps = [entry["communication"] * 1000 for entry in clients.values()]
    assert columns["downlink_bits_per_second"].tolist() == pytest.approx(kbps)
    times = [entry["computation"] for entry in clients.values()]
    assert (columns["speed_factor"] * times).tolist() == pytest.approx([float(np.median(times))] * 10)
