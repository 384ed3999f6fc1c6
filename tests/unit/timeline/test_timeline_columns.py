"""Flights, outcomes and endings as columns: the same as the values that they stand for, and sorties by either."""

from dataclasses import replace

import numpy as np
import pytest
from fake_server import FakeServer, Trip
from hypothesis import given, settings
from hypothesis import strategies as st
from made_flights import flight_of

from neulite_sim.timeline.columns import Flights, Outcomes
from neulite_sim.timeline.contract import run_protocol
from neulite_sim.timeline.deadline import COMPONENT, DeadlineOptions
from neulite_sim.timeline.endings import Ending, Endings, in_order
from neulite_sim.timeline.flights import ARRIVED, CUT, DROPPED, Outcome, cut_short
from neulite_sim.timeline.synchronous import Synchronous

SECONDS = st.floats(0, 100)


@st.composite
def outcomes(draw):
    """A flight that left at 0 and waited at most once."""
    phases = {name: draw(SECONDS) for name in ("download_s", "compute_s", "upload_s")}
    pauses = draw(st.sampled_from([(), ((1.0, 4.5),)]))
    kind = draw(st.sampled_from([ARRIVED, DROPPED]))
    ended_s = sum(phases.values()) + sum(end_s - start_s for start_s, end_s in pauses)
    return Outcome(kind=kind, ended_s=ended_s, reason="" if kind == ARRIVED else "lost", pauses=pauses, **phases)


@given(st.lists(outcomes(), min_size=1, max_size=6), st.floats(0, 50), st.data())
@settings(deadline=None)
def test_cutting_short_columns_is_cutting_short_each(each, at_s, data):
    places = data.draw(st.lists(st.integers(0, len(each) - 1), unique=True))
    table = Outcomes.of(each).cut_short(np.array(places, np.int64), [0.0] * len(each), at_s, kind=CUT, reason="over")
    wanted = [
        cut_short(outcome, 0.0, at_s, kind=CUT, reason="over") if place in places else outcome
        for place, outcome in enumerate(each)
    ]
    assert list(table) == wanted
    assert table.has_arrived.tolist() == [outcome.has_arrived for outcome in wanted]


@given(st.lists(outcomes(), min_size=1, max_size=8), st.data())
@settings(deadline=None)
def test_endings_as_columns_are_the_endings(each, data):
    flights = [flight_of(number, device=9 - number, planned=outcome) for number, outcome in enumerate(each, start=1)]
    endings = [
        Ending(flight=flight, outcome=flight.planned, refused=data.draw(st.sampled_from(["", "too late"])))
        for flight in flights
    ]
    table = Endings.of(endings)
    assert list(table) == endings
    assert list(table.in_order()) == in_order(endings)
    assert table.is_merged.tolist() == [ending.is_merged for ending in endings]
    places = data.draw(st.lists(st.integers(0, len(each) - 1)))
    assert list(table.taken(np.array(places, np.int64))) == [endings[place] for place in places]
    assert list(table.refusing(np.array([0]), "no")) == [replace(endings[0], refused="no"), *endings[1:]]


def test_a_flight_of_a_table_is_one_and_the_same():
    flights = [flight_of(number) for number in (4, 5, 6)]
    table = Flights.of(flights)
    assert table[1] is flights[1]
    assert table.taken(np.array([2, 0]))[0] is flights[2]
    assert list(table[1:]) == flights[1:]
    assert table.taken(np.array([2, 0])).taken(np.array([1])).planned[0] == flights[0].planned


TRIPS = st.lists(st.builds(Trip, st.integers(1, 20).map(float), st.booleans()), min_size=1, max_size=12)
PROTOCOLS = {
    "synchronous": Synchronous,
    "deadline": lambda: COMPONENT.build(DeadlineOptions(over_selection=2)),
    "closed": lambda: COMPONENT.build(DeadlineOptions(minimum_wait="3s", maximum_wait="6s", minimum_updates=2)),
}


@pytest.mark.parametrize("name", PROTOCOLS)
@given(TRIPS)
@settings(max_examples=20, deadline=None)
def test_sorties_that_are_foreseen_go_as_those_that_are_watched(name, trips):
    stories = []
    for is_foreseen in (True, False):
        server = FakeServer(trips, devices_per_round=3)
        with pytest.MonkeyPatch.context() as patched:
            if not is_foreseen:
                patched.setattr(Flights, "end_as_planned", False)
            ended_s = run_protocol(PROTOCOLS[name](), server, until_s=None)
        stories.append((ended_s, server.dispatched, server.digests))
    assert stories[0] == stories[1]
