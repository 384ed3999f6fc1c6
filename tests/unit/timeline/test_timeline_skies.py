"""Flights that are out: rows that are used again, ends in the order of the clock, and what may be taken along."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_flights import cost_of, flight_of, outcome_after

from neulite_sim.profiling.cost import Costs
from neulite_sim.profiling.plans import Plan
from neulite_sim.timeline.berths import Berths
from neulite_sim.timeline.clock import Clock
from neulite_sim.timeline.columns import Flights
from neulite_sim.timeline.endings import Endings
from neulite_sim.timeline.flights import ARRIVED, DROPPED, Outcome
from neulite_sim.timeline.skies import FIRST_LOOK, Foreseen, moments_of, sky


@st.composite
def some_flights(draw, first):
    """Up to four flights from `first` on that differ in all that flights differ in."""
    found = []
    for number in range(first, first + draw(st.integers(1, 4))):
        kind = draw(st.sampled_from([ARRIVED, DROPPED]))
        pauses = draw(st.sampled_from([(), ((1.0, 2.0),), ((1.0, 2.0), (3.0, 4.0))]))
        planned = Outcome(kind=kind, ended_s=number / 3, download_s=0.1, compute_s=draw(st.floats(0, 9)), upload_s=0.2,
                          reason="" if kind == ARRIVED else "lost", pauses=pauses)  # fmt: skip
        cost = cost_of(draw(st.integers(0, 9)), draw(st.sampled_from(["full", "half"])), download_s=number / 7,
                       peak_memory_bytes=number, plan=Plan(batch_size=draw(st.sampled_from([1, 2]))),
                       owed_bytes=draw(st.sampled_from([0, 0, 5])))  # fmt: skip
        found.append(flight_of(number, at_s=draw(st.floats(0, 5)), planned=planned, cost=cost, round=number % 5,
                               version=number % 3, stage=draw(st.sampled_from(["a", "b"]))))  # fmt: skip
    return found


def _fresh(flights):
    """The same flights as columns without the values that they were made of."""
    table = Flights.of(flights)
    return Flights(**{name: getattr(table, name) for name in ("numbers", "rounds", "versions", "stages", "dispatched_s",
                                                               "costs", "plans", "departures")})  # fmt: skip


@given(data=st.data(), keeps_values=st.booleans())
@settings(deadline=None)
def test_flights_come_out_of_their_berths_as_they_went_in(data, keeps_values):
    berths, out, number, most = Berths(), {}, 1, 0
    for _ in range(data.draw(st.integers(1, 6))):
        flights = data.draw(some_flights(number))
        table = Flights.of(flights) if keeps_values else _fresh(flights)
        out |= dict(zip(berths.put(table), flights, strict=True))
        number += len(flights)
        most = max(most, len(out))
        places = data.draw(st.lists(st.sampled_from(sorted(out)), unique=True))
        taken = berths.take(places)
        wanted = [out.pop(place) for place in places]
        assert list(taken) == wanted
        assert taken.numbers == [flight.number for flight in wanted]
        if keeps_values:
            assert all(one is other for one, other in zip(taken, wanted, strict=True))
    assert len(set(out)) == len(out)
    assert max(out, default=0) < 2 * most + 4


@given(data=st.data())
@settings(deadline=None)
def test_joined_columns_are_those_of_their_parts(data):
    parts = [data.draw(some_flights(first)) for first in (1, 11, 21)]
    tables = [_fresh(part) for part in parts]
    together = [flight for part in parts for flight in part]
    assert list(Flights.joined(tables)) == together
    assert list(Endings.joined([Endings.plain(table, table.planned) for table in tables]).flights) == together
    assert list(Costs.after_each_other([table.costs for table in tables])) == [flight.cost for flight in together]


class _Told:
    """A launch that notes whom it is told of."""

    def __init__(self):
        self.noted = []

    def together(self, flights):
        return lambda endings: self.noted.append(endings.flights.numbers)


@pytest.fixture
def told():
    return _Told()


def _sky(told, *ended_s, lost=(), ends_at_s=math.inf):
    found = Foreseen(Clock(ends_at_s=ends_at_s), told)
    found.launch(
        [
            flight_of(number, planned=outcome_after(s, kind=DROPPED if number in lost else ARRIVED))
            for number, s in enumerate(ended_s, start=1)
        ]
    )
    return found


@pytest.mark.parametrize(
    ("arrivals", "numbers"),
    [(1, []), (2, [3]), (3, [3]), (4, [3, 1, 4]), (9, [3, 1, 4])],
)
def test_what_comes_is_all_that_lands_before_the_moment_of_an_arrival(arrivals, numbers, told):
    """The third flight ends at 1 s, the first and the fourth at 2 s, the second at 5 s."""
    coming = _sky(told, 2.0, 5.0, 1.0, 2.0).coming(arrivals)
    assert ([] if coming is None else coming.flights.numbers) == numbers


def test_the_lost_land_as_well_and_do_not_count(told):
    assert _sky(told, 1.0, 2.0, 3.0, 4.0, lost={1, 2}).coming(2).flights.numbers == [1, 2, 3]


def test_nothing_comes_from_the_end_of_the_run_on(told):
    assert _sky(told, 1.0, 2.0, 3.0, 4.0, ends_at_s=3.0).coming(9).flights.numbers == [1, 2]


def test_what_was_not_taken_along_is_still_out(told):
    found = _sky(told, 1.0, 2.0, 3.0, 4.0)
    assert found.coming(4).flights.numbers == [1, 2, 3]
    found.took_along(2)
    assert found.num_flying == 2
    # The reach is what the server came to, and doubles with each time that it comes to all of it.
    assert found.coming(4).flights.numbers == [3]
    found.took_along(1)
    assert found.num_flying == 1
    assert told.noted == []


def test_moments_hold_all_that_land_at_them():
    flights = Flights.of([flight_of(number, planned=outcome_after(s)) for number, s in enumerate([1, 1, 2, 3, 3], 4)])
    found = moments_of(Endings.plain(flights, flights.planned))
    assert [(s, devices.tolist()) for s, devices in found] == [(1.0, [4, 5]), (2.0, [6]), (3.0, [7, 8])]
    assert moments_of(Endings.plain(flights[:0], flights.planned[:0])) == []


def test_of_nothing_nothing_is_taken():
    assert len(Berths().take([])) == 0
    assert np.array_equal(Berths().take([]).devices, [])


class _Ground:
    """Starts flights whose landings happen when a test says so."""

    def __init__(self, clock):
        self.clock, self.landings = clock, []

    def __call__(self, flight):
        self.landings.append(self.clock.event())
        return self.landings[-1]

    def together(self, flights):
        return lambda ended: None


def test_where_ends_are_known_one_looks_to_the_next_of_them():
    clock = Clock()
    flights = [flight_of(number, planned=outcome_after(5.0 * number)) for number in (1, 2)]
    out = sky(clock, flights, _Ground(clock))
    assert out.looks_until_s() == math.inf
    out.launch(flights)
    assert out.looks_until_s() == 5.0
    clock.run(until=6.0)
    out.take()
    assert out.looks_until_s() == 10.0


def test_where_ends_are_not_known_one_looks_twice_as_far_each_time_until_something_happens():
    clock, departure = Clock(), object()
    flights = [flight_of(number, planned=outcome_after(16.0 * number), departure=departure) for number in (1, 2)]
    ground = _Ground(clock)
    out = sky(clock, flights, ground)
    assert out.looks_until_s() == math.inf
    out.launch(flights)
    seen = [out.looks_until_s()]
    for _ in range(3):
        clock.run(until=seen[-1])
        seen.append(out.looks_until_s())
    assert seen == [16.0 * FIRST_LOOK * 2**place for place in range(4)]
    ground.landings[0].succeed(outcome_after(9.0))
    clock.run(until=9.0)
    assert len(out.take()) == 1
    assert out.looks_until_s() == 9.0 + 16.0 * FIRST_LOOK
    ground.landings[1].succeed(outcome_after(9.0))
    clock.run(until=10.0)
    assert len(out.take()) == 1
    assert out.looks_until_s() == math.inf
