"""What a round came to, as the rows, the selector and the test of its model are told of it."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from neulite_sim.engine.views import Look
from neulite_sim.methods.contract import Proposal, Update
from neulite_sim.timeline.endings import Endings


@dataclass(frozen=True, kw_only=True)
class RoundFacts:
    """A round that has ended, before its test.

    `learned` and `stalenesses` are by flight, for those that were merged; the updates are kept without their tensors.
    """

    round: int
    at_s: float
    stage: str
    proposal: Proposal
    num_online: int
    learning_rate: float
    ended: Endings
    learned: Mapping[int, Update]
    stalenesses: Mapping[int, int]
    workers_replaced: int
    wall_time_s: float = 0.0
    look: Look | None = None
    """When the server looked whose proposal this is."""

    @functools.cached_property
    def losses(self) -> Mapping[int, float]:
        """The mean loss of each update, by flight; not of those where nothing was trained or training diverged."""
        return {number: update.loss for number, update in self.learned.items() if math.isfinite(update.loss)}


def known_loss(update: Update) -> float | None:
    """Return the mean loss of an update; None where nothing was trained or training diverged."""
    return update.loss if math.isfinite(update.loss) else None


def loss_rms(update: Update) -> float | None:
    """Return the root mean square of the losses of its samples; None where that is not known."""
    squared_loss = update.metrics.get("squared_loss", math.nan)
    return math.sqrt(squared_loss) if math.isfinite(squared_loss) else None


def skipped_terms(update: Update) -> int:
    """Return how many terms of the loss were left out in its training."""
    return round(update.metrics.get("num_skipped_terms", 0.0))
