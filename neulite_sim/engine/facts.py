"""What a round came to, as the rows, the selector and the test of its model are told of it."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from neulite_sim.engine.untrained import Untrained
from neulite_sim.engine.views import Report
from neulite_sim.methods.contract import Update
from neulite_sim.methods.offering import OUT_OF_MEMORY
from neulite_sim.timeline.endings import Endings


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many devices were online, offered work and denied it when a round's latest flights left.

    `in_flight` flew until the aggregation, those that it merges included.
    """

    online: int
    offered: int
    denied: int
    denied_by_memory: int
    in_flight: int

    @classmethod
    def of(cls, report: Report, *, in_flight: int) -> Counts:
        """Return those of a report."""
        sizes = [(item.reason, len(item)) for item in report.proposal.denials]
        return cls(
            online=report.num_online,
            offered=len(report.proposal.offers),
            denied=sum(size for _, size in sizes),
            denied_by_memory=sum(size for reason, size in sizes if reason == OUT_OF_MEMORY),
            in_flight=in_flight,
        )


@dataclass(frozen=True, kw_only=True)
class RoundFacts:
    """A round that has ended, before its test.

    `learned` and `stalenesses` are by flight, for those that were merged; the updates are kept without their tensors.
    `report` may name a million devices; whoever keeps the facts for later keeps them `without_report`.
    """

    round: int
    at_s: float
    stage: str
    counts: Counts
    learning_rate: float
    ended: Endings
    learned: Mapping[int, Update]
    stalenesses: Mapping[int, int]
    workers_replaced: int
    wall_time_s: float = 0.0
    report: Report | None = None
    """What the server saw when the latest flights left."""

    def without_report(self) -> RoundFacts:
        """Return the same without the devices that are named in the report."""
        return replace(self, report=None)

    @functools.cached_property
    def losses(self) -> Mapping[int, float]:
        """The mean loss of each update, by flight; not of those where nothing was trained or training diverged."""
        if isinstance(self.learned, Untrained):
            return {}
        return {number: update.loss for number, update in self.learned.items() if math.isfinite(update.loss)}

    @property
    def skipped_terms(self) -> int:
        """How many terms of the loss were left out in the trainings of all updates."""
        if isinstance(self.learned, Untrained):
            return 0
        return sum(_skipped_terms(update) for update in self.learned.values() if update.metrics)


def known_loss(update: Update) -> float | None:
    """Return the mean loss of an update; None where nothing was trained or training diverged."""
    return update.loss if math.isfinite(update.loss) else None


def loss_rms(update: Update) -> float | None:
    """Return the root mean square of the losses of its samples; None where that is not known."""
    squared_loss = update.metrics.get("squared_loss", math.nan)
    return math.sqrt(squared_loss) if math.isfinite(squared_loss) else None


def _skipped_terms(update: Update) -> int:
    """Return how many terms of the loss were left out in its training."""
    return round(update.metrics.get("num_skipped_terms", 0.0))
