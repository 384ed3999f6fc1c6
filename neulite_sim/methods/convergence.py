"""Effective movement: whether a block has stopped going anywhere.

With updates U_k = w_k - w_{k-1} of a block's weights and a window of H updates,

    EM_k = |sum_{h<H} U_{k-h}|_1 / sum_{h<H} |U_{k-h}|_1   in [0, 1],

1 while every update goes the same way and near 0 when they cancel (ProFL, Wu et al., KDD 2025, and its published code).
A block counts as converged when the least-squares slope of the latest EM values has stayed under a threshold for a
number of evaluations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from neulite_sim.bounds import RoundCount, Weight
from neulite_sim.later import Tensor, torch
from neulite_sim.registry import Options
from neulite_sim.seeding import stream


class Convergence(Options):
    """When a block of the sequential schedule is frozen and the next one begins."""

    window: int = Field(6, ge=1, le=1000)
    """H: number of updates that one effective movement looks at."""
    evaluations: int = Field(15, ge=2, le=1000)
    """Number of latest EM values the line is fitted to, and of evaluations in a row that must be flat."""
    slope_threshold: Weight = 0.01
    """Largest magnitude of the slope, per round, that counts as flat."""
    max_rounds: RoundCount = 400
    """A block is frozen after this many rounds at the latest."""
    scalars: int = Field(10_000, ge=1, le=10**8)
    """At most this many of the block's weights, chosen once, are followed."""

    @property
    def least_rounds(self) -> int:
        """After how many rounds a block can have converged at the earliest."""
        return min(self.max_rounds, self.window + 2 * self.evaluations - 1)


@dataclass(frozen=True, slots=True)
class Movement:
    """What has been seen of one block: the latest weights, EM values, and how long they have been flat."""

    snapshots: tuple[Tensor, ...] = ()
    values: tuple[float, ...] = ()
    num_flat: int = 0
    rounds: int = 0

    def seen(self, weights: Tensor, rule: Convergence) -> Movement:
        """Return the movement after one more round; `weights` are the followed scalars, a 1-D tensor."""
        snapshots = (*self.snapshots, weights)[-(rule.window + 1) :]
        if len(snapshots) <= rule.window:
            return Movement(snapshots, self.values, self.num_flat, self.rounds + 1)
        values = (*self.values, effective_movement(snapshots))[-rule.evaluations :]
        is_flat = len(values) == rule.evaluations and abs(slope(values)) < rule.slope_threshold
        return Movement(snapshots, values, self.num_flat + 1 if is_flat else 0, self.rounds + 1)

    def has_converged(self, rule: Convergence) -> bool:
        """Whether the block should be frozen now."""
        return self.num_flat >= rule.evaluations or self.rounds >= rule.max_rounds


def followed(tensors: Mapping[str, Tensor], block: int, *, count: int, seed: int) -> Tensor:
    """Return those scalars of a block (1 to T) that its movement is judged by: at most `count`, chosen once."""
    prefix = f"blocks.{block - 1}."
    weights = torch.cat([tensor.flatten() for name, tensor in tensors.items() if name.startswith(prefix)])
    if weights.numel() <= count:
        return weights
    chosen = stream(seed, "effective-movement", block).choice(weights.numel(), count, replace=False)
    return weights[torch.from_numpy(chosen)]


def effective_movement(snapshots: Sequence[Tensor]) -> float:
    """Return EM over the updates between consecutive `snapshots` (at least two), in [0, 1]; 0 for no movement."""
    weights = torch.stack([snapshot.double() for snapshot in snapshots])
    updates = weights.diff(dim=0)
    travelled = updates.abs().sum()
    return float(updates.sum(dim=0).abs().sum() / travelled) if travelled > 0 else 0.0


def slope(values: Sequence[float]) -> float:
    """Return the slope of the least-squares line through `values` at 0, 1, 2, ..."""
    return float(np.polyfit(np.arange(len(values)), np.asarray(values), 1)[0])
