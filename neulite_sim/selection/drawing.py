"""Weighted draws without replacement that selectors have in common."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST_SHARE = 1e-9
"""Share of the largest weight that every candidate keeps, so that a draw never runs out of candidates."""


def draw_weighted(weights: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return `count` positions (all where there are no more), each draw in proportion to the weights that are left.

    An exponential clock per candidate, with its weight as rate: the first `count` to ring are such a sample
    (Efraimidis and Spirakis, Information Processing Letters 97, 2006). Weights are not negative; all zero means
    all alike.
    """
    floored = np.maximum(weights, LEAST_SHARE * weights.max(initial=0.0))
    rates = floored if floored.any() else np.ones(len(weights))
    rings = rng.standard_exponential(len(weights)) / rates
    return np.argsort(rings, kind="stable")[:count].astype(np.int64)
