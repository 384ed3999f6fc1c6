"""Laws of the timeline, some against theory."""

import math
from bisect import bisect_right

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_flights import flight_of

from neulite_sim.population.link.throughput import SteppedRate
from neulite_sim.seeding import stream
from neulite_sim.timeline.contract import run_protocol
from neulite_sim.timeline.flights import CAUSES, Conditions, cut_short, planned_outcome
from neulite_sim.timeline.legs import Steady, TracedTransfer
from neulite_sim.timeline.synchronous import Synchronous
from neulite_sim.traces.steps import steps

seconds = st.floats(0, 1e6, allow_nan=False)
phases = st.tuples(seconds, seconds, seconds)


def plan(phases_s, offline_at_s=math.inf, dispatched_s=0.0, **conditions):
    given = {"online_until_s": lambda at_s: offline_at_s, "next_online_s": lambda at_s: math.inf, **conditions}
    return planned_outcome(dispatched_s, legs=tuple(map(Steady, phases_s)), conditions=Conditions(**given))


def paused(phases_s, edges_s, dispatched_s, **conditions):
    """A flight of a device that is online before the first of `edges_s`, offline until the second, and so on."""

    def online_until_s(at_s):
        place = bisect_right(edges_s, at_s)
        return at_s if place % 2 else [*edges_s, math.inf][place]

    def next_online_s(at_s):
        place = bisect_right(edges_s, at_s)
        return [*edges_s, math.inf][place] if place % 2 else at_s

    return plan(phases_s, dispatched_s=dispatched_s, waits_offline=True, online_until_s=online_until_s,
                next_online_s=next_online_s, **conditions)  # fmt: skip


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


# On a grid of 1/64 s all sums of these times are exact, so equality is meant.
ticks = st.integers(0, 64 * 1000).map(lambda tick: tick / 64)
tick_phases = st.tuples(ticks, ticks, ticks)
edges = st.lists(st.integers(1, 64 * 3000), max_size=12, unique=True).map(lambda found: sorted(t / 64 for t in found))


