"""FedAsync and FedBuff on flights of known lengths; the numbers are those of methods.md, section 9."""

import pytest
from fake_server import NO_TRIPS, FakeServer, Trip
from hypothesis import given, settings
from hypothesis import strategies as st

from neulite_sim.errors import SimulationError
from neulite_sim.timeline.asynchronous import (
    FEDASYNC,
    FEDBUFF,
    FedAsyncOptions,
    FedBuffOptions,
    HingeStaleness,
    PolynomialStaleness,
)
from neulite_sim.timeline.contract import run_protocol


def _run(component, options, trips, **fields):
    server = FakeServer([item if isinstance(item, Trip) else Trip(float(item)) for item in trips], **fields)
    return server, _drive(component, options, server)


def _drive(component, options, server):
    """Run until the server is satisfied, or its trips are over."""
    try:
        return run_protocol(component.build(options), server, until_s=None)
    except SimulationError as over:
        if str(over) != NO_TRIPS:
            raise
        return None


def _mixings(server):
    return [[item.mixing for item in ended if item.is_merged] for _, ended in server.digests]


def test_polynomial_staleness_is_a_power():
    factors = [PolynomialStaleness(a=0.5).factor(staleness) for staleness in (0, 1, 3, 8)]
    assert factors == pytest.approx([1, 0.70710678, 0.5, 1 / 3], abs=1e-8)


def test_hinge_staleness_is_one_up_to_b_and_then_a_hyperbola():
    factors = [HingeStaleness(a=10, b=4).factor(staleness) for staleness in (0, 4, 5, 8)]
    assert factors == [1, 1, 1 / 11, 1 / 41]


def test_fedasync_aggregates_on_every_arrival_and_dispatches_anew():
    server, _ = _run(FEDASYNC, FedAsyncOptions(), [3, 1, 1, 5], devices_per_round=2)
    assert server.dispatched == [(0.0, [1, 2]), (1.0, [3]), (2.0, [4])]
    assert server.merged() == [(1.0, [2]), (2.0, [3]), (3.0, [1]), (7.0, [4])]


def test_staleness_counts_the_aggregations_since_the_dispatch():
    server, _ = _run(FEDASYNC, FedAsyncOptions(mixing_rate=0.6), [3, 1, 1, 5], devices_per_round=2)
    # Flight 1 was in the air during two aggregations, flight 4 during one.
    rates = [mixing.rate for (mixing,) in _mixings(server)]
    assert rates == pytest.approx([0.6, 0.6, 0.6 / 3**0.5, 0.6 / 2**0.5])


def test_arrivals_at_the_same_moment_are_applied_in_the_order_of_dispatch_and_before_new_dispatches():
    server, _ = _run(FEDASYNC, FedAsyncOptions(), [2, 2, 2, 1], devices_per_round=3)
    assert server.merged()[:3] == [(2.0, [1]), (2.0, [2]), (2.0, [3])]
    assert server.dispatched == [(0.0, [1, 2, 3]), (2.0, [4])]
    assert [mixing.rate for (mixing,) in _mixings(server)][:3] == pytest.approx([0.6, 0.6 / 2**0.5, 0.6 / 3**0.5])


def test_fedbuff_aggregates_when_the_buffer_is_full_and_keeps_the_number_in_flight():
    server, _ = _run(FEDBUFF, FedBuffOptions(buffer_size=2), [3, 1, 1, 5], devices_per_round=2)
    assert server.dispatched == [(0.0, [1, 2]), (1.0, [3]), (2.0, [4])]
    assert server.merged() == [(2.0, [2, 3]), (7.0, [1, 4])]


def test_fedbuff_weighs_by_staleness_and_steps_from_what_was_sent():
    server, _ = _run(FEDBUFF, FedBuffOptions(buffer_size=2), [3, 1, 1, 5], devices_per_round=2)
    second = _mixings(server)[1]
    assert [mixing.anchor for mixing in second] == ["own", "own"]
    # Flight 1 left before the first aggregation, flight 4 at it but after.
    assert [mixing.rate for mixing in second] == pytest.approx([2**-0.5, 1.0])


def test_normalised_all_go_by_the_server_rate_and_the_stale_weigh_less_in_the_mean():
    options = FedBuffOptions(buffer_size=2, normalise=True, server_rate=0.5)
    server, _ = _run(FEDBUFF, options, [3, 1, 1, 5], devices_per_round=2)
    first, second = _mixings(server)
    assert [mixing.weight for mixing in first] == [1.0, 1.0]
    assert [mixing.rate for mixing in second] == [0.5, 0.5]
    assert [mixing.weight for mixing in second] == pytest.approx([2**-0.5, 1.0])


