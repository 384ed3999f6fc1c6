"""Asynchronous protocols: devices train all the time, and the server learns from each as it arrives, or from a few.

`fedasync` aggregates on each arrival: x <- (1 - a) x + a x_new with a = alpha * s(staleness). Xie, Koyejo and Gupta,
"Asynchronous Federated Optimization", 2019, algorithm 1, https://arxiv.org/abs/1903.03934. `fedbuff` collects K
updates: x <- x - eta * mean of s(staleness) * (x_sent - x_new). Nguyen et al., "Federated Learning with Buffered
Asynchronous Aggregation", AISTATS 2022, algorithm 1, https://arxiv.org/abs/2106.06639.

What is merged goes through the method's own aggregation, so both work with every method. Staleness counts the
aggregations of the update's own stage since its dispatch. Flights that end at the same moment are taken in the order
of their numbers, and all of them before anything new is dispatched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import simpy
from pydantic import Field

from neulite_sim.bounds import MOST_ROUNDS, DeviceCount, Factor, LearningRate, RoundsOrNone
from neulite_sim.errors import SimulationError
from neulite_sim.registry import Component, Options
from neulite_sim.scenario.component_fields import BareKind
from neulite_sim.timeline.clock import AFTER_ALL, Clock, Moment
from neulite_sim.timeline.contract import Server, dispatched_along, stalenesses_of
from neulite_sim.timeline.endings import Endings, Launch, Mixing, MixingAnchor
from neulite_sim.timeline.skies import Sky, sky
from neulite_sim.units import format_seconds

PATIENCE = 1000
"""So many dropped flights in a row, for each device in flight, and none that arrives, are taken for never."""

_LEAST_WEIGHT = 1e-100


class ConstantStaleness(Options):
    """Every update counts alike, however old."""

    kind: Literal["constant"] = "constant"

    def factor(self, staleness: int) -> float:
        """Return 1."""
        del staleness
        return 1.0


class PolynomialStaleness(Options):
    """s = (staleness + 1) ** -a (FedAsync, section 5.2); with a = 0.5 also FedBuff's 1 / sqrt(1 + staleness)."""

    kind: Literal["polynomial"] = "polynomial"
    a: Factor = 0.5
    """How fast the weight falls."""

    def factor(self, staleness: int) -> float:
        """Return (staleness + 1) ** -a."""
        return float((staleness + 1) ** -self.a)


class HingeStaleness(Options):
    """s = 1 up to a staleness of b, then 1 / (a (staleness - b) + 1) (FedAsync, section 5.2)."""

    kind: Literal["hinge"] = "hinge"
    a: Factor = 10.0
    """How fast the weight falls beyond b."""
    b: float = Field(4.0, ge=0, le=MOST_ROUNDS)
    """The staleness up to which nothing is lost (Plato 4, easyFL 6)."""

    def factor(self, staleness: int) -> float:
        """Return 1 up to b, then 1 / (a (staleness - b) + 1)."""
        return 1.0 if staleness <= self.b else 1.0 / (self.a * (staleness - self.b) + 1.0)


StalenessFunction = Annotated[
    ConstantStaleness | PolynomialStaleness | HingeStaleness, Field(discriminator="kind"), BareKind()
]


class AsynchronousOptions(Options):
    """What both asynchronous protocols have; FedAsync's proximal term is fedavg's `proximal_mu` (easyFL 0.005)."""

    concurrency: DeviceCount | None = None
    """Devices in flight at a time; `selection.devices_per_round` where it is not given. A selector that asks for more
    (oort's `over_commit`, tifl while profiling) has more in flight."""
    staleness: StalenessFunction = PolynomialStaleness(a=0.5)
    """How the weight of an update falls with its staleness: constant, polynomial or hinge."""
    maximum_staleness: RoundsOrNone | None = None
    """Updates of a higher staleness are discarded; none by default."""
    other_stage: Literal["merge", "discard"] = "merge"
    """What becomes of an update of a stage that the method has left: merged into its own block, or discarded."""


class FedAsyncOptions(AsynchronousOptions):
    """Options of `fedasync`."""

    mixing_rate: float = Field(0.6, gt=0, le=1)
    """alpha: how far the model moves towards a fresh update (easyFL 0.6, Plato 0.9)."""


