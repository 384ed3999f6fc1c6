"""Flights and synchronous rounds on stories small enough to tell."""

import math
from dataclasses import replace

import pytest
from made_flights import flight_of

from neulite_sim.timeline.clock import Clock
from neulite_sim.timeline.contract import run_protocol
from neulite_sim.timeline.endings import LoneLanding
from neulite_sim.timeline.flights import (
    ARRIVED,
    CUT,
    DROPPED,
    MOST_PAUSES,
    Conditions,
    cut_short,
    planned_outcome,
)
from neulite_sim.timeline.legs import Steady, TracedTransfer
from neulite_sim.timeline.synchronous import Synchronous


def plan(phases=(1.0, 2.0, 3.0), offline_at_s=math.inf, dispatched_s=0.0, **conditions):
    given = {"online_until_s": lambda at_s: offline_at_s, "next_online_s": lambda at_s: math.inf, **conditions}
    return planned_outcome(dispatched_s, legs=tuple(map(Steady, phases)), conditions=Conditions(**given))


def away(*pauses):
    """Conditions under which a flight pauses in each (start, end)."""
    return {
        "waits_offline": True,
        "online_until_s": lambda at_s: next((start for start, end in pauses if at_s < end), math.inf),
        "next_online_s": lambda at_s: next((end for start, end in pauses if at_s < end), at_s),
    }


class Script:
    """A server that dispatches the given rounds and notes what happens and when."""

    def __init__(self, *rounds, chances=()):
        self.rounds, self.chances, self.log = list(rounds), list(chances), []

    def is_over(self):
        return not self.rounds

    def dispatch(self, at_s, *, wanted=None):
        if self.rounds[0] is None:
            self.rounds.pop(0)
            return []
        plans = [plan(phases, dispatched_s=at_s) for phases in self.rounds[0]]
        return [flight_of(number, at_s=at_s, planned=planned) for number, planned in enumerate(plans)]

    def train(self, flights):
        pass

    def digest(self, ended, at_s):
        self.rounds.pop(0)
        self.log.append((at_s, [item.flight.number for item in ended]))

    def note_end(self, ending):
        pass

    def next_chance_s(self, at_s):
        return self.chances.pop(0)


def test_one_device_finishes_after_download_plus_compute_plus_upload():
    found = plan(phases=(1.5, 20.0, 0.25), dispatched_s=100.0)
    assert found.ended_s == 100.0 + 1.5 + 20.0 + 0.25
    assert found.kind == ARRIVED


@pytest.mark.parametrize(
    ("offline_at_s", "phase", "spent"),
    [(0.5, "download", (0.5, 0, 0)), (1.0, "compute", (1.0, 0, 0)), (2.5, "compute", (1.0, 1.5, 0)),
     (5.5, "upload", (1.0, 2.0, 2.5))],
)  # fmt: skip
def test_a_device_that_goes_offline_drops_its_flight_with_the_phase_as_reason(offline_at_s, phase, spent):
    found = plan(offline_at_s=offline_at_s)
    assert (found.kind, found.reason) == (DROPPED, f"went offline during {phase}")
    assert (found.download_s, found.compute_s, found.upload_s) == spent
    assert found.ended_s == offline_at_s


def test_a_device_still_online_at_the_moment_its_upload_ends_arrives():
    assert plan(offline_at_s=6.0).has_arrived


def test_the_clock_and_the_plan_agree_to_the_last_bit():
    clock = Clock(initial_time=0.1)
    found = plan(phases=(0.1, 0.2, 0.7), dispatched_s=0.1)
    assert clock.run(until=LoneLanding(clock, flight_of(at_s=0.1, planned=found))) is found
    assert clock.now == found.ended_s


def test_a_paused_flight_goes_on_where_it_stopped():
    """Online for 2 s, away for 10 s, online for 1 s, away for 5 s: 1 s download, 1 + 1 s compute, 3 s upload."""
    found = plan(**away((2.0, 12.0), (13.0, 18.0)))
    assert found.pauses == ((2.0, 12.0), (13.0, 18.0))
    assert (found.download_s, found.compute_s, found.upload_s) == (1.0, 2.0, 3.0)
    assert (found.waiting_s, found.ended_s, found.kind) == (15.0, 21.0, ARRIVED)


def test_a_device_that_leaves_at_the_very_end_of_a_phase_pauses_at_the_start_of_the_next():
    found = plan(**away((1.0, 4.0)))
    assert (found.pauses, found.download_s, found.ended_s) == (((1.0, 4.0),), 1.0, 9.0)


