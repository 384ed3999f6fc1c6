"""Flights that share the server's link, by hand: bits, rates and pauses that add up on paper."""

import math

import pytest
from made_flights import flight_of

from neulite_sim.timeline.clock import Clock
from neulite_sim.timeline.flights import Conditions, Departure, Load, planned_outcome
from neulite_sim.timeline.legs import Steady
from neulite_sim.timeline.shared_flights import ServerLinks, SharedLanding
from neulite_sim.timeline.shared_link import SharedLink


def conditions(windows=((0.0, math.inf),), **ends):
    """A device that is online in `windows`."""

    def online_until_s(at_s):
        return next((end for start, end in windows if start <= at_s < end), at_s)

    def next_online_s(at_s):
        return next((max(start, at_s) for start, end in windows if at_s < end), math.inf)

    return Conditions(online_until_s=online_until_s, next_online_s=next_online_s, **ends)


def flight(number=1, *, down=10.0, up=10.0, compute_s=3.0, limit=10.0, latency_s=0.0, at_s=0.0, where=None):
    """A flight of `down` and `up` bits over a link of `limit` bits per second."""
    found = where or conditions()
    legs = (Steady(latency_s + down / limit), Steady(compute_s), Steady(latency_s + up / limit))
    alone = planned_outcome(at_s, legs=legs, conditions=found)
    loads = [Load(num_bits=bits, limit_bits_per_second=limit, latency_s=latency_s) for bits in (down, up)]
    departure = Departure(legs=legs, conditions=found, down=loads[0], up=loads[1])
    return flight_of(number, at_s=at_s, planned=alone, departure=departure)


def fly(*given, down=None, up=None, interrupts=()):
    """Launch flights at their dispatch and return their outcomes; `interrupts` are (flight's place, moment)."""
    clock = Clock()
    links = ServerLinks(
        down=None if down is None else SharedLink(clock, down), up=None if up is None else SharedLink(clock, up)
    )
    flights = []

    def launcher():
        for item in given:
            yield clock.at(item.dispatched_s)
            flights.append(SharedLanding(clock, item, links))

    def interrupter():
        for place, at_s in interrupts:
            yield clock.at(at_s)
            flights[place].interrupt("the round was closed")

    clock.process(launcher())
    clock.process(interrupter())
    clock.run()
    return [flight.value for flight in flights]


def phases(found):
    return found.download_s, found.compute_s, found.upload_s


def test_a_flight_that_is_alone_on_a_wide_link_ends_as_planned():
    item = flight(latency_s=0.5)
    (found,) = fly(item, down=1000.0, up=1000.0)
    assert (phases(found), found.ended_s, found.kind) == (phases(item.planned), item.planned.ended_s, "arrived")
    assert phases(found) == (1.5, 3.0, 1.5)


def test_two_downloads_share_the_link_of_the_server():
    found = fly(flight(1), flight(2), down=10.0)
    assert [phases(item) for item in found] == [(2.0, 3.0, 1.0)] * 2
    assert [item.ended_s for item in found] == [6.0, 6.0]


def test_the_second_comes_when_half_of_the_first_has_passed():
    """10 bits/s for the first second, then half each: the first ends at 1 + 10/5 s... of its 20 bits; then all again."""
    found = fly(flight(1, down=20.0), flight(2, down=20.0, at_s=1.0), down=10.0)
    assert [item.download_s for item in found] == [3.0, 3.0]


def test_uploads_share_their_own_direction_alone():
    found = fly(flight(1, compute_s=1.0), flight(2, compute_s=1.0), up=10.0)
    assert [phases(item) for item in found] == [(1.0, 1.0, 2.0)] * 2


def test_the_link_of_a_device_limits_it_too():
    found = fly(flight(1, limit=2.0), flight(2, limit=10.0), down=10.0)
    assert [item.download_s for item in found] == [5.0, 1.25]


def test_a_device_that_leaves_during_its_transfer_is_dropped_and_gives_its_rate_back():
    leaving = flight(1, where=conditions(((0.0, 1.0),)))
    found = fly(leaving, flight(2), down=10.0)
    assert (found[0].kind, found[0].reason, found[0].ended_s) == ("dropped", "went offline during download", 1.0)
    # 5 bits in the first second, 5 more at the full rate.
    assert found[1].download_s == 1.5


def test_a_device_whose_last_bit_passes_as_it_leaves_has_passed_it():
    found = fly(flight(1, compute_s=1.0, up=10.0, where=conditions(((0.0, 3.0),))), down=10.0, up=10.0)
    assert (found[0].kind, found[0].ended_s) == ("arrived", 3.0)


def test_a_paused_transfer_waits_without_its_rate_and_goes_on():
    away = conditions(((0.0, 0.5), (4.0, math.inf)), waits_offline=True)
    found = fly(flight(1, where=away), flight(2), down=10.0)
    # Half a second at half the rate; the other has the link to itself until it has its 10 bits.
    assert found[1].download_s == 1.25
    assert found[0].pauses == ((0.5, 4.0),)
    assert found[0].download_s == pytest.approx(0.5 + 0.75)
    assert found[0].ended_s == pytest.approx(4.75 + 3.0 + 1.0)


