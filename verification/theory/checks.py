"""What theory gives beside what was measured: a check, and the distributions that checks draw from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

NUM_ERRORS = 4.0

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
Draw = Callable[[np.random.Generator, int], Floats]


def deterministic(numbers: np.random.Generator, count: int) -> Floats:
    """Return ones."""
    return np.ones(count)


def exponential(numbers: np.random.Generator, count: int) -> Floats:
    """Return sizes of mean 1."""
    return numbers.exponential(size=count)


def uniform(numbers: np.random.Generator, count: int) -> Floats:
    """From 1/2 to 3/2: mean 1."""
    return numbers.uniform(0.5, 1.5, size=count)


def hyperexponential(numbers: np.random.Generator, count: int) -> Floats:
    """Nine of ten have mean 1/2, one of ten 5.5: mean 1, squared coefficient of variation 5.5."""
    return np.where(numbers.random(count) < 0.9, 0.5, 5.5) * numbers.exponential(size=count)


SIZES: dict[str, Draw] = {
    "exponential": exponential,
    "deterministic": deterministic,
    "hyperexponential": hyperexponential,
}
"""Sizes of mean 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One comparison with theory. It holds where the two differ by at most `NUM_ERRORS` standard errors."""

    name: str
    measured: float
    expected: float
    standard_error: float

    @property
    def tolerance(self) -> float:
        """What the two may differ by."""
        return NUM_ERRORS * self.standard_error

    @property
    def num_errors(self) -> float:
        """By how many standard errors the measured value lies above the expected one."""
        return (self.measured - self.expected) / self.standard_error

    @property
    def holds(self) -> bool:
        """Whether the difference is within the tolerance."""
        return abs(self.measured - self.expected) <= self.tolerance


def of_replications(name: str, replications: list[float], expected: float) -> Check:
    """Return the check of a mean of independent replications; the error is estimated from their spread."""
    error = float(np.std(replications, ddof=1)) / math.sqrt(len(replications))
    return Check(name=name, measured=float(np.mean(replications)), expected=expected, standard_error=error)


def of_counts(name: str, count: int, of: int, probability: float) -> Check:
    """Return the check of a number of independent successes; the error is that of the binomial distribution."""
    error = math.sqrt(probability * (1 - probability) / of)
    return Check(name=name, measured=count / of, expected=probability, standard_error=error)
