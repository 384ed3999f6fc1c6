"""What becomes of flights that a protocol merges without having said, at their dispatch, that they are trained."""

import pytest
from tiny_scenarios import tiny

from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import SimulationError
from neulite_sim.timeline.endings import ending_of
from neulite_sim.timeline.synchronous import Synchronous


def rounds_that_name_nobody(self, clock, server, launch):
    while not server.is_over():
        flights = server.dispatch(clock.now)
        landings = list(map(launch, flights))
        yield clock.all_of(landings)
        server.digest(list(map(ending_of, flights, landings)), clock.now)


def one_round_late(self, clock, server, launch):
    first, second = (server.dispatch(clock.now, wanted=1) for _ in range(2))
    landings = list(map(launch, (*first, *second)))
    yield clock.all_of(landings)
    for flight, landing in zip((*first, *second), landings, strict=True):
        server.digest([ending_of(flight, landing)], clock.now)


def rounds_of_nothing(self, clock, server, launch):
    yield clock.at(2.0)
    server.digest([], clock.now)


def test_a_digest_of_no_flight_is_refused(monkeypatch):
    monkeypatch.setattr(Synchronous, "process", rounds_of_nothing)
    with pytest.raises(SimulationError, match="the protocol hands over no flight at 2s; digest what has ended"):
        simulate(tiny())


def test_they_are_trained_when_they_are_merged_and_come_to_the_same(monkeypatch):
    named = simulate(tiny()).summary["digest"]
    monkeypatch.setattr(Synchronous, "process", rounds_that_name_nobody)
    assert simulate(tiny()).summary["digest"] == named


def test_they_are_refused_once_the_model_is_another_than_they_were_sent(monkeypatch):
    monkeypatch.setattr(Synchronous, "process", one_round_late)
    with pytest.raises(SimulationError, match=r"synchronous merges flight 2, of which it did not say .* server\.train"):
        simulate(tiny())
