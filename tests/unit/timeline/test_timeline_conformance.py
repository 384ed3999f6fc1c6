"""The check of protocols: every built-in passes, and each law is missed by something broken."""

from dataclasses import replace

import pytest

from neulite_sim.errors import SimulationError
from neulite_sim.registry import component, names
from neulite_sim.seeding import stream
from neulite_sim.timeline.conformance import check_protocol
from neulite_sim.timeline.endings import Ending, Mixing, ending_of


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, {}) for kind in names("protocol")),
        ("deadline", {"over_selection": 2, "maximum_wait": 2.5, "minimum_wait": 1}),
        ("deadline", {"maximum_wait": 2, "minimum_updates": 3, "too_few": "abort"}),
        ("deadline", {"maximum_wait": 2, "minimum_updates": 3, "over_selection": 1}),
        ("fedasync", {"concurrency": 7, "staleness": {"kind": "hinge"}}),
        pytest.param(
            "fedbuff",
            {"buffer_size": 3, "concurrency": 12, "maximum_staleness": 1, "normalise": True},
            marks=pytest.mark.slow,
        ),
        ("fedbuff", {"buffer_size": 2, "other_stage": "discard"}),
    ],
)
def test_every_registered_protocol_keeps_the_contract(kind, options):
    found = component("protocol", kind)
    check_protocol(lambda: found.build(found.options(**options)))


class Rounds:
    """Synchronous rounds, in parts that a broken protocol can replace."""

    mixes_versions = False

    def wanted(self, server):
        return None

    def trained(self, flights):
        return flights

    def handed_over(self, endings):
        return endings

    def process(self, clock, server, launch):
        while not server.is_over():
            flights = server.dispatch(clock.now, wanted=self.wanted(server))
            if not flights:
                yield from self.wait(clock, server)
                continue
            server.train(self.trained(flights))
            landings = [launch(flight) for flight in flights]
            yield from self.landed(clock, landings)
            ended = [ending_of(*pair) for pair in zip(flights, landings, strict=True) if pair[1].processed]
            server.digest(self.handed_over(ended), clock.now)

    def wait(self, clock, server):
        yield clock.at(server.next_chance_s(clock.now))

    def landed(self, clock, landings):
        yield clock.all_of(landings)


class HandsOverTwice(Rounds):
    before = ()

    def handed_over(self, endings):
        twice, self.before = [*self.before, *endings], endings
        return twice


class HandsOverNothing(Rounds):
    def handed_over(self, endings):
        return []


class ForgetsTheLost(Rounds):
    def handed_over(self, endings):
        return [ending for ending in endings if ending.outcome.has_arrived] or endings


class WantsNobody(Rounds):
    def wanted(self, server):
        return 0


class WantsAShare(Rounds):
    def wanted(self, server):
        return 1.5 * server.devices_per_round


class TrainsHalf(Rounds):
    def trained(self, flights):
        return flights[::2]


class TrainsTwice(Rounds):
    def trained(self, flights):
        return [*flights, *flights]


class Improves(Rounds):
    def handed_over(self, endings):
        return [replace(ending, outcome=replace(ending.outcome, kind="arrived")) for ending in endings]


class MixesNaN(Rounds):
    def handed_over(self, endings):
        return [replace(ending, mixing=Mixing(rate=float("nan"), anchor="own")) for ending in endings]


class WeighsNothing(Rounds):
    def handed_over(self, endings):
        return [replace(ending, mixing=Mixing(rate=1.0, anchor="own", weight=0.0)) for ending in endings]


class StandsStill(Rounds):
    def wait(self, clock, server):
        yield clock.at(clock.now)


class Swallows(Rounds):
    def wait(self, clock, server):
        try:
            yield clock.at(server.next_chance_s(clock.now))
        except SimulationError:
            yield clock.at(clock.now + 1.0)


class WaitsForAFlight(Rounds):
    def wait(self, clock, server):
        yield clock.event()


class HandsOverEarly(Rounds):
    def landed(self, clock, landings):
        yield clock.any_of(landings)

    def handed_over(self, endings):
        return [*endings, Ending(flight=replace(endings[0].flight, number=1), outcome=endings[0].outcome)]


class NeverComesBack(Rounds):
    def process(self, clock, server, launch):
        while not server.is_over():
            flights = server.dispatch(clock.now, wanted=2)
            if not flights:
                yield from self.wait(clock, server)
                continue
            server.train(flights[:1])
            landing = launch(flights[0])
            yield landing
            server.digest([ending_of(flights[0], landing)], clock.now)


class LaunchesTwice(Rounds):
    def process(self, clock, server, launch):
        flights = server.dispatch(clock.now)
        for flight in (*flights, *flights):
            launch(flight)
        yield clock.at(1.0)


class LaunchesLate(Rounds):
    def process(self, clock, server, launch):
        flights = server.dispatch(clock.now)
        yield clock.at(1.0)
        launch(flights[0])


class TrainsLate(Rounds):
    def process(self, clock, server, launch):
        flights = server.dispatch(clock.now)
        yield clock.all_of(list(map(launch, flights)))
        server.train(flights)