class FedBuffOptions(AsynchronousOptions):
    """Options of `fedbuff`."""

    buffer_size: DeviceCount = 10
    """K: updates per aggregation (paper and easyFL 10)."""
    server_rate: LearningRate = 1.0
    """eta: how far the model moves along the mean update."""
    normalise: bool = False
    """Divide by the sum of the staleness weights in place of K (FedScale, on models; FLSim adds up); with weights by
    samples, those times the samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How arrivals are merged: `size` at a time, each with the mixing that `mixing(stalenesses)` gives it."""

    size: int
    concurrency: int | None
    maximum_staleness: int | None
    merges_other_stage: bool
    mixing: Callable[[Sequence[int]], Sequence[Mixing]]


class _Buffer:
    """What has ended since the last aggregation, in the order of ends."""

    def __init__(self) -> None:
        self._ended: list[Endings] = []
        self.num_merged = 0
        self.num_lost = 0
        """How many have been lost since the last one that is to be merged, in whichever buffer."""

    def add(self, ended: Endings) -> None:
        """Take in what has ended next."""
        self._ended.append(ended)
        is_merged = ended.is_merged
        self.num_merged += int(np.count_nonzero(is_merged))
        after = np.flatnonzero(is_merged)[-1:] + 1
        self.num_lost = len(ended) - int(after[0]) if len(after) else self.num_lost + len(ended)

    def emptied(self) -> Endings:
        """Return all that is in it, and forget that."""
        ended, self._ended, self.num_merged = Endings.joined(self._ended), [], 0
        return ended


class Asynchronous:
    """Keeps devices in flight and hands over arrivals as its rule says."""

    mixes_versions = True

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def process(self, clock: Clock, server: Server, launch: Launch) -> Generator[simpy.Event, object, None]:
        """Run until the server says that the run is over."""
        concurrency = self._rule.concurrency or server.devices_per_round
        buffer, out, chance = _Buffer(), None, None
        while not server.is_over():
            if out is None:
                while not (flights := server.dispatch(clock.now, wanted=concurrency)):
                    yield clock.at(server.next_chance_s(clock.now), priority=AFTER_ALL)
                out = sky(clock, flights, launch)
                server.train(flights)
                out.launch(flights)
            if self._fill(clock, server, out, buffer, concurrency):
                chance = None
                yield out.next()
            else:
                chance = yield from _landing_or_chance(clock, server, out, chance)
            if (ended := out.take()) is not None:
                self._take(ended, server, buffer, clock.now)
            if buffer.num_lost > PATIENCE * concurrency:
                raise SimulationError(
                    f"no update has arrived in the last {buffer.num_lost} flights, until virtual time "
                    f"{format_seconds(clock.now)}; flights.csv has the reasons; let devices be online for longer, or "
                    "charge them less (workload)"
                )

    def _fill(self, clock: Clock, server: Server, out: Sky, buffer: _Buffer, concurrency: int) -> bool:
        """Dispatch until as many are in flight as wanted, or nobody is left; return whether it is as many.

        A server that sees ahead goes on with what lands before the next aggregation.
        """
        while (wanted := concurrency - out.num_flying) > 0:
            coming = out.coming(self._rule.size - buffer.num_merged)
            # Where patience may run out among them each has to be looked at in its time.
            may_give_up = coming is not None and buffer.num_lost + len(coming) > PATIENCE * concurrency
            landings = None if may_give_up else coming
            flights, num_along = dispatched_along(server, clock.now, wanted=wanted, landings=landings)
            if coming is not None:
                out.took_along(num_along)
                if num_along:
                    buffer.add(self._judged(coming[:num_along], server))
            if not flights:
                return False
            server.train(flights)
            out.launch(flights)
        return True

    def _take(self, ended: Endings, server: Server, buffer: _Buffer, now_s: float) -> None:
        """Put flights that have ended into the buffer, and hand that over whenever it is full."""
        left = ended
        while len(left):
            judged = self._judged(left, server)
            # Those after the one that fills the buffer are judged by what the server is at after the aggregation.
            filling = np.flatnonzero(judged.is_merged)[self._rule.size - buffer.num_merged - 1 :][:1]
            num_taken = int(filling[0]) + 1 if len(filling) else len(left)
            buffer.add(judged[:num_taken])
            left = left[num_taken:]
            if len(filling):
                server.digest(self._mixed(buffer.emptied(), server), now_s)
                if server.is_over():
                    return

    def _mixed(self, ended: Endings, server: Server) -> Endings:
        """Return what a full buffer held, each with how far the model moves along it."""
        merged = np.flatnonzero(ended.is_merged)
        stalenesses = stalenesses_of(server, ended.flights.taken(merged))
        mixings: list[Mixing | None] = [None] * len(ended)
        for place, mixing in zip(merged.tolist(), self._rule.mixing(stalenesses), strict=True):
            mixings[place] = mixing
        return replace(ended, mixings=mixings)

    def _judged(self, ended: Endings, server: Server) -> Endings:
        """Return flights that have ended with the reason why an update is discarded, where one is."""
        rule = self._rule
        if rule.maximum_staleness is None and rule.merges_other_stage:
            return ended
        arrived = np.flatnonzero(ended.outcomes.has_arrived)
        flights = ended.flights.taken(arrived)
        stage, refused = server.stage(), [""] * len(ended)
        stalenesses = stalenesses_of(server, flights)
        for place, own, staleness in zip(arrived.tolist(), flights.stages, stalenesses, strict=True):
            if rule.maximum_staleness is not None and staleness > rule.maximum_staleness:
                refused[place] = f"discarded: staleness {staleness} is above {rule.maximum_staleness}"
            elif not rule.merges_other_stage and own != stage:
                refused[place] = f"discarded: of {own}, while the server is at {stage}"
        return replace(ended, refused=refused)


