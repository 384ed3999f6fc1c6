"""Availability as the logical and of two: against a scan of the intervals, in any order of questions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neulite_sim.population.availability.battery import DailyWindow
from neulite_sim.population.availability.chunked import ChunkedAvailability
from neulite_sim.population.availability.combined import MOST_TURNS, Both, combined
from neulite_sim.population.availability.contract import Availability
from neulite_sim.population.availability.kinds import ALWAYS
from neulite_sim.population.availability.markov import MarkovSource
from neulite_sim.population.availability.traced import TraceSource
from neulite_sim.traces.intervals import merged


class Plain:
    """A third party's availability without the optional question: online in the given intervals, all devices alike."""

    def __init__(self, *intervals: tuple[float, float], num_devices: int = 2) -> None:
        self.intervals, self.num_devices = intervals, num_devices

    def online(self, at_s: float) -> np.ndarray:
        return np.full(self.num_devices, any(start <= at_s < end for start, end in self.intervals))

    def online_until_s(self, devices: np.ndarray, at_s: float) -> np.ndarray:
        return np.full(len(devices), next((end for start, end in self.intervals if start <= at_s < end), at_s))

    def next_online_s(self, devices: np.ndarray, at_s: float) -> np.ndarray:
        found = [max(start, at_s) for start, end in self.intervals if at_s < end]
        return np.full(len(devices), min(found, default=math.inf))


def traced(rows: list[list[tuple[int, int]]], *, is_repeated: bool, length_s: float = 64.0) -> ChunkedAvailability:
    numbers = np.array([row for row, found in enumerate(rows) for _ in found], np.int64)
    edges = np.array([edge for found in rows for edge in found], float).reshape(-1, 2)
    intervals = merged(numbers, edges[:, 0], edges[:, 1], num_rows=len(rows))
    return ChunkedAvailability(
        TraceSource(intervals, length_s=length_s, is_repeated=is_repeated), num_devices=len(rows)
    )


rows = st.lists(st.integers(0, 63), max_size=8, unique=True).map(
    lambda edges: list(zip(sorted(edges)[::2], sorted(edges)[1::2], strict=False))
)
fleets = st.lists(st.tuples(rows, rows), min_size=1, max_size=4)


# Windows that never meet are looked for in a thousand turns, on whatever machine.
@settings(deadline=None, max_examples=15)
@given(fleets, st.booleans(), st.lists(st.integers(0, 200), min_size=1, max_size=6))
def test_both_agree_with_a_scan_second_by_second(
    fleet: list[tuple[list[tuple[int, int]], list[tuple[int, int]]]], is_repeated: bool, moments: list[int]
) -> None:
    """All edges are whole seconds; repeated every 64 s, so 200 + 2 * 64 s hold all there is to see."""
    found = Both(
        first=traced([row for row, _ in fleet], is_repeated=is_repeated),
        second=traced([row for _, row in fleet], is_repeated=is_repeated),
    )

    def is_online(device: int, second: int) -> bool:
        into = second % 64 if is_repeated else second
        return all(any(start <= into < end for start, end in part) for part in fleet[device])

    devices = np.arange(len(fleet))
    for at_s in moments:
        ahead = range(at_s, at_s + 128)
        assert found.online(at_s).tolist() == [is_online(device, at_s) for device in devices]
        assert found.online_until_s(devices, at_s).tolist() == [
            next((float(second) for second in ahead if not is_online(device, second)), math.inf) for device in devices
        ]
        assert found.next_online_s(devices, at_s).tolist() == [
            next((float(second) for second in ahead if is_online(device, second)), math.inf) for device in devices
        ]


def markov(seed: int, num_devices: int = 50) -> ChunkedAvailability:
    source = MarkovSource(mean_on_s=300.0, mean_off_s=200.0, num_devices=num_devices, seed=seed)
    return ChunkedAvailability(source, num_devices=num_devices)


def asked(availability: Availability, moments_s: list[float]) -> list[list[float]]:
    devices = np.arange(50)
    answers = {at_s: availability.next_online_s(devices, at_s).tolist() for at_s in moments_s}
    return [answers[at_s] for at_s in sorted(answers)]


def test_questions_may_come_in_any_order() -> None:
    moments_s = [1e5, 0.0, 5e6, 77.7, 1e5 + 0.1]
    both = [Both(first=markov(1), second=markov(2)) for _ in range(2)]
    assert asked(both[0], moments_s) == asked(both[1], sorted(moments_s))


def test_a_moment_that_one_lookup_returns_is_the_same_for_the_others() -> None:
    window = DailyWindow(first_s=np.full(50, 3600.0), length_s=7200.0)
    both = Both(first=Both(first=markov(1), second=markov(2)), second=window)
    devices = np.arange(50)
    for at_s in (0.0, 123.4, 1e6 + 0.7):
        for device, moment_s in enumerate(both.next_online_s(devices, at_s)):
            one = devices[[device]]
            assert both.online(moment_s)[device]
            assert both.online_until_s(one, moment_s)[0] > moment_s
            assert moment_s == at_s or not both.online(np.nextafter(moment_s, 0))[device]


def test_an_availability_without_the_optional_question_is_asked_moment_by_moment() -> None:
    plain = Plain((0, 10), (20, 30), (50, 60))
    both = Both(first=plain, second=Plain((10, 20), (25, 55)))
    assert both.next_online_s(np.array([0, 1]), 0.0).tolist() == [25.0, 25.0]
    assert both.next_online_s(np.array([1]), 30.0).tolist() == [50.0]
    assert both.next_online_s(np.array([1]), 55.0).tolist() == [math.inf]


def test_windows_that_never_meet_are_given_up() -> None:
    morning, evening = (DailyWindow(first_s=np.array([hour * 3600.0]), length_s=3600.0) for hour in (8, 20))
    both = Both(first=morning, second=evening)
    assert both.next_online_s(np.array([0]), 0.0).tolist() == [math.inf]
    assert MOST_TURNS >= 3 * 365 * 0.9


def test_gates_stand_alone_where_devices_are_always_online() -> None:
    always = ALWAYS.build(ALWAYS.options())(2, 0)
    gate = Plain((0, 10))
    assert combined(always) is always
    assert combined(always, gate) is gate
    assert combined(gate, gate) == Both(first=gate, second=gate)


@pytest.mark.parametrize("at_s", [0.0, 3599.999, 3600.0, 10799.9, 10800.0, 90000.0, 1e9 + 0.3])
def test_a_daily_window_opens_and_closes_half_open(at_s: float) -> None:
    window, one = DailyWindow(first_s=np.array([3600.0]), length_s=7200.0), np.array([0])
    into_s = at_s % 86400
    is_inside = 3600 <= into_s < 10800
    assert window.online(at_s).tolist() == [is_inside]
    assert window.online_until_s(one, at_s)[0] == (at_s - into_s + 10800 if is_inside else at_s)
    opens_s = at_s - into_s + 3600
    assert window.next_online_s(one, at_s)[0] == (at_s if is_inside else opens_s if into_s < 3600 else opens_s + 86400)