def test_a_device_that_never_comes_back_loses_its_flight_when_it_leaves():
    found = plan(**away((2.5, math.inf)))
    assert (found.kind, found.reason) == (DROPPED, "went offline and did not come back during compute")
    assert (found.ended_s, found.compute_s, found.pauses) == (2.5, 1.5, ())


def test_with_a_time_out_the_server_waits_for_a_device_until_then():
    found = plan(**away((2.5, math.inf)), timeout_at_s=60.0)
    assert (found.reason, found.ended_s, found.pauses) == ("timed out during compute", 60.0, ((2.5, 60.0),))


CAUSES = {"memory_short_at_s": "out of memory", "battery_empty_at_s": "battery empty", "fails_at_s": "failed",
          "timeout_at_s": "timed out"}  # fmt: skip


@pytest.mark.parametrize("name", CAUSES)
@pytest.mark.parametrize(("at_s", "phase"), [(0.0, "download"), (0.5, "download"), (2.0, "compute"), (5.9, "upload")])
def test_a_cause_ends_a_flight_at_its_moment_with_its_name_and_phase(name, at_s, phase):
    found = plan(**{name: at_s})
    assert (found.kind, found.reason, found.ended_s) == (DROPPED, f"{CAUSES[name]} during {phase}", at_s)
    assert found.download_s + found.compute_s + found.upload_s == at_s
    assert plan(**{name: 6.0}).has_arrived, "an update that arrives at that very moment has arrived"


def test_a_cause_ends_a_flight_that_waits():
    found = plan(**away((2.0, 12.0)), fails_at_s=7.0)
    assert (found.reason, found.ended_s, found.pauses) == ("failed during compute", 7.0, ((2.0, 7.0),))


def test_at_equal_moments_the_device_counts_before_the_server():
    moments = dict.fromkeys(CAUSES, 2.0)
    order = ["memory_short_at_s", "battery_empty_at_s", "fails_at_s", "offline", "timeout_at_s"]
    words = {**CAUSES, "offline": "went offline"}
    for place, first in enumerate(order):
        rest = {name: 2.0 for name in order[place:] if name in moments}
        leaves_s = 2.0 if place <= order.index("offline") else math.inf
        assert plan(offline_at_s=leaves_s, **rest).reason == f"{words[first]} during compute"


class Dead:
    """A link that carries a bit per second until `dead_s` and nothing from then on."""

    def __init__(self, dead_s):
        self.dead_s = dead_s

    def bits(self, start_s, end_s):
        return max(0.0, min(end_s, self.dead_s) - start_s)

    def ends_s(self, start_s, num_bits):
        return start_s + num_bits if start_s + num_bits <= self.dead_s else math.inf


def upload_over(link, conditions):
    return planned_outcome(0.0, legs=(Steady(1.0), Steady(2.0), TracedTransfer(link, 4.0)), conditions=conditions)


def test_a_transfer_that_can_never_end_is_dropped_at_its_start_or_when_another_cause_ends_it():
    always = Conditions(online_until_s=lambda at_s: math.inf, next_online_s=lambda at_s: at_s)
    stuck = upload_over(Dead(5.0), always)
    assert (stuck.ended_s, stuck.reason) == (3.0, "stalled, its link never carries the rest, during upload")
    given_up = upload_over(Dead(5.0), replace(always, timeout_at_s=60.0))
    assert (given_up.ended_s, given_up.upload_s, given_up.reason) == (60.0, 57.0, "timed out during upload")


def test_a_flight_that_is_interrupted_for_ever_without_progress_ends():
    class Blinking:
        """Ends only with a second, and keeps nothing of a part of one."""

        def bits(self, start_s, end_s):
            return 0.0

        def ends_s(self, start_s, num_bits):
            return math.floor(start_s) + 1.0

    found = upload_over(
        Blinking(),
        Conditions(
            waits_offline=True,
            online_until_s=lambda at_s: max(3.0, math.floor(at_s) + 0.5),
            next_online_s=lambda at_s: math.floor(at_s) + 1.0,
        ),
    )
    assert found.reason == "interrupted too often during upload"
    assert len(found.pauses) == MOST_PAUSES


def test_a_flight_cut_within_a_pause_has_worked_until_the_pause():
    whole = plan(**away((2.0, 12.0)))
    found = cut_short(whole, 0.0, 7.0, kind=CUT, reason="over")
    assert (found.download_s, found.compute_s, found.upload_s, found.waiting_s) == (1.0, 1.0, 0.0, 5.0)
    assert (found.pauses, found.kind, found.reason) == (((2.0, 7.0),), CUT, "over")


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
