"""The shared link on transfers that can be followed by hand. Rates in bits per second."""

import math

import pytest
import simpy
from simpy.events import URGENT

from neulite_sim.timeline.clock import Clock
from neulite_sim.timeline.shared_link import SharedLink


class Story:
    """A link, what happens on it at which moment, and when its transfers ended, by number."""

    def __init__(self, capacity, start_s=0.0):
        self.clock = Clock(initial_time=start_s)
        self.link = SharedLink(self.clock, capacity)
        self.transfers, self.ended_s, self.told = [], {}, []

    def at(self, at_s, action):
        self.clock.at(at_s).callbacks.append(lambda _: self.told.append(action()))
        return self

    def begin(self, at_s, num_bits, limit=math.inf):
        return self.at(at_s, lambda: self._begin(num_bits, limit))

    def _begin(self, num_bits, limit):
        transfer = self.link.transfer(num_bits, limit)
        self.transfers.append(transfer)
        transfer.callbacks.append(lambda event: self.ended_s.update({event.number: self.clock.now}))

    def run(self, until_s=1e3):
        self.clock.run(until=until_s)
        return self.ended_s


def test_a_transfer_alone_takes_its_bits_over_the_capacity():
    assert Story(10e6).begin(0, 20e6).run() == {0: 2.0}


def test_a_transfer_alone_runs_at_its_own_limit_where_that_is_lower():
    assert Story(10e6).begin(0, 20e6, limit=4e6).run() == {0: 5.0}


def test_two_equal_transfers_share_the_link_and_end_together():
    assert Story(10e6).begin(0, 10e6).begin(0, 10e6).run() == {0: 2.0, 1: 2.0}


def test_one_that_begins_later_halves_the_rate_of_the_first():
    # 0 to 1 s: 10 Mb of the first's 20. Then 5 Mb/s each: both lack 10 Mb, both end 2 s later.
    assert Story(10e6).begin(0, 20e6).begin(1, 10e6).run() == {0: 3.0, 1: 3.0}


def test_one_that_ends_first_leaves_its_rate_to_the_other():
    # 5 Mb/s each for 2 s; the second then has 20 of its 30 Mb left and the whole link.
    assert Story(10e6).begin(0, 10e6).begin(0, 30e6).run() == {0: 2.0, 1: 4.0}


def test_what_a_slow_device_cannot_use_goes_to_the_others():
    # Water-filling 12 over limits 2, 5 and none: 2, then (12 - 2) / 2 = 5 for each of the others.
    story = Story(12.0).begin(0, 100, limit=2).begin(0, 100, limit=5).begin(0, 100)
    story.at(1, lambda: [story.link.rate_bits_per_second(each) for each in story.transfers])
    assert story.run()[0] == 50.0
    assert story.told[-1] == [2.0, 5.0, 5.0]


def test_the_level_falls_below_limits_that_did_not_bind_before():
    # Limits 4 and 6 fill the link of 10 alone. A third makes the level 10 / 3, below both; when it has passed its
    # 10 bits at 3 s, 4 and 6 act again: 90 bits left each, at 4 and 6 bits/s.
    story = Story(10.0).begin(0, 100, limit=4).begin(0, 100, limit=6).begin(0, 10)
    ended_s = story.run()
    assert ended_s == pytest.approx({2: 3.0, 1: 18.0, 0: 25.5}, rel=1e-12)


def test_limits_below_the_level_bind_one_by_one_as_transfers_end():
    # Three at 2 of 6 for 1 s; then two at 3; then the last at its limit 4, not at 6.
    story = Story(6.0).begin(0, 2).begin(0, 5, limit=5).begin(0, 13, limit=4)
    assert story.run() == {0: 1.0, 1: 2.0, 2: 4.0}


def test_a_cancelled_transfer_gives_its_rate_back_and_never_ends():
    story = Story(10.0).begin(0, 20).begin(0, 20)
    story.at(2, lambda: story.link.cancel(story.transfers[0]))
    assert story.run() == {1: 3.0}
    assert story.told[-1] == 10.0
    assert (story.link.left_bits(story.transfers[0]), story.link.num_active) == (10.0, 0)