def test_dropped_flights_free_their_place_and_do_not_fill_the_buffer():
    trips = [Trip(1.0, arrives=False), 2, 4, 1]
    server, _ = _run(FEDBUFF, FedBuffOptions(buffer_size=2), trips, devices_per_round=2)
    assert server.dispatched == [(0.0, [1, 2]), (1.0, [3]), (2.0, [4])]
    assert server.merged() == [(3.0, [2, 4])]
    assert server.reasons() == {1: "lost"}


def test_updates_that_are_too_stale_are_discarded_and_counted():
    options = FedAsyncOptions(maximum_staleness=1)
    server, _ = _run(FEDASYNC, options, [9, 1, 1, 1, 1], devices_per_round=2)
    assert [merged for _, merged in server.merged()] == [[2], [3], [4], [5]]


def test_a_discarded_update_is_handed_over_with_the_next_aggregation():
    options = FedAsyncOptions(maximum_staleness=1)
    server, _ = _run(FEDASYNC, options, [3.5, 1, 1, 1, 1, 1], devices_per_round=2, rounds=5)
    assert server.reasons() == {1: "discarded: staleness 3 is above 1"}


def test_updates_of_a_stage_that_is_over_are_discarded_where_asked():
    trips = [Trip(1.5, stage="a"), Trip(1.0, stage="a"), Trip(1.0, stage="b"), Trip(1.0, stage="a")]
    fields = {"devices_per_round": 2, "stages": ("a", "b"), "rounds": 2}
    server, _ = _run(FEDASYNC, FedAsyncOptions(other_stage="discard"), trips, **fields)
    assert server.reasons() == {1: "discarded: of a, while the server is at b"}
    merging, _ = _run(FEDASYNC, FedAsyncOptions(), trips, **fields)
    assert merging.merged() == [(1.0, [2]), (1.5, [1])]


def test_staleness_is_that_of_the_own_stage():
    trips = [Trip(3.0, stage="b"), Trip(1.0, stage="a"), Trip(1.0, stage="a")]
    server, _ = _run(FEDASYNC, FedAsyncOptions(staleness="polynomial"), trips, devices_per_round=2)
    assert [mixing.rate for (mixing,) in _mixings(server)] == [0.6, 0.6, 0.6]


def test_a_run_in_which_nothing_ever_arrives_ends_with_a_message():
    trips = [Trip(1.0, arrives=False)] * 2500
    message = "no update has arrived in the last 2002 flights, until virtual time 16m 41s; flights.csv has the reasons"
    with pytest.raises(SimulationError, match=message):
        _run(FEDASYNC, FedAsyncOptions(), trips, devices_per_round=2)


flights = st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=20)


@settings(max_examples=30)
@given(flights)
def test_fedbuff_with_one_in_flight_and_a_buffer_of_one_is_fedasync_with_the_same_rate(found):
    """Nothing is ever stale then, and what was sent is the current model: only the anchor's name differs."""
    trips = [Trip(float(seconds), arrives) for seconds, arrives in found]
    runs = []
    for component, options in (
        (FEDBUFF, FedBuffOptions(concurrency=1, buffer_size=1, server_rate=0.6)),
        (FEDASYNC, FedAsyncOptions(concurrency=1, mixing_rate=0.6)),
    ):
        server, ended_s = _run(component, options, [*trips, Trip(1.0)])
        runs.append((ended_s, server.dispatched, server.merged(), [[m.rate for m in row] for row in _mixings(server)]))
    assert runs[0] == runs[1]


@given(flights, st.integers(1, 5), st.integers(1, 4))
def test_never_more_fly_than_allowed_and_every_flight_is_taken_once(found, concurrency, size):
    trips = [Trip(float(seconds), arrives) for seconds, arrives in found]
    server = FakeServer(trips)
    options = FedBuffOptions(concurrency=concurrency, buffer_size=size)
    lives = []
    original = server.dispatch

    def dispatch(at_s, **wanted):
        flights = original(at_s, **wanted)
        lives.extend((flight.dispatched_s, flight.planned.ended_s) for flight in flights)
        return flights

    server.dispatch = dispatch
    _drive(FEDBUFF, options, server)
    for at_s, _ in lives:
        assert sum(start_s <= at_s < end_s for start_s, end_s in lives) <= concurrency
    handed = [item.flight.number for _, ended in server.digests for item in ended]
    assert len(handed) == len(set(handed))
    assert all(len([item for item in ended if item.is_merged]) == size for _, ended in server.digests)
