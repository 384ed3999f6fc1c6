"""The clock: events at exact moments, in one total order."""

import math

import pytest

from neulite_sim.timeline.clock import AFTER_ALL, Clock


def _log(clock, log, event, name):
    event.callbacks.append(lambda _: log.append((clock.now, name)))


def test_an_event_happens_at_the_very_moment_it_is_set_to():
    clock, log = Clock(), []
    # A delay to this moment would end one bit beside it.
    moment = next(n / 7 for n in range(3, 10_000) if 0.3 + (n / 7 - 0.3) != n / 7)
    clock.run(until=0.3)
    _log(clock, log, clock.at(moment), "there")
    clock.run()
    assert log == [(moment, "there")]


def test_what_comes_after_all_comes_after_what_the_moment_itself_sets_going():
    clock, log = Clock(), []
    clock.at(1.0).callbacks.append(lambda _: _log(clock, log, clock.after_all(), "server"))
    clock.at(1.0).callbacks.append(lambda _: _log(clock, log, clock.at(1.0), "late flight"))
    clock.run()
    assert log == [(1.0, "late flight"), (1.0, "server")]


def test_events_at_one_moment_and_priority_happen_in_the_order_in_which_they_were_set():
    clock, log = Clock(), []
    for name in "abc":
        _log(clock, log, clock.at(2.0), name)
    _log(clock, log, clock.at(1.0), "first")
    clock.run()
    assert [name for _, name in log] == ["first", "a", "b", "c"]


def test_a_signal_happens_now_after_all():
    clock, log = Clock(), []
    waiting = clock.event()
    _log(clock, log, waiting, "signal")
    clock.at(3.0).callbacks.append(lambda _: clock.signal(waiting))
    _log(clock, log, clock.at(3.0), "other")
    clock.run()
    assert log == [(3.0, "other"), (3.0, "signal")]


def test_an_event_yields_its_value_and_knows_its_moment():
    clock = Clock()
    event = clock.at(4.0, priority=AFTER_ALL, value="x")
    assert event.at_s == 4.0
    assert clock.run(until=event) == "x"


def test_the_past_cannot_be_set():
    clock = Clock()
    clock.run(until=5.0)
    with pytest.raises(AssertionError, match=r"4.0 s lies before now, 5(.0)? s"):
        clock.at(4.0)
    clock.at(math.nextafter(5.0, 6.0))
