"""Rounds with over-selection and a deadline: more devices than needed are asked, and the round closes early.

Bonawitz et al., "Towards Federated Learning at Scale: System Design", MLSys 2019, section 2.2: 130 % of the wanted
devices are selected, and a round is closed when enough have reported or time is up. What arrives later is lost: its
download was paid for, its work was wasted. K times the over-selection is rounded up here, and down in FedScale, which
keeps the K fastest.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Sequence, Set
from dataclasses import dataclass
from typing import Literal, Self

import simpy
from pydantic import Field, model_validator

from neulite_sim.bounds import DeviceCount, Duration
from neulite_sim.registry import Component, Options, refusal
from neulite_sim.scenario.schema import Scenario
from neulite_sim.timeline.clock import Clock
from neulite_sim.timeline.contract import Ending, Landings, Server, come_about, in_order
from neulite_sim.timeline.flights import Flight, FlightPlan, Launch
from neulite_sim.units import Seconds, format_seconds

MISSED = "missed the deadline"
TOO_SLOW = "slower than the first {keep}"
ABORTED = "the round was aborted: {arrived} of at least {minimum} updates arrived in time"


class DeadlineOptions(Options):
    """Options of `deadline`. K is `selection.devices_per_round`."""

    over_selection: float = Field(1.3, ge=1, le=10)
    """How many times K devices are asked, rounded up."""
    minimum_wait: Seconds = 0.0
    """The round stays open for so long, and whoever arrives by then is kept, even beyond K."""
    maximum_wait: Duration | None = None
    """The deadline, counted from the dispatch; none by default."""
    minimum_updates: DeviceCount = 1
    """With fewer updates at the deadline the round is extended or aborted, as `too_few` says; at most K."""
    too_few: Literal["extend", "abort"] = "extend"
    """`extend`: wait until `minimum_updates` have arrived, or nobody is left. `abort`: merge nothing."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.maximum_wait is not None and self.minimum_wait > self.maximum_wait:
            raise ValueError(
                f"minimum_wait {format_seconds(self.minimum_wait)} is longer than maximum_wait "
                f"{format_seconds(self.maximum_wait)}; swap them"
            )
        return self

    def check_beside(self, scenario: Scenario) -> None:
        """Refuse to wait for more updates than a round keeps."""
        keep = scenario.selection.options.devices_per_round
        if self.minimum_updates > keep:
            raise refusal(
                f"is {self.minimum_updates}, but a round keeps the first {keep} updates "
                f"(selection.devices_per_round); use 1 to {keep}, or raise selection.devices_per_round",
                "protocol", "minimum_updates", given=self.minimum_updates,
            )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """When a round closes (`inf`: not yet), which flights it keeps, and why it does not keep others that arrived."""

    at_s: float
    kept: tuple[int, ...]
    refused: str