def test_a_paused_transfer_keeps_what_has_passed_and_gives_its_rate_to_the_others():
    # 5 each for 1 s, the second alone at 10 from 1 to 2 s and done with its 15; the first goes on at 4 s with 5 left.
    story = Story(10.0).begin(0, 10).begin(0, 15)
    story.at(1, lambda: story.link.pause(story.transfers[0]))
    story.at(3, lambda: (story.link.rate_bits_per_second(story.transfers[0]), story.link.num_active))
    story.at(4, lambda: story.link.resume(story.transfers[0]))
    assert story.run() == {1: 2.0, 0: 4.5}
    assert story.told[2:4] == [5.0, (0.0, 0)]


def test_a_paused_transfer_can_be_cancelled():
    story = Story(10.0).begin(0, 10)
    story.at(0.5, lambda: story.link.pause(story.transfers[0]))
    story.at(0.75, lambda: story.link.cancel(story.transfers[0]))
    assert story.run() == {}
    assert story.told[-1] == 5.0


def test_what_is_left_can_be_asked_for_between_two_changes():
    story = Story(10.0).begin(0, 100, limit=2).begin(0, 100)
    story.at(5, lambda: [story.link.left_bits(each) for each in story.transfers])
    story.run(until_s=6)
    assert story.told[-1] == [90.0, 60.0]


def test_a_transfer_of_nothing_ends_at_once_and_takes_nothing_from_the_others():
    assert Story(10.0).begin(0, 20).begin(1, 0).run() == {1: 1, 0: 2.0}


def test_transfers_that_end_at_the_same_moment_end_in_the_order_of_their_numbers():
    # The first two run at limits of their own, the last two at the level: all four end at 2 s.
    story = Story(10.0).begin(0, 8).begin(0, 2, limit=1).begin(0, 8).begin(0, 2, limit=1)
    assert list(story.run().items()) == [(0, 2.0), (1, 2.0), (2, 2.0), (3, 2.0)]


def test_the_last_bit_passes_before_anything_else_happens_at_that_moment():
    story = Story(10.0).begin(0, 10)
    story.at(1.0, lambda: story.link.cancel(story.transfers[0]))  # a device that leaves at the very end
    assert story.run() == {0: 1.0}
    assert story.told[-1] == 0.0


def test_who_waits_for_a_transfer_hears_of_its_end_before_anything_else_at_that_moment():
    clock, told = Clock(), []
    link = SharedLink(clock, 10.0)
    clock.at(1.0).callbacks.append(lambda _: told.append("offline"))
    link.transfer(10.0).callbacks.append(lambda _: told.append("passed"))
    clock.run(until=2.0)
    assert told == ["passed", "offline"]


def test_ends_that_rounding_puts_on_one_moment_are_in_the_order_of_numbers():
    # The clock counts whole seconds here. The third ends at 0.3 s, the second a little later, the first would at
    # 0.6 s, but has the link to itself now and 0.2 s to go: all that is 0.
    story = Story(1e8, 2.0**52)
    story.at(2.0**52, lambda: [story._begin(num_bits, math.inf) for num_bits in (2e7, 1.2e7, 1e7)])
    assert list(story.run(until_s=2.0**52 + 4).items()) == [(number, 2.0**52) for number in range(3)]


def test_the_queue_holds_few_events_however_often_rates_change():
    clock = Clock()
    link = SharedLink(clock, 100.0)
    for _ in range(100):
        link.transfer(1e6)
    assert len(clock._queue) == 1
    for number in range(100):
        link.cancel(link.transfer(1 / (1 + number)))  # each of them would have been the next to end
    clock.run(until=1e3)
    assert sum(at_s > 1e3 for at_s, *_ in clock._queue) == 2  # of the first transfer alone, and of all


