"""Rounds with over-selection and a deadline, on flights of known lengths."""

import math

import pytest
from fake_server import FakeServer, Trip
from hypothesis import given
from hypothesis import strategies as st
from tiny_scenarios import tiny

from neulite_sim.errors import ScenarioError
from neulite_sim.timeline.contract import run_protocol
from neulite_sim.timeline.deadline import COMPONENT, DeadlineOptions
from neulite_sim.timeline.synchronous import COMPONENT as SYNCHRONOUS
from neulite_sim.timeline.synchronous import SynchronousOptions


def _protocol(**options):
    return COMPONENT.build(DeadlineOptions(**options))


def _run(seconds, *, keep=2, rounds=1, **options):
    trips = [item if isinstance(item, Trip) else Trip(float(item)) for item in seconds]
    server = FakeServer(trips, rounds=rounds, devices_per_round=keep)
    ended_s = run_protocol(_protocol(**options), server, until_s=None)
    return server, ended_s


def test_the_first_k_of_the_asked_are_kept_and_the_round_ends_with_the_last_of_them():
    """methods.md, section 9: durations 3, 1, 2, 9 and K = 2 of 4 give a round of 2 s without flights 1 and 4."""
    server, ended_s = _run([3, 1, 2, 9], over_selection=2)
    assert ended_s == 2
    assert server.merged() == [(2.0, [2, 3])]
    assert server.reasons() == {1: "slower than the first 2", 4: "slower than the first 2"}


def test_stragglers_end_with_the_round_and_have_worked_until_then():
    server, _ = _run([3, 1, 2, 9], over_selection=2)
    lost = [item.outcome for _, ended in server.digests for item in ended if not item.is_merged]
    assert [(found.ended_s, found.compute_s, found.kind) for found in lost] == [(2.0, 2.0, "dropped")] * 2


def test_only_flights_that_will_be_kept_are_trained():
    server, _ = _run([3, 1, 2, 9], over_selection=2)
    assert server.trained == [[2, 3]]


@pytest.mark.parametrize(("keep", "over_selection", "asked"), [(10, 1.3, 13), (10, 1.1, 11), (3, 1.3, 4), (5, 1.0, 5)])
def test_as_many_are_asked_as_the_factor_says_rounded_up(keep, over_selection, asked):
    assert _protocol(over_selection=over_selection).wanted(keep) == asked


def test_at_the_deadline_what_has_arrived_is_merged():
    server, ended_s = _run([1, 8, 9], over_selection=1.5, maximum_wait="4s")
    assert ended_s == 4
    assert server.merged() == [(4.0, [1])]
    assert server.reasons() == {2: "missed the deadline", 3: "missed the deadline"}


def test_an_update_that_arrives_at_the_very_deadline_is_in_time():
    server, _ = _run([1, 4, 9], keep=3, over_selection=1, maximum_wait="4s")
    assert server.merged() == [(4.0, [1, 2])]


def test_within_the_minimum_wait_everybody_who_arrives_is_kept():
    server, ended_s = _run([1, 2, 3, 9], over_selection=2, minimum_wait="3s")
    assert ended_s == 3
    assert server.merged() == [(3.0, [1, 2, 3])]


def test_nobody_is_waited_for_when_all_have_ended():
    server, ended_s = _run([1, Trip(2.0, arrives=False)], over_selection=1, minimum_wait="1h", maximum_wait="2h")
    assert ended_s == 2
    assert server.merged() == [(2.0, [1])]


def test_with_too_few_updates_the_round_is_extended_to_the_minimum():
    server, ended_s = _run([5, 1, 7, 9], over_selection=2, maximum_wait="2s", minimum_updates=2)
    assert ended_s == 5
    assert server.merged() == [(5.0, [1, 2])]
    assert set(server.reasons()) == {3, 4}
    assert sorted(server.trained[0]) == [1, 2]


def test_an_extended_round_does_not_wait_for_more_than_the_minimum():
    server, ended_s = _run([5, 1, 7, 9, 11], keep=4, over_selection=1.25, maximum_wait="2s", minimum_updates=2)
    assert ended_s == 5
    assert server.merged() == [(5.0, [1, 2])]


def test_an_extended_round_ends_when_nobody_is_left():
    server, ended_s = _run([1, Trip(6.0, arrives=False)], over_selection=1, maximum_wait="2s", minimum_updates=2)
    assert ended_s == 6
    assert server.merged() == [(6.0, [1])]


def test_with_too_few_updates_the_round_is_aborted_and_merges_nothing():
    server, ended_s = _run([5, 1, 7], over_selection=1.5, maximum_wait="2s", minimum_updates=2, too_few="abort")
    assert ended_s == 2
    assert server.merged() == [(2.0, [])]
    aborted = "the round was aborted: 1 of at least 2 updates arrived in time"
    assert server.reasons() == {1: "missed the deadline", 2: aborted, 3: "missed the deadline"}
    assert server.trained == [[]]


def test_of_updates_at_the_same_moment_those_dispatched_first_are_kept():
    server, _ = _run([2, 2, 2], over_selection=1.5)
    assert server.merged() == [(2.0, [1, 2])]
    assert server.reasons() == {3: "slower than the first 2"}


def test_a_minimum_wait_beyond_the_deadline_is_refused():
    with pytest.raises(ValueError, match="minimum_wait 10s is above maximum_wait 5s; swap them"):
        DeadlineOptions(minimum_wait="10s", maximum_wait="5s")


lengths = st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=2, max_size=12)


@given(lengths)
def test_a_deadline_that_nobody_misses_is_a_synchronous_round(flights):
    trips = [Trip(float(seconds), arrives) for seconds, arrives in flights]
    runs = []
    for protocol in (_protocol(over_selection=1), SYNCHRONOUS.build(SynchronousOptions())):
        server = FakeServer(trips)
        ended_s = run_protocol(protocol, server, until_s=None)
        runs.append((ended_s, server.dispatched, server.digests))
    assert runs[0] == runs[1]


@given(lengths, st.integers(1, 4), st.floats(1, 3), st.integers(0, 20), st.integers(1, 25), st.integers(1, 3))
def test_what_is_foreseen_at_dispatch_is_what_is_merged(flights, keep, factor, minimum, more, few):
    trips = [Trip(float(seconds), arrives) for seconds, arrives in flights]
    for too_few in ("extend", "abort"):
        server = FakeServer(trips, devices_per_round=keep)
        options = {"over_selection": factor, "minimum_wait": minimum, "maximum_wait": minimum + more}
        protocol = _protocol(**options, minimum_updates=few, too_few=too_few)
        ended_s = run_protocol(protocol, server, until_s=None)
        assert [sorted(merged) for _, merged in server.merged()] == server.trained
        assert math.isfinite(ended_s)
        assert sum(len(ended) for _, ended in server.digests) == len(trips)


@pytest.mark.parametrize(("minimum", "keep"), [(4, 3), (100, 99), (2, 1)])
def test_a_round_that_waits_for_more_updates_than_it_keeps_is_refused(minimum, keep):
    changes = (f"selection.devices_per_round={keep}", f"protocol={{kind: deadline, minimum_updates: {minimum}}}")
    message = (
        rf"protocol\.minimum_updates: is {minimum}, but a round keeps the first {keep} updates "
        rf"\(selection\.devices_per_round\); use 1 to {keep}, or raise selection\.devices_per_round"
    )
    with pytest.raises(ScenarioError, match=message):
        tiny(*changes)
    assert tiny(changes[0], f"protocol={{kind: deadline, minimum_updates: {keep}}}").protocol.options