class DispatchesForLater(Rounds):
    def process(self, clock, server, launch):
        server.dispatch(clock.now + 1)
        yield clock.at(1.0)


class GoesOn(Rounds):
    def process(self, clock, server, launch):
        yield from super().process(clock, server, launch)
        server.dispatch(clock.now)


class StopsEarly(Rounds):
    def process(self, clock, server, launch):
        yield clock.at(1.0)


class NeverDigests(Rounds):
    def process(self, clock, server, launch):
        while not server.is_over():
            landings = list(map(launch, server.dispatch(clock.now)))
            yield clock.all_of(landings) if landings else clock.at(server.next_chance_s(clock.now))


class AsksAfterwards(Rounds):
    def handed_over(self, endings):
        self.endings = endings
        return endings

    def wanted(self, server):
        if hasattr(self, "endings"):
            server.staleness(self.endings[0].flight)


class ShortensWithoutReason(Rounds):
    def landed(self, clock, landings):
        yield clock.at(clock.now + 0.25)
        for landing in landings:
            landing.interrupt("")
        yield clock.all_of(landings)


class Stale(Rounds):
    """Merges those who are late into a later round, and does not say so."""

    def process(self, clock, server, launch):
        out = []
        while not server.is_over():
            flights = server.dispatch(clock.now)
            server.train(flights)
            out += [(flight, launch(flight)) for flight in flights]
            if not out:
                yield from self.wait(clock, server)
                continue
            yield clock.any_of([landing for _, landing in out])
            yield clock.after_all()
            ended = [pair for pair in out if pair[1].processed]
            out = [pair for pair in out if pair not in ended]
            server.digest([ending_of(*pair) for pair in ended], clock.now)


class Moody(Rounds):
    moods = iter(range(10_000))

    def __init__(self):
        self.rng = stream(0, "mood", next(self.moods))

    def wanted(self, server):
        return int(self.rng.integers(1, 5))


class WaitsASecond(Rounds):
    def wait(self, clock, server):
        yield clock.at(clock.now + 1.0)


class InterruptsTheLanded(Rounds):
    def landed(self, clock, landings):
        yield clock.all_of(landings)
        landings[0].interrupt("the round is over")


class Undecided(Rounds):
    mixes_versions = None


def test_the_rounds_that_the_broken_ones_are_made_of_keep_the_contract():
    check_protocol(Rounds)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (HandsOverTwice, "digest: flight 1 was handed over already, before .* s; each is handed over once"),
        (HandsOverNothing, "digest: at 4 s, nothing is handed over; wait until a flight has ended"),
        (ForgetsTheLost, "digest: flight 4 ended at .* aggregations ago, and was never handed over; lost flights"),
        (WantsNobody, "dispatch: at 0 s, wanted must be a whole number from 1 up, or left out, is 0"),
        (WantsAShare, "dispatch: at 0 s, wanted must be a whole number from 1 up, or left out, is 4.5"),
        (TrainsHalf, "digest: flight 2 is merged, but train was not called with it at its dispatch"),
        (TrainsTwice, "train: flight 1 is named twice"),
        (TrainsLate, "train: flight 1 left at 0 s and is named at 4 s; name flights at their dispatch"),
        (Improves, "digest: flight 4 dropped at .* s, handed over as arrived at .*; use ending_of"),
        (MixesNaN, "digest: flight 1 is mixed at a rate of nan"),
        (WeighsNothing, "digest: flight 1 is mixed with a weight of 0.0"),
        (StandsStill, "three at a time|now and then nobody online: 1000 calls at .* s; where dispatch returns nothing"),
        (Swallows, "until nobody is left: next_chance_s raised .*, and the protocol went on|calls at"),
        (WaitsForAFlight, "process waits for what never happens"),
        (HandsOverEarly, "digest: flight 1 is another than the one that was dispatched"),
        (NeverComesBack, "launch: flight 2 was dispatched at 0 s and never launched|waits for what|nobody|inf"),
        (LaunchesTwice, "launch: flight 1 is launched twice"),
        (LaunchesLate, "launch: flight 1 was dispatched at 0 s and is launched at 1 s"),
        (DispatchesForLater, "dispatch: is told 1 s at 0 s; it is for now"),
        (GoesOn, "dispatch: at .* s, although is_over.. is True"),
        (StopsEarly, "process returned after 0 of 40 aggregations, before is_over"),
        (NeverDigests, "flights until .* s, and 0 aggregations; digest what has arrived"),
        (AsksAfterwards, "staleness: flight 1 was handed over already, before 4 s"),
        (ShortensWithoutReason, "interrupt: flight 1 is ended without a reason"),
        (Stale, "was sent version 0 and is merged into 1; say so with mixes_versions = True"),
        (Moody, "and, told once more, .*; a protocol must decide by the clock and the server alone"),
        (
            WaitsASecond,
            "until nobody is left: 100000 calls until .* s, and no end; where dispatch returns nothing, wait",
        ),
        (InterruptsTheLanded, "flight 1 is interrupted at 4 s .the round is over., and has ended before; ask landing"),
        (Undecided, "mixes_versions: must be True or False"),
    ],
)
def test_a_broken_protocol_is_found(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_protocol(broken)