class Deadline:
    """One round after another, each closed as soon as its rule allows."""

    mixes_versions = False

    def __init__(self, options: DeadlineOptions) -> None:
        self._options = options

    def wanted(self, keep: int) -> int:
        """Return how many devices to ask for `keep` updates: ceil(over_selection * keep)."""
        # 1.1 * 10 is 11.000000000000002: what the user wrote is a decimal.
        return math.ceil(round(self._options.over_selection * keep, 9))

    def closing(self, ended: Sequence[FlightPlan], flying: int, *, opened_s: float, keep: int) -> Closing:
        """Return when the round closes if only `ended` have ended so far and `flying` are still out."""
        options = self._options
        arrived = in_order(plan for plan in ended if plan.has_arrived)
        everybody_s = math.inf if flying else max((plan.ended_s for plan in ended), default=opened_s)
        earliest_s = opened_s + options.minimum_wait
        enough_s = max(_nth_s(arrived, keep), earliest_s)
        at_s = min(enough_s, everybody_s, opened_s + (options.maximum_wait or math.inf))
        in_time = sum(plan.ended_s <= at_s for plan in arrived)
        if math.isfinite(at_s) and in_time < options.minimum_updates:
            if options.too_few == "abort":
                refused = ABORTED.format(arrived=in_time, minimum=options.minimum_updates)
                return Closing(at_s=at_s, kept=(), refused=refused)
            at_s = min(_nth_s(arrived, options.minimum_updates), everybody_s)
        early = sum(plan.ended_s <= earliest_s for plan in arrived)
        kept = [plan.flight for plan in arrived if plan.ended_s <= at_s][: max(keep, early)]
        return Closing(at_s=at_s, kept=tuple(kept), refused=TOO_SLOW.format(keep=keep))

    def process(self, clock: Clock, server: Server, launch: Launch) -> Generator[simpy.Event, object, None]:
        """Run rounds until the server says that the run is over."""
        while not server.is_over():
            keep, opened_s = server.devices_per_round, clock.now

            def foresee(plans: Sequence[FlightPlan], opened_s: float = opened_s, keep: int = keep) -> Collection[int]:
                return self.closing(plans, 0, opened_s=opened_s, keep=keep).kept

            plans = server.dispatch(clock.now, wanted=self.wanted(keep), foresee=foresee)
            if not plans:
                yield clock.at(server.next_chance_s(clock.now))
                continue
            flights = [launch(plan) for plan in plans]
            closing = yield from self._until_closed(clock, flights, opened_s=opened_s, keep=keep)
            for flight in flights:
                if flight.is_alive:
                    flight.interrupt(self._too_late(clock.now, opened_s=opened_s, keep=keep))
            yield clock.all_of(flights)
            kept = frozenset(closing.kept)
            server.digest([_ending(come_about(flight), kept, closing.refused) for flight in flights], clock.now)

    def _until_closed(
        self, clock: Clock, flights: Sequence[Flight], *, opened_s: float, keep: int
    ) -> Generator[simpy.Event, object, Closing]:
        """Wait until the round closes."""
        landings = Landings(clock)
        for flight in flights:
            landings.watch(flight)
        waits = (self._options.minimum_wait, self._options.maximum_wait)
        timers = [clock.at(opened_s + wait_s) for wait_s in waits if wait_s]
        ended: list[FlightPlan] = []
        num_arrived = 0
        while True:
            running = [timer for timer in timers if not timer.processed]
            # Until a timer rings, the K-th update closes the round, and the end of the last flight beyond that.
            awaited = keep - num_arrived if num_arrived < keep else len(flights)
            arrivals = awaited if len(running) == len(timers) else 0
            yield clock.any_of([landings.next(arrivals=arrivals), *running])
            yield clock.after_all()
            landed = landings.take()
            ended += landed
            num_arrived += sum(plan.has_arrived for plan in landed)
            closing = self.closing(ended, landings.num_flying, opened_s=opened_s, keep=keep)
            if closing.at_s <= clock.now:
                return closing

    def _too_late(self, now_s: float, *, opened_s: float, keep: int) -> str:
        latest_s = opened_s + (self._options.maximum_wait or math.inf)
        return MISSED if now_s >= latest_s else TOO_SLOW.format(keep=keep)


def _ending(plan: FlightPlan, kept: Set[int], refused: str) -> Ending:
    is_kept = not plan.has_arrived or plan.flight in kept
    return Ending(plan=plan, refused="" if is_kept else refused)


def _nth_s(arrived: Sequence[FlightPlan], count: int) -> float:
    """Return when the `count`-th update arrived; `inf` where fewer have."""
    return arrived[count - 1].ended_s if len(arrived) >= count else math.inf


def _build(options: DeadlineOptions) -> Deadline:
    return Deadline(options)


COMPONENT = Component(
    kind="deadline",
    summary="rounds with over-selection that keep the first K and close at a deadline",
    source="Bonawitz et al., MLSys 2019, arXiv 1902.01046, section 2.2",
    options=DeadlineOptions,
    build=_build,
)