def test_a_paused_computation_stands_in_the_pauses_as_well():
    away = conditions(((0.0, 2.0), (5.0, math.inf)), waits_offline=True)
    (found,) = fly(flight(1, where=away), down=10.0)
    assert phases(found) == (1.0, 3.0, 1.0)
    assert found.pauses == ((2.0, 5.0),)
    assert found.ended_s == 8.0


def test_a_device_that_never_comes_back_is_dropped_when_it_left():
    gone = conditions(((0.0, 0.5),), waits_offline=True)
    (found,) = fly(flight(1, where=gone), down=10.0)
    assert (found.reason, found.ended_s) == ("went offline and did not come back during download", 0.5)


@pytest.mark.parametrize(
    ("ends", "reason", "at_s"),
    [
        ({"timeout_at_s": 1.5}, "timed out during download", 1.5),
        ({"fails_at_s": 3.0}, "failed during compute", 3.0),
        ({"memory_short_at_s": 5.25}, "out of memory during upload", 5.25),
    ],
)
def test_a_crowded_link_makes_flights_meet_the_ends_they_would_have_escaped(ends, reason, at_s):
    item = flight(1, where=conditions(**ends))
    found = fly(item, flight(2), down=10.0, up=10.0)[0]
    assert (found.kind, found.reason, found.ended_s) == ("dropped", reason, at_s)
    assert math.fsum(phases(found)) == at_s


def test_an_interrupt_ends_a_flight_in_any_leg_and_frees_the_link():
    for at_s, spent in ((0.5, (0.5, 0.0, 0.0)), (3.0, (2.0, 1.0, 0.0)), (5.5, (2.0, 3.0, 0.5))):
        found = fly(flight(1), flight(2), down=10.0, up=10.0, interrupts=((0, at_s),))
        assert (found[0].kind, found[0].reason, found[0].ended_s) == ("dropped", "the round was closed", at_s)
        assert phases(found[0]) == spent
        assert found[1].kind == "arrived"
    # Of the last: half a second of its upload at half the rate, the rest alone.
    assert found[1].upload_s == 0.5 + 0.75


def test_an_interrupt_during_a_pause_keeps_the_pause():
    away = conditions(((0.0, 0.5), (9.0, math.inf)), waits_offline=True)
    (found,) = fly(flight(1, where=away), down=10.0, interrupts=((0, 2.0),))
    assert (found.pauses, found.ended_s, found.download_s) == (((0.5, 2.0),), 2.0, 0.5)


def come_so_far(*given, at_s, down=10.0, up=10.0):
    """Launch flights at once, stop the clock at a moment, and return how far each has come."""
    clock = Clock()
    links = ServerLinks(down=SharedLink(clock, down), up=SharedLink(clock, up))
    landings = [SharedLanding(clock, item, links) for item in given]
    clock.run(until=at_s)
    return [landing.so_far() for landing in landings]


@pytest.mark.parametrize(
    ("at_s", "spent"),
    [(0.5, (0.5, 0.0, 0.0)), (2.0, (2.0, 0.0, 0.0)), (3.0, (2.0, 1.0, 0.0)), (6.5, (2.0, 3.0, 1.5))],
)
def test_a_flight_that_is_still_out_has_come_as_far_as_its_link_let_it(at_s, spent):
    """Alone each would have its download after a second; two of them share the link and take two."""
    for found in come_so_far(flight(1), flight(2), at_s=at_s):
        assert (phases(found), found.ended_s, found.kind, found.pauses) == (spent, at_s, "cut", ())


def test_a_flight_that_is_still_out_and_waits_has_waited_until_now():
    away = conditions(((0.0, 0.5), (9.0, math.inf)), waits_offline=True)
    (found,) = come_so_far(flight(1, where=away), at_s=2.0)
    assert (phases(found), found.pauses, found.waiting_s) == ((0.5, 0.0, 0.0), ((0.5, 2.0),), 1.5)


def test_a_flight_that_has_ended_has_come_to_its_end():
    (found,) = come_so_far(flight(1), at_s=50.0)
    assert (phases(found), found.ended_s, found.kind) == ((1.0, 3.0, 1.0), 5.0, "arrived")


def test_looking_at_a_flight_changes_nothing_of_it():
    clock = Clock()
    links = ServerLinks(down=SharedLink(clock, 10.0), up=None)
    landings = [SharedLanding(clock, flight(number), links) for number in (1, 2)]
    for _ in range(2):
        clock.run(until=clock.now + 0.75)
        assert landings[0].so_far() == landings[0].so_far()
    clock.run()
    assert [phases(landing.value) for landing in landings] == [(2.0, 3.0, 1.0)] * 2
