"""When somebody can be offered work again: the first moment at which a device is online and fits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from neulite_sim.engine.waiting import MOST_CHANGES, next_chance
from neulite_sim.methods.contract import Offers, Proposal
from neulite_sim.population.availability.chunked import ChunkedAvailability
from neulite_sim.population.availability.contract import Availability
from neulite_sim.population.availability.kinds import AlwaysOnline
from neulite_sim.population.availability.traced import TraceSource
from neulite_sim.population.table import Population
from neulite_sim.traces.intervals import merged

TWO = np.array([0, 1])


class Clockwork:
    """Memory that may change every ten seconds up to a last time, and notes how often it was asked when next."""

    def __init__(self, last_s: float = math.inf) -> None:
        self.last_s = last_s
        self.asked = 0

    def next_change_s(self, at_s: float) -> float:
        self.asked += 1
        next_s = (at_s // 10 + 1) * 10
        return next_s if next_s <= self.last_s else math.inf


def online(*intervals: tuple[int, float, float]) -> Availability:
    rows, start_s, end_s = (np.array(column) for column in zip(*sorted(intervals), strict=True))
    table = merged(rows, start_s.astype(float), end_s.astype(float), num_rows=2)
    return ChunkedAvailability(TraceSource(table, length_s=2.0**20, is_repeated=False), num_devices=2)


def chance(
    able: Callable[[float], Sequence[int]],
    at_s: float,
    *,
    motion: object = None,
    availability: Availability | None = None,
    until_s: float = math.inf,
) -> float:
    fleet = object.__new__(Population)
    object.__setattr__(fleet, "memory_motion", motion)
    object.__setattr__(fleet, "availability", availability or AlwaysOnline(num_devices=2))

    def offers_at(moment_s: float) -> Proposal:
        devices = np.array(able(moment_s), np.int64)
        offers = Offers(devices=devices, submodel_index=np.zeros(len(devices), np.int16), submodels=("full",),
                        expected_s=np.zeros(len(devices)))  # fmt: skip
        return Proposal(stage="full", offers=offers)

    return next_chance(fleet, TWO, offers_at, at_s, until_s=until_s)[0]


def test_without_motion_it_is_when_somebody_who_fits_comes_online() -> None:
    availability = online((0, 50, 60), (1, 20, 30))
    assert chance(lambda _: [0, 1], 5.0, availability=availability) == 20.0
    assert chance(lambda _: [0], 5.0, availability=availability) == 50.0
    assert chance(lambda _: [0], 70.0, availability=availability) == math.inf
    assert chance(lambda _: [], 5.0) == math.inf


def test_it_is_later_than_now() -> None:
    assert chance(lambda _: [0], 5.0) == np.nextafter(5.0, math.inf)


def test_with_motion_it_is_the_change_that_makes_somebody_fit() -> None:
    motion = Clockwork()
    assert chance(lambda at_s: [1] if at_s >= 70 else [], 5.0, motion=motion) == 70.0
    assert motion.asked == 8


def test_who_fits_and_comes_online_only_after_losing_the_memory_is_no_chance() -> None:
    # Device 0 fits from 20 to 40 and is online from 50 on; device 1 fits from 80 on and is online throughout.
    availability = online((0, 50, 100), (1, 0, 100))

    def able(at_s: float) -> list[int]:
        return [0] if 20 <= at_s < 40 else [1] if at_s >= 80 else []

    assert chance(able, 0.0, motion=Clockwork(), availability=availability) == 80.0


def test_who_comes_online_within_a_stretch_of_enough_memory_is_a_chance_at_that_moment() -> None:
    availability = online((0, 33, 100), (1, 90, 100))
    assert (
        chance(lambda at_s: [0] if 30 <= at_s < 40 else [], 0.0, motion=Clockwork(), availability=availability) == 33.0
    )


def test_a_time_in_which_nobody_is_online_is_not_searched() -> None:
    motion = Clockwork()
    availability = online((0, 500_000, 500_100))
    assert chance(lambda _: [], 0.0, motion=motion, availability=availability) == math.inf
    assert motion.asked < 15


@pytest.mark.parametrize("last_s", [100.0, math.inf])
def test_the_search_ends(last_s: float) -> None:
    motion = Clockwork(last_s)
    assert chance(lambda _: [], 0.0, motion=motion) == math.inf
    assert motion.asked == (11 if last_s < math.inf else MOST_CHANGES)


@pytest.mark.parametrize(("until_s", "found_s", "asked"), [(69.0, math.inf, 7), (70.0, 70.0, 8), (500.0, 70.0, 8)])
def test_the_search_goes_no_further_than_it_is_asked_to(until_s: float, found_s: float, asked: int) -> None:
    motion = Clockwork()
    assert chance(lambda at_s: [1] if at_s >= 70 else [], 5.0, motion=motion, until_s=until_s) == found_s
    assert motion.asked == asked