@pytest.mark.parametrize("limit", [7e6, math.inf])
@pytest.mark.parametrize("change", ["pause", "transfer"])
def test_a_change_just_before_the_last_bit_at_its_very_moment_leaves_nothing_below_zero(limit, change):
    # The end is a moment of a clock that ticks in 1.2e-7 s, after the exact one for about half of the transfers.
    for tenths in range(1, 30):
        story = Story(1e8, 1e9)
        story.link.transfer(1e12)
        transfer = story.link.transfer(tenths * 1e6, limit)
        first = story.clock.at(story.link._next_s, priority=URGENT)
        story.link._set_wake()  # so that the link's own wake is behind the other event
        first.callbacks.append(lambda _, story=story, each=transfer: story.told.append(story.link.left_bits(each)))
        argument = transfer if change == "pause" else 1.0
        first.callbacks.append(lambda _, story=story, one=argument: story.told.append(getattr(story.link, change)(one)))
        story.run(until_s=1e9 + 100)
        assert 0.0 <= story.told[0] < 100.0
        assert transfer.triggered if change == "transfer" else story.told[1] == story.told[0]


@pytest.mark.parametrize("change", ["pause", "transfer"])
def test_rounding_leaves_nothing_below_zero_at_the_end_of_a_transfer_at_the_level(change):
    # 5e8 bits passed by two others make the meter of the level coarse: 6e-8 bits, which take 80 ticks of the clock
    # when 400 share the link. One of 0.01 to 0.1 bits is asked for at the last tick before its end, then changed.
    for hundredths in range(1, 11):
        story = Story(1e9).begin(0, 1e12).begin(0, 1e12)
        story.at(1, lambda story=story: [story.link.transfer(1e12) for _ in range(397)])
        story.begin(1, hundredths / 100).run(until_s=1 + 1e-12)
        small, before_s = story.transfers[2], math.nextafter(story.link._next_s, 0)
        story.at(before_s, lambda story=story, small=small: story.link.left_bits(small))
        argument = small if change == "pause" else 1.0
        story.at(before_s, lambda story=story, argument=argument: getattr(story.link, change)(argument))
        story.run(until_s=1.1)
        assert 0.0 <= story.told[-2] < 1e-6
        assert story.told[-1] == story.told[-2] if change == "pause" else small.number in story.ended_s


def test_a_transfer_that_has_ended_can_be_stopped_without_harm():
    story = Story(10.0).begin(0, 10)
    story.run()
    assert (story.link.pause(story.transfers[0]), story.link.left_bits(story.transfers[0])) == (0.0, 0.0)
    assert story.link.rate_bits_per_second(story.transfers[0]) == 0.0


def test_a_process_can_wait_for_a_transfer():
    clock = Clock()
    link = SharedLink(clock, 8.0)

    def device():
        yield link.transfer(16.0)
        yield link.transfer(4.0, 1.0)
        return clock.now

    assert clock.run(until=clock.process(device())) == 6.0


def test_flights_share_the_links_of_a_server_and_one_that_drops_gives_its_rate_back():
    # Download 10 b and upload 10 b over 10 b/s each, 1 s of compute between. Two devices download until 2 s and upload
    # from 3 s at 5 b/s; the second drops at 4 s with 5 b left, so the first has the link for its last 5: 4.5 s.
    clock, told = Clock(), []
    down, up = SharedLink(clock, 10.0), SharedLink(clock, 10.0)

    def flight(name):
        transfer = down.transfer(10.0)
        try:
            yield transfer
            yield clock.at(clock.now + 1.0)
            transfer = up.transfer(10.0)
            yield transfer
        except simpy.Interrupt:
            told.append((name, "dropped", clock.now, up.cancel(transfer)))
        else:
            told.append((name, "arrived", clock.now))

    flights = [clock.process(flight(name)) for name in ("first", "second")]
    clock.at(4.0).callbacks.append(lambda _: flights[1].interrupt())
    clock.run(until=clock.all_of(flights))
    assert told == [("second", "dropped", 4.0, 5.0), ("first", "arrived", 4.5)]