def _landing_or_chance(
    clock: Clock, server: Server, out: Sky, known: Moment | None
) -> Generator[simpy.Event, object, Moment | None]:
    """Wait until a flight ends or somebody who is free can be offered work; return that chance, where one is known.

    What lies beyond the next landing is asked after it, so a search ends there, or goes on piece by piece until it.
    """
    landing = out.next()
    # One that is triggered has its moment already.
    is_foreseen = landing.triggered
    while not landing.processed:
        until_s = out.looks_until_s()
        chance = _chance(clock, server, known, until_s)
        if chance is not None or is_foreseen or until_s == math.inf:
            yield landing if chance is None else clock.any_of([landing, chance])
            return chance
        yield clock.any_of([landing, clock.at(until_s, priority=AFTER_ALL)])
    return None


def _chance(clock: Clock, server: Server, known: Moment | None, until_s: float) -> Moment | None:
    """Return when somebody can next be offered work; None where that is up to those who are still in flight."""
    at_s = server.next_chance_s(clock.now, until_s=until_s)
    if at_s == math.inf:
        return None
    # A moment that already stands in the queue is not put there again.
    is_known = known is not None and not known.processed and known.at_s == at_s
    return known if is_known else clock.at(at_s, priority=AFTER_ALL)


def _build_fedasync(options: FedAsyncOptions) -> Asynchronous:
    def mixing(stalenesses: Sequence[int]) -> Sequence[Mixing]:
        (staleness,) = stalenesses
        return (Mixing(rate=options.mixing_rate * options.staleness.factor(staleness), anchor="current"),)

    return Asynchronous(_rule(options, size=1, mixing=mixing))


def _build_fedbuff(options: FedBuffOptions) -> Asynchronous:
    anchor: MixingAnchor = "own"

    def mixing(stalenesses: Sequence[int]) -> Sequence[Mixing]:
        factors = [options.staleness.factor(staleness) for staleness in stalenesses]
        if not options.normalise:
            return [Mixing(rate=options.server_rate * factor, anchor=anchor) for factor in factors]
        # A weighted mean is that whatever the weights are multiplied by; what nobody else carries weighs something.
        factors = [max(factor, _LEAST_WEIGHT) for factor in factors]
        weights = [factor / max(factors) for factor in factors]
        return [Mixing(rate=options.server_rate, anchor=anchor, weight=weight) for weight in weights]

    return Asynchronous(_rule(options, size=options.buffer_size, mixing=mixing))


def _rule(options: AsynchronousOptions, *, size: int, mixing: Callable[[Sequence[int]], Sequence[Mixing]]) -> Rule:
    return Rule(
        size=size,
        concurrency=options.concurrency,
        maximum_staleness=options.maximum_staleness,
        merges_other_stage=options.other_stage == "merge",
        mixing=mixing,
    )


FEDASYNC = Component(
    kind="fedasync",
    summary="an aggregation per arrival, weighted by staleness",
    source="Xie, Koyejo and Gupta, 2019, arXiv 1903.03934, algorithm 1",
    options=FedAsyncOptions,
    build=_build_fedasync,
)
FEDBUFF = Component(
    kind="fedbuff",
    summary="an aggregation per buffer of arrivals, weighted by staleness",
    source="Nguyen et al., AISTATS 2022, arXiv 2106.06639, algorithm 1",
    options=FedBuffOptions,
    build=_build_fedbuff,
)
