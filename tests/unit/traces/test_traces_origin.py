"""Where virtual time 0 lies in a trace, what is too short or too late for the clock, and what a trace has to say."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_scenarios import TINY, tiny

from neulite_sim.errors import ScenarioError
from neulite_sim.population.availability.chunked import ChunkedAvailability
from neulite_sim.population.availability.kinds import TRACE
from neulite_sim.population.availability.periodic import PeriodicAvailability
from neulite_sim.population.availability.traced import PeriodicSource
from neulite_sim.population.sampling import build_population
from neulite_sim.population.table import Population
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.traces.intervals import merged, on_grid

EPOCH_S = 1580428800
AVAILABILITY = "device,start_s,end_s"
TICK = 2.0**-20


def fleet(folder: Path, text: str, *, section: str = "availability", devices: int = 2, **options: Any) -> Population:
    (folder / "trace.csv").write_text(text)
    chosen = {section: {"kind": "trace", "path": str(folder / "trace.csv"), **options}}
    scenario = parse_scenario({**TINY, "population": {**TINY["population"], "devices": devices, **chosen}})
    return build_population(scenario.population, scenario.seed)


def test_unix_times_are_said_with_the_option_that_shifts_them(tmp_path: Path) -> None:
    text = f"{AVAILABILITY}\na,{EPOCH_S},{EPOCH_S + 3600}\nb,{EPOCH_S + 60},{EPOCH_S + 7200}\n"
    (note,) = fleet(tmp_path, text).notes
    assert note.startswith("population.availability: nobody is online before virtual day 18,292, the first time in ")
    assert note.endswith(
        "being 1580428800 s; set population.availability.origin to first, or to the time that is virtual time 0"
    )
    for origin in ("first", EPOCH_S, f"{EPOCH_S}s"):
        shifted = fleet(tmp_path, text, origin=origin)
        assert shifted.notes == ()
        assert shifted.availability.online_until_s(np.array([0, 1]), 60.0).tolist() == [3600, 7200]
        # The trace starts over after its last end, counted from the origin.
        assert shifted.availability.next_online_s(np.array([0]), 3600.0)[0] == 7200
    earlier = fleet(tmp_path, text, origin=EPOCH_S - 100).availability
    assert earlier.next_online_s(np.array([0, 1]), 0.0).tolist() == [100, 160]


def test_unix_times_with_periods_are_shifted_before_the_period_is_looked_at(tmp_path: Path) -> None:
    text = f"{AVAILABILITY},period_s\na,{EPOCH_S},{EPOCH_S + 10},100\n"
    with pytest.raises(ScenarioError, match=r"end_s 1580428810 lies after period_s 100"):
        fleet(tmp_path, text)
    availability = fleet(tmp_path, text, origin="first").availability
    assert availability.next_online_s(np.array([0]), 10.0)[0] == 100


@pytest.mark.parametrize("section", ["availability", "memory_motion"])
def test_an_origin_after_the_first_time_is_refused(tmp_path: Path, section: str) -> None:
    text = f"{AVAILABILITY}\nb,30,40\na,20,30\n" if section == "availability" else "device,t_s,share\nb,30,1\na,20,1\n"
    message = rf"^population\.{section}\.origin: 21 s is after the earliest time of .*csv, 20 s on line 3; use at most"
    with pytest.raises(ScenarioError, match=message):
        fleet(tmp_path, text, section=section, origin=21)


def test_an_origin_is_a_time_or_first() -> None:
    with pytest.raises(ScenarioError, match=r"origin: 'last' is not a duration; write for example 90s"):
        tiny("population.availability={kind: trace, path: a.csv, origin: last}")


def test_devices_that_come_online_after_years_are_counted(tmp_path: Path) -> None:
    text = f"{AVAILABILITY}\na,0,10\nb,{EPOCH_S},{EPOCH_S + 5}\n"
    (note,) = fleet(tmp_path, text).notes
    assert note.startswith("population.availability: 1 of 2 devices are not online before virtual day 18,292 in ")


def test_a_fleet_that_is_never_online_is_said(tmp_path: Path) -> None:
    (note, never) = fleet(tmp_path, f"{AVAILABILITY}\na,,\nb,0,1\n", devices=1).notes
    assert note.startswith("population.availability: 1 of the 2 that ")
    assert note.endswith("trace.csv describes are left out, the fleet has 1")
    assert never.startswith("population.availability: none of the devices that ")


@pytest.mark.parametrize("header", [AVAILABILITY, f"{AVAILABILITY},period_s"])
@pytest.mark.parametrize("end_s", ["0.0000001", "0.00000001", "4e-7", "1e-300"])
def test_intervals_shorter_than_the_clock_are_refused_with_their_line(tmp_path: Path, header: str, end_s: str) -> None:
    period = ",5" if "period" in header else ""
    message = rf"trace\.csv:3: .*the interval 0 to {end_s} is shorter than a tick of the clock \(2\^-20 s, about a mic"
    with pytest.raises(ScenarioError, match=message):
        fleet(tmp_path, f"{header}\na,0,1{period}\nb,0,{end_s}{period}\n")


def test_a_tick_is_long_enough(tmp_path: Path) -> None:
    availability = fleet(tmp_path, f"{AVAILABILITY}\na,0,{TICK}\n", devices=1, span="1s").availability
    assert availability.online_until_s(np.array([0]), 0.0)[0] == TICK
    availability = fleet(tmp_path, f"{AVAILABILITY}\na,0,{TICK}\n", devices=1).availability
    assert availability.online(12.5)[0]


def test_milliseconds_of_unix_time_are_refused(tmp_path: Path) -> None:
    message = r"trace\.csv:2: .*start_s '1580428800000' lies beyond 2\^33 s \(272 years\), .*not milliseconds"
    for origin in (0, "first"):
        with pytest.raises(ScenarioError, match=message):
            fleet(tmp_path, f"{AVAILABILITY}\na,1580428800000,1580428900000\n", origin=origin)


def test_memory_traces_are_shifted_alike(tmp_path: Path) -> None:
    text = f"device,t_s,available_bytes\na,{EPOCH_S},11e6\na,{EPOCH_S + 60},12e6\nb,{EPOCH_S + 5},13e6\nc,0,1\n"
    (unused, late) = fleet(tmp_path, text, section="memory_motion").notes
    assert unused.startswith("population.memory_motion: 1 of the 3 that ")
    assert late.startswith("population.memory_motion: nobody's memory moves before virtual day 18,292, the first time")
    assert "set population.memory_motion.origin to first" in late
    shifted = fleet(tmp_path, text.replace("c,0,1\n", ""), section="memory_motion", origin="first", repeat_every="2min")
    assert shifted.notes == ()
    assert shifted.memory_motion is not None
    found = [int(shifted.memory_motion.available_bytes(at_s, 1)[0]) for at_s in (0.0, 60.0, 120.0)]
    assert found == [11_000_000, 12_000_000, 11_000_000]


def test_values_within_a_tick_of_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ScenarioError, match=r"csv:3: .*device 'a' has a second value within a tick of the clock, after line 2; write"
    ):
        fleet(tmp_path, "device,t_s,share\na,0,1\na,1e-8,0.5\n", section="memory_motion")


@pytest.mark.parametrize(("column", "value"), [("available_bytes", "1e12"), ("share", "2000")])
def test_more_memory_than_there_is_is_said(tmp_path: Path, column: str, value: str) -> None:
    (note,) = fleet(tmp_path, f"device,t_s,{column}\na,0,1\na,5,{value}\nb,0,1\n", section="memory_motion").notes
    assert note.startswith("population.memory_motion: ")
    assert note.endswith("trace.csv gives 1 of 2 devices more than their usable memory, capped")


def test_throughput_counts_from_the_first_line_whatever_the_time(tmp_path: Path) -> None:
    (tmp_path / "rates.csv").write_text(
        f"trace,t_s,bits_per_second\na,{EPOCH_S},8e6\na,{EPOCH_S + 10},\nb,3,1e6\nb,4,\n"
    )
    link = {"downlink": {"trace": str(tmp_path / "rates.csv"), "start": "beginning"}, "uplink": "1Mbps"}
    scenario = parse_scenario({**TINY, "population": {**TINY["population"], "devices": 1, "link": link}})
    population = build_population(scenario.population, 0)
    assert population.throughput is not None
    assert population.throughput.of(0, "down").ends_s(0.0, 8e6) == 1.0
    (note,) = population.notes
    assert note.startswith("population.link.downlink.trace: 1 of the 2 that ")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("a,0,5", "a,1e-9,5", "a,1,"), r"csv:3: .*the time from 0 s on line 2 to 1e-09 s is shorter than a tick"),
        (("a,0,1e-300", "a,1,"), r"csv:3: .*trace 'a' carries 1e-300 bits per second on average; at least 1 is needed"),
        (("a,0,1e19", "a,1,"), r"csv:2: .*bits_per_second '1e19' is above 1e\+18, the most that is read"),
        (("a,0,5", "a,9e9,"), r"csv:3: .*t_s '9e9' lies beyond 2\^33 s"),
    ],
)
def test_rates_that_no_clock_could_follow_are_refused(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    (tmp_path / "rates.csv").write_text("\n".join(["trace,t_s,bits_per_second", *lines]))
    link = {"downlink": {"trace": str(tmp_path / "rates.csv")}, "uplink": "1Mbps"}
    scenario = parse_scenario({**TINY, "population": {**TINY["population"], "link": link}})
    with pytest.raises(ScenarioError, match=message):
        build_population(scenario.population, 0)


# Periods of any length.


def test_a_short_period_beside_a_long_one_costs_no_memory(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        availability = fleet(tmp_path, f"{AVAILABILITY},period_s\na,0,0.5,1\nb,0,10,1e9\n").availability
        assert availability.online(999_999_999.25).tolist() == [True, False]
        assert availability.next_online_s(np.array([0, 1]), 999_999_999.75).tolist() == [1e9, 1e9]
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


# Times in quarters of a second: no rounding stands between the two then.
quarters = st.integers(4, 40).map(lambda n: n / 4)


@st.composite
def labels(draw: st.DrawFn) -> tuple[float, list[tuple[float, float]]]:
    period_s = draw(quarters)
    edges = sorted(draw(st.sets(st.integers(0, int(period_s * 4)), max_size=8)))
    return period_s, [(start / 4, end / 4) for start, end in zip(edges[::2], edges[1::2], strict=False)]


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    table=st.lists(labels(), min_size=1, max_size=4),
    is_repeated=st.booleans(),
    moments=st.lists(st.integers(0, 800).map(lambda n: n / 8), min_size=1, max_size=12),
)
def test_lookups_without_chunks_answer_as_those_with(
    table: list[tuple[float, list[tuple[float, float]]]], is_repeated: bool, moments: list[float]
) -> None:
    flat = [(row, *interval) for row, (_, intervals) in enumerate(table) for interval in intervals]
    rows, start_s, end_s = (
        np.array([entry[place] for entry in flat], kind) for place, kind in enumerate((int, float, float))
    )
    intervals = merged(rows, on_grid(start_s), on_grid(end_s), num_rows=len(table))
    period_s = np.array([period for period, _ in table])
    source = PeriodicSource(intervals, period_s=period_s, is_repeated=is_repeated)
    row_of_device = np.arange(2 * len(table)) % len(table)
    chunked = ChunkedAvailability(source, num_devices=len(row_of_device), row_of_device=row_of_device)
    direct = PeriodicAvailability(intervals, period_s=period_s, is_repeated=is_repeated, row_of_device=row_of_device)
    devices = np.arange(len(row_of_device))[::-1]
    for at_s in moments:
        assert direct.online(at_s).tolist() == chunked.online(at_s).tolist()
        assert direct.online_until_s(devices, at_s).tolist() == chunked.online_until_s(devices, at_s).tolist()
        assert direct.next_online_s(devices, at_s).tolist() == chunked.next_online_s(devices, at_s).tolist()
    each_s = np.resize(np.array(moments), len(devices))
    assert direct.next_online_each_s(devices, each_s).tolist() == chunked.next_online_each_s(devices, each_s).tolist()


def test_a_moment_before_time_began_is_refused() -> None:
    intervals = merged(np.zeros(1, np.int64), np.zeros(1), np.ones(1), num_rows=1)
    direct = PeriodicAvailability(
        intervals, period_s=np.array([2.0]), is_repeated=True, row_of_device=np.zeros(1, np.int64)
    )
    for ask in (direct.online, lambda at_s: direct.next_online_s(np.array([0]), at_s)):
        with pytest.raises(ValueError, match=r"virtual time -1 s is outside \[0, inf\)"):
            ask(-1)
        with pytest.raises(ValueError, match="virtual time inf s is outside"):
            ask(math.inf)


def test_the_option_decides_nothing_where_chunks_are_small(tmp_path: Path) -> None:
    options = TRACE.options(path=str(tmp_path / "trace.csv"))
    (tmp_path / "trace.csv").write_text(f"{AVAILABILITY},period_s\na,0,1,5\nb,0,10,500\n")
    assert isinstance(TRACE.build(options)(2, 0), ChunkedAvailability)