@given(tick_phases, edges, ticks)
def test_a_paused_flight_works_as_long_as_one_without_pauses_and_ends_later_by_the_pauses(phases_s, edges_s, start_s):
    edges_s = edges_s[: len(edges_s) // 2 * 2]
    if bisect_right(edges_s, start_s) % 2:
        edges_s = [edge_s for edge_s in edges_s if edge_s > start_s][1:]
    found, whole = paused(phases_s, edges_s, start_s), plan(phases_s, dispatched_s=start_s)
    assert found.has_arrived
    assert (found.download_s, found.compute_s, found.upload_s) == phases_s
    assert found.ended_s == whole.ended_s + found.waiting_s
    away = list(zip(edges_s[::2], edges_s[1::2], strict=True))
    assert list(found.pauses) == [pause for pause in away if start_s <= pause[0] < found.ended_s]


@given(phases, seconds)
def test_where_the_device_stays_pausing_changes_nothing(phases_s, dispatched_s):
    assert paused(phases_s, [], dispatched_s) == plan(phases_s, dispatched_s=dispatched_s)


@given(tick_phases, st.floats(0, 5000), st.floats(0, 5000))
def test_without_an_end_of_the_pause_a_flight_ends_where_it_would_be_aborted(phases_s, leaves_s, dispatched_s):
    found = paused(phases_s, [dispatched_s + leaves_s], dispatched_s)
    aborted = plan(phases_s, dispatched_s + leaves_s, dispatched_s)
    assert (found.ended_s, found.kind) == (aborted.ended_s, aborted.kind)
    assert (found.download_s, found.compute_s, found.upload_s) == (
        aborted.download_s, aborted.compute_s, aborted.upload_s,
    )  # fmt: skip


@given(tick_phases, st.tuples(*[st.one_of(st.just(math.inf), st.integers(0, 3000).map(float))] * 5))
def test_the_earliest_cause_ends_a_flight_and_an_arrival_at_that_moment_counts(phases_s, moments_s):
    memory_s, battery_s, fails_s, offline_s, timeout_s = moments_s
    found = plan(phases_s, offline_s, memory_short_at_s=memory_s, battery_empty_at_s=battery_s, fails_at_s=fails_s,
                 timeout_at_s=timeout_s)  # fmt: skip
    assert found.ended_s == min(sum(phases_s), *moments_s)
    assert found.has_arrived == (sum(phases_s) <= min(moments_s))
    if not found.has_arrived:
        assert found.reason.split(" during ")[0] == CAUSES[moments_s.index(min(moments_s))]


@given(tick_phases, edges, st.floats(0, 8000), st.floats(0, 8000))
def test_no_time_is_made_or_lost_wherever_a_flight_with_pauses_ends(phases_s, edges_s, timeout_s, cut_s):
    whole = paused(phases_s, edges_s, 0.0, timeout_at_s=timeout_s)
    for found in (whole, cut_short(whole, 0.0, min(cut_s, whole.ended_s), kind="cut", reason="over")):
        worked_s = (found.download_s, found.compute_s, found.upload_s)
        assert all(0 <= spent <= planned for spent, planned in zip(worked_s, phases_s, strict=True))
        assert sum(worked_s) + found.waiting_s == pytest.approx(found.ended_s, abs=1e-9)
        inside = [moment_s for pause in found.pauses for moment_s in pause]
        assert inside == sorted(inside)
        assert max(inside, default=0.0) <= found.ended_s


rates = st.lists(st.integers(0, 50), min_size=1, max_size=6).filter(any)


@given(rates, st.integers(1, 4000), st.integers(0, 40), edges, st.integers(0, 40))
def test_an_interrupted_transfer_passes_its_bits_and_none_more(rates, num_bits, latency_s, edges_s, start_s):
    """One second per rate, over and over: the bits of each working stretch, added up one by one."""
    whole_s = [2.0 * math.ceil(edge_s) for edge_s in dict.fromkeys(map(math.ceil, edges_s))]
    whole_s = [edge_s for edge_s in whole_s if edge_s > start_s]
    away = list(zip(whole_s[::2], whole_s[1::2], strict=False))
    link = SteppedRate(steps=steps(np.arange(len(rates) + 1.0), np.array(rates, float)))
    edges_s = [edge_s for pause in away for edge_s in pause]

    def place(at_s):
        return bisect_right(edges_s, at_s)

    found = planned_outcome(float(start_s), legs=(TracedTransfer(link, float(num_bits), float(latency_s)), Steady(0.0), Steady(0.0)),
                        conditions=Conditions(
                            online_until_s=lambda at_s: [*edges_s, math.inf][place(at_s)],
                            next_online_s=lambda at_s: [*edges_s, math.inf][place(at_s)],
                            waits_offline=True))  # fmt: skip
    left, moment_s, waited = float(num_bits), start_s, 0
    while left > 0:
        if any(start <= moment_s < end for start, end in away):
            moment_s += 1
            continue
        if waited < latency_s:
            waited, moment_s = waited + 1, moment_s + 1
            continue
        rate = rates[moment_s % len(rates)]
        if left <= rate:
            break
        left, moment_s = left - rate, moment_s + 1
    assert found.ended_s == pytest.approx(moment_s + left / rate, abs=1e-6)
    assert found.has_arrived


class Rounds:
    """A server whose flights only compute, for the given seconds, a row per round."""

    def __init__(self, durations):
        self.durations, self.done = durations, 0

    def is_over(self):
        return self.done == len(self.durations)

    def dispatch(self, at_s, *, wanted=None):
        row = self.durations[self.done]
        plans = [plan((0.0, float(s), 0.0), dispatched_s=at_s) for s in row]
        return [flight_of(i, at_s=at_s, planned=planned) for i, planned in enumerate(plans)]

    def train(self, flights):
        pass

    def note_end(self, ending):
        pass

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
