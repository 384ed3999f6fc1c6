"""The components of availability, and the lookups over chunks, against a plain scan."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from neulite_sim.population.availability.chunked import CACHE_CHUNKS, ChunkedAvailability
from neulite_sim.population.availability.kinds import ALWAYS, MARKOV
from neulite_sim.registry import component
from neulite_sim.traces.intervals import Intervals, merged


class Alternating:
    """Row 0 is online in all of every second chunk, row 1 always, row 2 never, row 3 in the middle of each chunk."""

    length_s = 10.0
    look_ahead = 3

    def __init__(self) -> None:
        self.made: list[int] = []

    def chunk(self, index: int) -> Intervals:
        self.made.append(index)
        even = [(0, 0.0, 10.0)] if index % 2 == 0 else []
        rows, start_s, end_s = zip(*even, (1, 0.0, 10.0), (3, 4.0, 6.0), strict=True)
        return merged(np.array(rows), np.array(start_s), np.array(end_s), num_rows=4)


@pytest.mark.parametrize("kind", ["always", "markov", "diurnal", "trace"])
def test_every_kind_is_registered_under_its_name(kind: str) -> None:
    assert component("availability", kind).kind == kind


def test_always_is_online_for_ever() -> None:
    availability = ALWAYS.build(ALWAYS.options())(3, 0)
    some = np.array([0, 2])
    assert availability.online(1e9).tolist() == [True] * 3
    assert availability.online_until_s(some, 5.0).tolist() == [math.inf] * 2
    assert availability.next_online_s(some, 5.0).tolist() == [5.0] * 2


def test_lookups_walk_from_chunk_to_chunk() -> None:
    availability = ChunkedAvailability(Alternating(), num_devices=4)
    devices = np.arange(4)
    assert availability.online(5.0).tolist() == [True, True, False, True]
    assert availability.online(15.0).tolist() == [False, True, False, True]
    assert availability.online_until_s(devices, 5.0).tolist() == [10.0, math.inf, 5.0, 6.0]
    assert availability.online_until_s(devices, 12.0).tolist() == [12.0, math.inf, 12.0, 12.0]
    assert availability.next_online_s(devices, 17.0).tolist() == [20.0, 17.0, math.inf, 24.0]


def test_a_time_online_starts_and_ends_half_open() -> None:
    availability = ChunkedAvailability(Alternating(), num_devices=4)
    last = np.array([3])
    assert availability.online(4.0)[3]
    assert not availability.online(6.0)[3]
    assert availability.online_until_s(last, 6.0)[0] == 6.0
    assert availability.next_online_s(last, 4.0)[0] == 4.0
    assert availability.next_online_s(last, 6.0)[0] == 14.0


def test_devices_can_be_asked_in_any_order_and_more_than_once() -> None:
    availability = ChunkedAvailability(Alternating(), num_devices=4)
    assert availability.next_online_s(np.array([3, 0, 3]), 17.0).tolist() == [24.0, 20.0, 24.0]
    assert availability.next_online_s(np.array([], np.int64), 17.0).tolist() == []
    assert availability.online_until_s(np.array([], np.int64), 17.0).tolist() == []


def test_devices_that_share_a_row_share_its_times() -> None:
    availability = ChunkedAvailability(Alternating(), num_devices=3, row_of_device=np.array([3, 2, 3]))
    assert availability.online(5.0).tolist() == [True, False, True]
    assert availability.next_online_s(np.array([1, 2]), 7.0).tolist() == [math.inf, 14.0]


def test_small_chunks_are_made_once_and_large_ones_are_kept_in_small_number(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Alternating()
    availability = ChunkedAvailability(source, num_devices=4)
    for at_s in (5.0, 75.0, 5.0, 75.0):
        availability.online(at_s)
    assert source.made == [0, 7]
    monkeypatch.setattr("neulite_sim.population.availability.chunked.CACHE_BYTES", 0)
    for at_s in range(5, 105, 10):
        availability.online(float(at_s))
    source.made.clear()
    for at_s in (95.0, 85.0, 75.0, 65.0):
        availability.online(at_s)
    assert CACHE_CHUNKS == 3
    assert source.made == [6]


@pytest.mark.parametrize("at_s", [-1.0, math.inf, math.nan])
def test_times_outside_the_simulation_are_refused(at_s: float) -> None:
    availability = ChunkedAvailability(Alternating(), num_devices=4)
    for ask in (
        availability.online,
        lambda at_s: availability.online_until_s(np.array([0]), at_s),
        lambda at_s: availability.next_online_s(np.array([0]), at_s),
    ):
        with pytest.raises(ValueError, match=rf"virtual time {at_s} s is outside \[0, inf\)"):
            ask(at_s)


def test_a_pickled_fleet_gives_the_same_answers() -> None:
    availability = MARKOV.build(MARKOV.options(mean_on="2h", mean_off="4h"))(50, 1)
    before = availability.online(1e5)
    assert np.array_equal(pickle.loads(pickle.dumps(availability)).online(1e5), before)
