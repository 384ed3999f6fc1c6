"""Flights and synchronous rounds on stories small enough to tell."""

import math

import pytest
import simpy

from neulite_sim.timeline.contract import run_protocol
from neulite_sim.timeline.flights import ARRIVED, DROPPED, fly, plan_flight
from neulite_sim.timeline.synchronous import Synchronous


def plan(flight=1, phases=(1.0, 2.0, 3.0), offline_at_s=math.inf, dispatched_s=0.0):
    return plan_flight(flight=flight, round_number=1, device=flight, submodel="full", dispatched_s=dispatched_s,
                       phases_s=phases, offline_at_s=offline_at_s)  # fmt: skip


class Script:
    """A server that dispatches the given rounds and notes what happens and when."""

    def __init__(self, *rounds, chances=()):
        self.rounds, self.chances, self.log = list(rounds), list(chances), []

    def is_over(self):
        return not self.rounds

    def dispatch(self, at_s):
        if self.rounds[0] is None:
            self.rounds.pop(0)
            return []
        return [plan(number, phases, dispatched_s=at_s) for number, phases in enumerate(self.rounds[0])]

    def digest(self, ended, at_s):
        self.rounds.pop(0)
        self.log.append((at_s, [item.flight for item in ended]))

    def next_chance_s(self, at_s):
        return self.chances.pop(0)


def test_one_device_finishes_after_download_plus_compute_plus_upload():
    found = plan(phases=(1.5, 20.0, 0.25), dispatched_s=100.0)
    assert found.ended_s == 100.0 + 1.5 + 20.0 + 0.25
    assert found.outcome == ARRIVED


@pytest.mark.parametrize(
    ("offline_at_s", "phase", "spent"),
    [(0.5, "download", (0.5, 0, 0)), (1.0, "compute", (1.0, 0, 0)), (2.5, "compute", (1.0, 1.5, 0)),
     (5.5, "upload", (1.0, 2.0, 2.5))],
)  # fmt: skip
def test_a_device_that_goes_offline_drops_its_flight_with_the_phase_as_reason(offline_at_s, phase, spent):
    found = plan(offline_at_s=offline_at_s)
    assert (found.outcome, found.reason) == (DROPPED, f"went offline during {phase}")
    assert (found.download_s, found.compute_s, found.upload_s) == spent
    assert found.ended_s == offline_at_s


def test_a_device_still_online_at_the_moment_its_upload_ends_arrives():
    assert plan(offline_at_s=6.0).has_arrived


def test_the_clock_and_the_plan_agree_to_the_last_bit():
    env = simpy.Environment(initial_time=0.1)
    found = plan(phases=(0.1, 0.2, 0.7), dispatched_s=0.1)
    env.run(until=env.process(fly(env, found)))
    assert env.now == found.ended_s


def test_a_synchronous_round_lasts_as_long_as_its_slowest_flight():
    server = Script([(1, 1, 1), (2, 5, 1), (0, 0, 1)], [(1, 0, 0)])
    ended_s = run_protocol(Synchronous(), server, until_s=None)
    assert server.log == [(8.0, [0, 1, 2]), (9.0, [0])]
    assert ended_s == 9.0


def test_flights_that_end_at_the_same_time_are_digested_in_dispatch_order():
    server = Script([(3, 0, 0), (1, 1, 1), (0, 3, 0)])
    run_protocol(Synchronous(), server, until_s=None)
    assert server.log == [(3.0, [0, 1, 2])]


def test_a_round_without_offers_moves_the_clock_to_the_next_chance():
    server = Script(None, [(1, 1, 1)], chances=[40.0])
    assert run_protocol(Synchronous(), server, until_s=None) == 43.0


def test_the_clock_stops_at_the_end_of_the_virtual_time_and_not_later():
    server = Script([(4, 0, 0)], [(4, 0, 0)], [(4, 0, 0)])
    assert run_protocol(Synchronous(), server, until_s=8.0) == 8.0
    assert server.log == [(4.0, [0])]


def test_a_run_that_ends_before_its_virtual_time_reports_when_it_ended():
    assert run_protocol(Synchronous(), Script([(4, 0, 0)]), until_s=100.0) == 4.0


def test_an_error_in_the_server_reaches_the_caller():
    class Broken(Script):
        def digest(self, ended, at_s):
            raise ValueError("boom")

    for until_s in (None, 50.0):
        with pytest.raises(ValueError, match="boom"):
            run_protocol(Synchronous(), Broken([(1, 1, 1)]), until_s=until_s)
