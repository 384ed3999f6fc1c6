"""Availability files whose devices start over each after a period of its own, and devices that are never online."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neulite_sim.errors import ScenarioError
from neulite_sim.population.availability.chunked import ChunkedAvailability
from neulite_sim.population.availability.contract import Availability
from neulite_sim.population.availability.kinds import TRACE
from neulite_sim.population.availability.traced import PeriodicSource
from neulite_sim.traces.availability import read_trace
from neulite_sim.traces.intervals import merged, on_grid

INF = math.inf
HEADER = "device,start_s,end_s,period_s"


def written(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "trace.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def fleet(path: Path, num_devices: int = 2, **options: Any) -> Availability:
    return TRACE.build(TRACE.options(path=str(path), **options))(num_devices, 0)


def test_every_device_starts_over_after_its_own_period(tmp_path: Path) -> None:
    availability = fleet(written(tmp_path, "a,0,2,5", "b,3,7,7"))
    for at_s in np.arange(0, 200, 0.5):
        assert availability.online(at_s).tolist() == [at_s % 5 < 2, at_s % 7 >= 3]
    both = np.array([0, 1])
    assert availability.next_online_s(both, 1002).tolist() == [1005, 1004]
    assert availability.online_until_s(both, 1001).tolist() == [1002, 1001]


def test_an_online_device_stays_so_over_the_end_of_its_period(tmp_path: Path) -> None:
    availability = fleet(written(tmp_path, "a,0,1,5", "a,4,5,5", "b,0,7,7"))
    assert availability.online_until_s(np.array([0, 1]), 4.5).tolist() == [6, INF]
    assert availability.online_until_s(np.array([0]), 34.5)[0] == 36


def test_without_repetition_every_device_ends_with_its_own_period(tmp_path: Path) -> None:
    availability = fleet(written(tmp_path, "a,0,2,5", "b,3,7,7"), repeat=False)
    assert [at_s for at_s in range(50) if availability.online(at_s)[0]] == [0, 1]
    assert [at_s for at_s in range(50) if availability.online(at_s)[1]] == [3, 4, 5, 6]
    assert availability.next_online_s(np.array([0, 1]), 5).tolist() == [INF, 5]


@pytest.mark.parametrize("header", [HEADER, "device,start_s,end_s"])
def test_a_line_without_times_is_a_device_that_is_never_online(tmp_path: Path, header: str) -> None:
    period = ",10" if header == HEADER else ""
    path = written(tmp_path, f"a,0,5{period}", f"b,,{period}", header=header)
    assert read_trace(path).labels == ("a", "b")
    availability = fleet(path)
    assert availability.next_online_s(np.array([0, 1]), 2).tolist() == [2, INF]
    assert not any(availability.online(at_s)[1] for at_s in range(40))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a,0,1,x"], r"csv:2: .*period_s 'x' is not a number of seconds from 1 up"),
        (["a,0,0.1,0.5"], r"csv:2: .*period_s '0.5' is not a number of seconds from 1 up"),
        (["a,0,1,inf"], r"csv:2: .*period_s 'inf' is not a number"),
        (["a,0,1,5", "a,2,3,6"], r"csv:3: .*period_s 6 of device 'a' is 5 on an earlier line; write one for all"),
        (["a,0,6,5"], r"csv:2: .*end_s 6 lies after period_s 5; an interval ends within the period"),
        (["a,0,1"], r"csv:2: .*'a,0,1' is not device,start_s,end_s,period_s"),
        (["a,,1,5"], r"csv:2: .*start_s '' is not a number of seconds"),
        (["a,,,5"], r"csv:1: .*holds no interval"),
    ],
)
def test_wrong_lines_are_refused_with_file_and_line(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        read_trace(written(tmp_path, *lines))


def test_a_span_beside_periods_could_not_act_and_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ScenarioError, match=r"availability\.span: acts only with a trace without period_s; .*remove it"
    ):
        fleet(written(tmp_path, "a,0,2,5"), span="1min")


def test_comments_at_the_top_are_skipped_and_say_which_kind_it_is(tmp_path: Path) -> None:
    mark = "# neulite-sim trace 1 kind={}\n# source: somewhere\n"
    path = written(tmp_path, "a,0,x,5", header=mark.format("availability") + HEADER)
    with pytest.raises(ScenarioError, match=r"csv:4: .*end_s 'x'"):
        read_trace(path)
    with pytest.raises(
        ScenarioError, match=r"csv:1: .*is a trace of kind devices; population\.availability\.path names"
    ):
        read_trace(written(tmp_path, "a,0,1,5", header=mark.format("devices") + HEADER))


# Times in quarters of a second: the twin's arithmetic is exact then.
quarters = st.integers(4, 40).map(lambda n: n / 4)


@st.composite
def rows(draw: st.DrawFn) -> tuple[float, list[tuple[float, float]]]:
    period_s = draw(quarters)
    edges = sorted(draw(st.sets(st.integers(0, int(period_s * 4)), max_size=8)))
    return period_s, [(start / 4, end / 4) for start, end in zip(edges[::2], edges[1::2], strict=False)]


def built(table: list[tuple[float, list[tuple[float, float]]]], is_repeated: bool) -> ChunkedAvailability:
    flat = [(row, *interval) for row, (_, intervals) in enumerate(table) for interval in intervals]
    columns = list(zip(*flat, strict=True)) or [[], [], []]
    numbers, start_s, end_s = (
        np.array(column, kind) for column, kind in zip(columns, (np.int64, float, float), strict=True)
    )
    intervals = merged(numbers, on_grid(start_s), on_grid(end_s), num_rows=len(table))
    source = PeriodicSource(intervals, period_s=np.array([period for period, _ in table]), is_repeated=is_repeated)
    return ChunkedAvailability(source, num_devices=len(table))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    table=st.lists(rows(), min_size=1, max_size=4),
    asked=st.lists(st.integers(0, 4000).map(lambda n: n / 8), min_size=1, max_size=10),
    is_repeated=st.booleans(),
)
def test_questions_in_any_order_equal_a_scan_of_all_intervals(
    table: list[tuple[float, list[tuple[float, float]]]], asked: list[float], is_repeated: bool
) -> None:
    def is_online(device: int, at_s: float) -> bool:
        period_s, intervals = table[device]
        if not is_repeated and at_s >= period_s:
            return False
        return any(start <= at_s % period_s < end for start, end in intervals)

    def next_change_s(device: int, at_s: float, state: bool) -> float:
        # Edges lie on quarters; a period and a half beyond, nothing new can come.
        moments = np.arange(math.floor(at_s * 4) + 1, math.floor(at_s * 4) + 2 + 4 * 15) / 4
        return next((float(t) for t in moments if is_online(device, float(t)) != state), INF)

    availability = built(table, is_repeated)
    everyone = np.arange(len(table))
    for at_s in asked:
        online = availability.online(at_s)
        until_s = availability.online_until_s(everyone, at_s)
        next_s = availability.next_online_s(everyone, at_s)
        for device in everyone:
            state = is_online(device, at_s)
            assert online[device] == state
            assert until_s[device] == (next_change_s(device, at_s, True) if state else at_s)
            assert next_s[device] == (at_s if state else next_change_s(device, at_s, False))


def test_far_out_the_moments_of_one_lookup_are_those_of_the_others(tmp_path: Path) -> None:
    availability = fleet(written(tmp_path, "a,0.1,0.7,3.3", "b,0.2,1.9,7.1"))
    both = np.array([0, 1])
    for at_s in (1e6, 3e7, 1e9):
        next_s = availability.next_online_s(both, at_s)
        for device in both:
            assert availability.online(next_s[device])[device]
            until_s = availability.online_until_s(both, next_s[device])[device]
            assert not availability.online(until_s)[device]
            assert availability.online(np.nextafter(until_s, 0))[device]
