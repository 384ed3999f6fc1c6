"""Laws of the timeline, some against theory."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neulite_sim.seeding import stream
from neulite_sim.timeline.contract import run_protocol
from neulite_sim.timeline.flights import plan_flight
from neulite_sim.timeline.synchronous import Synchronous

seconds = st.floats(0, 1e6, allow_nan=False)
phases = st.tuples(seconds, seconds, seconds)


def plan(phases_s, offline_at_s=math.inf, dispatched_s=0.0, flight=0):
    return plan_flight(flight=flight, round_number=1, device=flight, submodel="full", dispatched_s=dispatched_s,
                       phases_s=phases_s, offline_at_s=offline_at_s)  # fmt: skip


@given(phases, seconds, seconds)
def test_a_flight_ends_no_later_than_planned_and_no_later_than_its_device_leaves(phases_s, dispatched_s, online_for_s):
    offline_at_s = dispatched_s + online_for_s
    whole, found = plan(phases_s, dispatched_s=dispatched_s), plan(phases_s, offline_at_s, dispatched_s)
    assert dispatched_s <= found.ended_s <= max(whole.ended_s, dispatched_s)
    assert found.has_arrived == (whole.ended_s <= offline_at_s)
    if not found.has_arrived:
        assert found.ended_s == pytest.approx(offline_at_s)
    spent = found.download_s + found.compute_s + found.upload_s
    assert found.ended_s - dispatched_s == pytest.approx(spent, abs=1e-6)


class Rounds:
    """A server whose flights only compute, for the given seconds, a row per round."""

    def __init__(self, durations):
        self.durations, self.done = durations, 0

    def is_over(self):
        return self.done == len(self.durations)

    def dispatch(self, at_s):
        row = self.durations[self.done]
        return [plan((0.0, float(s), 0.0), dispatched_s=at_s, flight=i) for i, s in enumerate(row)]

    def digest(self, ended, at_s):
        self.done += 1

    def next_chance_s(self, at_s):
        raise AssertionError("somebody is always there")


@given(st.lists(st.lists(st.floats(0.001, 1e3), min_size=1, max_size=5), min_size=1, max_size=6))
def test_synchronous_time_is_the_sum_of_the_slowest_flights(durations):
    assert run_protocol(Synchronous(), Rounds(durations), until_s=None) == pytest.approx(sum(map(max, durations)))


def test_mean_round_time_over_exponential_speeds_matches_the_order_statistics_formula():
    """The expected maximum of K exponentials of mean m is m * (1 + 1/2 + ... + 1/K), variance m^2 * sum 1/k^2.

    2000 rounds of 10 devices: four standard errors are allowed.
    """
    count, rounds, mean_s = 10, 2000, 30.0
    durations = stream(7, "order-statistics").exponential(mean_s, size=(rounds, count))
    expected = mean_s * sum(1 / k for k in range(1, count + 1))
    error = mean_s * math.sqrt(sum(1 / k**2 for k in range(1, count + 1)) / rounds)
    measured = run_protocol(Synchronous(), Rounds(durations), until_s=None) / rounds
    assert abs(measured - expected) < 4 * error
    assert measured == pytest.approx(np.mean(durations.max(axis=1)))
