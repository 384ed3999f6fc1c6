"""How far predicted seconds are from measured ones, and whether they fall into the same order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from neulite_sim.arrays import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How far predictions are from measurements: relative errors as shares, and how well they order the steps.

    `spearman` is in [-1, 1], NaN where all are equal.
    """

    count: int
    median_error: float
    p90_error: float
    spearman: float

    def to_json(self) -> Mapping[str, float]:
        """Return plain values by name."""
        return asdict(self)


def quality(predicted: Floats, measured: Floats) -> Quality:
    """Return the quality of predictions: |predicted - measured| / measured, at its median and 90th percentile."""
    errors = np.abs(predicted - measured) / measured
    return Quality(
        count=len(errors),
        median_error=float(np.median(errors)),
        p90_error=float(np.quantile(errors, 0.9)),
        spearman=spearman(predicted, measured),
    )


def spearman(first: Floats, second: Floats) -> float:
    """Return Spearman's rank correlation, equal values sharing the mean of their ranks (Spearman 1904)."""
    ranks = np.stack([_ranks(first), _ranks(second)])
    if (np.ptp(ranks, axis=1) == 0).any():
        return float("nan")
    left, right = ranks - ranks.mean(axis=1, keepdims=True)
    return float(left @ right / np.sqrt((left @ left) * (right @ right)))


def _ranks(values: Floats) -> Floats:
    _, positions, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks: Floats = np.cumsum(counts) - (counts - 1) / 2
    return mean_ranks[positions]
