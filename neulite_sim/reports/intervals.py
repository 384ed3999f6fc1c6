"""Confidence intervals over seeds, and differences between methods whose runs are paired by seed.

Two runs of one seed share fleet, data and the order of random streams, so much of what differs between seeds cancels in
their difference. The interval is Student's ("The probable error of a mean", Biometrika 6(1), 1908): with n values of
mean m and sample standard deviation s,

    m ± t s / sqrt(n),   t the quantile (1 + confidence) / 2 of the t distribution with n - 1 degrees of freedom.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

CONFIDENCE = 0.95

Verdict = Literal["better", "worse", "not told apart"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean and the ends of its confidence interval, in the unit of the values; both None of fewer than two values."""

    mean: float
    low: float | None
    high: float | None
    count: int
    """How many values it is the mean of."""

    @property
    def half_width(self) -> float | None:
        """The distance from the mean to either end."""
        return None if self.high is None else self.high - self.mean

    def verdict(self, *, larger_is_better: bool = True) -> Verdict:
        """Return what the interval of a difference says: better or worse only where it leaves out zero."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "not told apart"
        return "better" if (self.low > 0) == larger_is_better else "worse"


def t_quantile(probability: float, degrees: int) -> float:
    """Return the quantile of Student's t distribution with `degrees` >= 1 degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def mean_interval(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Interval:
    """Return mean and t-interval of at least one value, taken as independent draws of a normal distribution."""
    mean, count = statistics.fmean(values), len(values)
    if count < 2:
        return Interval(mean=mean, low=None, high=None, count=count)
    t = t_quantile((1 + confidence) / 2, count - 1)
    half_width = t * statistics.stdev(values) / math.sqrt(count)
    return Interval(mean=mean, low=mean - half_width, high=mean + half_width, count=count)


def paired_difference(
    values: Mapping[int, float], baseline: Mapping[int, float], *, confidence: float = CONFIDENCE
) -> Interval | None:
    """Return the mean of `values - baseline` over the seeds that both have, with its interval; None without any."""
    seeds = sorted(values.keys() & baseline.keys())
    if not seeds:
        return None
    return mean_interval([values[seed] - baseline[seed] for seed in seeds], confidence=confidence)
