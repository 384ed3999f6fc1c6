"""Rounds with over-selection and a deadline: more devices than needed are asked, and the round closes early.

Bonawitz et al., "Towards Federated Learning at Scale: System Design", MLSys 2019, section 2.2: 130 % of the wanted
devices are selected, and a round is closed when enough have reported or time is up. What arrives later is lost: its
download was paid for, its work was wasted. K times the over-selection is rounded up here, and down in FedScale, which
keeps the K fastest.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence, Set
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import simpy
from pydantic import Field, model_validator

from neulite_sim.arrays import Floats
from neulite_sim.bounds import MOST_DEVICES, DeviceCount, Duration, out_of_order
from neulite_sim.registry import Component, Options, refusal
from neulite_sim.scenario.schema import Scenario
from neulite_sim.timeline.clock import Clock
from neulite_sim.timeline.columns import Flights
from neulite_sim.timeline.contract import Server
from neulite_sim.timeline.endings import Ending, Endings, Launch
from neulite_sim.timeline.flights import Flight
from neulite_sim.timeline.sorties import Sortie, sortie
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
            low, high = ("minimum_wait", self.minimum_wait), ("maximum_wait", self.maximum_wait)
            raise ValueError(out_of_order(low, high, format_seconds, kind="duration"))
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
    kept: Set[int]
    refused: str


class Deadline:
    """One round after another, each closed as soon as its rule allows."""

    mixes_versions = False
    merges_whole_rounds = True

    def __init__(self, options: DeadlineOptions) -> None:
        self._options = options

    def wanted(self, keep: int) -> int:
        """Return how many devices to ask for `keep` updates: ceil(over_selection * keep)."""
        # 1.1 * 10 is 11.000000000000002: what the user wrote is a decimal.
        return math.ceil(round(self._options.over_selection * keep, 9))

    def closing(self, ended: Sequence[Ending], flying: int, *, opened_s: float, keep: int) -> Closing:
        """Return when the round closes if only `ended` have ended so far and `flying` are still out."""
        options = self._options
        endings = Endings.of(ended)
        ended_s = endings.outcomes.ended_s
        numbers = np.array(endings.flights.numbers, np.int64)
        order = np.lexsort((numbers, ended_s))
        arrived = order[endings.outcomes.has_arrived[order]]
        arrived_s = ended_s[arrived]
        everybody_s = math.inf if flying else float(ended_s.max()) if len(ended_s) else opened_s
        earliest_s = opened_s + options.minimum_wait
        enough_s = max(_nth_s(arrived_s, keep), earliest_s)
        at_s = min(enough_s, everybody_s, opened_s + (options.maximum_wait or math.inf))
        in_time = _num_until(arrived_s, at_s)
        if math.isfinite(at_s) and in_time < options.minimum_updates:
            if options.too_few == "abort":
                refused = ABORTED.format(arrived=in_time, minimum=options.minimum_updates)
                return Closing(at_s=at_s, kept=frozenset(), refused=refused)
            at_s = min(_nth_s(arrived_s, options.minimum_updates), everybody_s)
        num_kept = min(_num_until(arrived_s, at_s), max(keep, _num_until(arrived_s, earliest_s)))
        kept = frozenset(numbers[arrived[:num_kept]].tolist())
        return Closing(at_s=at_s, kept=kept, refused=TOO_SLOW.format(keep=keep))

    def process(self, clock: Clock, server: Server, launch: Launch) -> Generator[simpy.Event, object, None]:
        """Run rounds until the server says that the run is over."""
        while not server.is_over():
            keep, opened_s = server.devices_per_round, clock.now
            flights = server.dispatch(opened_s, wanted=self.wanted(keep))
            if not flights:
                yield clock.at(server.next_chance_s(clock.now))
                continue
            server.train(self._to_train(flights, opened_s=opened_s, keep=keep))
            out = sortie(clock, flights, launch)
            closing = yield from self._until_closed(clock, out, opened_s=opened_s, keep=keep)
            out.recall(self._too_late(clock.now, opened_s=opened_s, keep=keep))
            yield out.all()
            server.digest(_judged(out.ended(), closing), clock.now)

    def _to_train(self, flights: Sequence[Flight], *, opened_s: float, keep: int) -> Sequence[Flight]:
        """Return the flights that the round may keep, as far as that is known before they are launched."""
        table = Flights.of(flights)
        if not table.end_as_planned:
            return flights
        kept = self.closing(Endings.plain(table, table.planned), 0, opened_s=opened_s, keep=keep).kept
        return table.taken(np.flatnonzero([number in kept for number in table.numbers]))

    def _until_closed(
        self, clock: Clock, out: Sortie, *, opened_s: float, keep: int
    ) -> Generator[simpy.Event, object, Closing]:
        """Wait until the round closes."""
        waits = (self._options.minimum_wait, self._options.maximum_wait)
        timers = [clock.at(opened_s + wait_s) for wait_s in waits if wait_s]
        num_arrived = 0
        while True:
            running = [timer for timer in timers if not timer.processed]
            # Until a timer rings, the K-th update closes the round, and the end of the last flight beyond that.
            awaited = keep - num_arrived if num_arrived < keep else MOST_DEVICES
            arrivals = awaited if len(running) == len(timers) else 0
            yield clock.any_of([out.next(arrivals=arrivals), *running])
            yield clock.after_all()
            ended = out.ended()
            num_arrived = int(np.count_nonzero(ended.outcomes.has_arrived))
            closing = self.closing(ended, out.num_flying, opened_s=opened_s, keep=keep)
            if closing.at_s <= clock.now:
                return closing

    def _too_late(self, now_s: float, *, opened_s: float, keep: int) -> str:
        latest_s = opened_s + (self._options.maximum_wait or math.inf)
        return MISSED if now_s >= latest_s else TOO_SLOW.format(keep=keep)


def _judged(ended: Endings, closing: Closing) -> Endings:
    """Return the endings, those refused whose update arrived and whom the round does not keep."""
    is_kept = np.array([number in closing.kept for number in ended.flights.numbers], np.bool_)
    return ended.refusing(np.flatnonzero(ended.outcomes.has_arrived & ~is_kept), closing.refused)


def _nth_s(arrived_s: Floats, count: int) -> float:
    """Return when the `count`-th update arrived; `inf` where fewer have."""
    return float(arrived_s[count - 1]) if len(arrived_s) >= count else math.inf


def _num_until(arrived_s: Floats, at_s: float) -> int:
    """Return how many have arrived by `at_s`."""
    return int(np.searchsorted(arrived_s, at_s, side="right"))


def _build(options: DeadlineOptions) -> Deadline:
    return Deadline(options)


COMPONENT = Component(
    kind="deadline",
    summary="rounds with over-selection that keep the first K and close at a deadline",
    source="Bonawitz et al., MLSys 2019, arXiv 1902.01046, section 2.2",
    options=DeadlineOptions,
    build=_build,
)