def test_two_links_do_not_know_each_other():
    clock = Clock()
    down, up = SharedLink(clock, 10.0), SharedLink(clock, 10.0)
    first, second = down.transfer(10.0), up.transfer(10.0)
    clock.run(until=first & second)
    assert clock.now == 1.0


@pytest.mark.parametrize("start_s", [0.0, 1e9, 2.0**52])
def test_tiny_remainders_on_a_huge_clock_end_and_do_not_spin(start_s):
    # Beside 1e9 s a double of time is 1.2e-7 s wide; here transfers lack as little as 1e-9 bits at 1e8 bits/s.
    story = Story(1e8, start_s)
    for number in range(50):
        story.begin(start_s, 1e-9 * (1 + number / 7), limit=1e8 / (1 + number % 5))
    story.begin(start_s, 1e8)
    ended_s = story.run(until_s=start_s + 16)
    assert sorted(ended_s) == list(range(51))
    assert ended_s[50] == pytest.approx(start_s + 1, abs=2 * math.ulp(start_s) + 1e-6)


def test_the_resolution_of_a_huge_clock_costs_no_more_than_itself():
    # Two transfers and a third in between, 1e9 s after the start: the moments lie within 4 ulp of the exact ones.
    story = Story(1e8, 1e9).begin(1e9, 1e8).begin(1e9 + 0.5, 1e7).begin(1e9 + 0.75, 1e6)
    # 50 Mb alone; 5e7/s each until 1e7 - 12.5e6 < 0: the second ends at 0.7, the first has 40 Mb left; 35 Mb at 0.75;
    # then 50 Mb/s each: the third ends at 0.77, the first has 34 Mb left and the link to itself.
    exact = {0: 1.11, 1: 0.7, 2: 0.77}
    for number, ended_s in story.run(until_s=1e9 + 10).items():
        assert ended_s - 1e9 == pytest.approx(exact[number], abs=4 * math.ulp(1e9))


def test_rates_do_not_drift_over_a_long_life():
    # 0.1 is no binary fraction: a running sum of limits would not return to what it was.
    clock = Clock()
    link = SharedLink(clock, 1.0)
    steady = link.transfer(1e9, 0.7)
    for _ in range(1000):
        others = [link.transfer(1.0, 0.1), link.transfer(1.0, 0.1), link.transfer(1.0, 0.3)]
        for other in others:
            link.cancel(other)
    crowd = link.transfer(1e9)
    assert link.rate_bits_per_second(steady) == 0.5
    link.cancel(crowd)
    assert link.rate_bits_per_second(steady) == 0.7


@pytest.mark.parametrize("capacity", [0.0, -1.0, math.inf, math.nan])
def test_a_capacity_that_is_no_rate_is_refused(capacity):
    with pytest.raises(ValueError, match=rf"capacity of a link is {capacity} bits/s; give a finite rate above 0"):
        SharedLink(Clock(), capacity)


def test_bits_and_limits_that_cannot_be_are_refused():
    link = SharedLink(Clock(), 1.0)
    with pytest.raises(ValueError, match=r"a transfer has -1.0 bits; give a finite number from 0"):
        link.transfer(-1.0)
    with pytest.raises(ValueError, match=r"rate limit of a transfer is 0.0 bits/s; give one above 0"):
        link.transfer(1.0, 0.0)


def test_a_transfer_is_stopped_once():
    link = SharedLink(Clock(), 1.0)
    transfer = link.transfer(1.0)
    with pytest.raises(ValueError, match="transfer 0 is active; only a paused one can be resumed"):
        link.resume(transfer)
    link.pause(transfer)
    with pytest.raises(ValueError, match="transfer 0 is paused; it cannot be paused"):
        link.pause(transfer)
    link.cancel(transfer)
    with pytest.raises(ValueError, match="transfer 0 is cancelled; it cannot be cancelled"):
        link.cancel(transfer)
