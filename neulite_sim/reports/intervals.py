"""Confidence intervals over seeds, and differences between methods whose runs are paired by seed.

Two runs of one seed share fleet, data and the order of random streams, so much of what differs between seeds cancels in
their difference. The interval is Student's ("The probable error of a mean", Biometrika 6(1), 1908): with n values of
mean m and sample standard deviation s,

    m ± t s / sqrt(n),   t the quantile (1 + confidence) / 2 of the t distribution with n - 1 degrees of freedom.

With enough values there is also the bootstrap that is corrected for bias and skewness (BCa: Efron, "Better bootstrap
confidence intervals", JASA 82, 1987), as scipy has it, for values that are far from normal. Of fewer than eight it is
too narrow to be offered: three values have ten distinct resamples.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from neulite_sim.seeding import stream

CONFIDENCE = 0.95
LEAST_FOR_BOOTSTRAP = 8
_RESAMPLES = 9999
# Of the larger of two numbers: what is left of equal ones after rounding.
_ROUNDING = 1e-12

Verdict = Literal["better", "worse", "not told apart"]
Kind = Literal["t", "bca"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean and the ends of its confidence interval, in the unit of the values; both None of fewer than two values."""

    mean: float
    low: float | None
    high: float | None
    count: int
    """How many values it is the mean of."""
    kind: Kind = "t"
    """How the ends were found."""

    @property
    def half_width(self) -> float | None:
        """The distance from the mean to the upper end; of a t-interval to either."""
        return None if self.high is None else self.high - self.mean

    def text(self, scale: float = 1.0, *, digits: int, is_signed: bool = False) -> str:
        """Return it in units of `scale`: "95.1 ± 0.4", or with both ends where they are not as far from the mean."""
        form = f"{'+' if is_signed else ''}.{digits}f"
        mean = f"{self.mean / scale:{form}}"
        if self.low is None or self.high is None:
            return mean
        if self.kind == "t":
            return f"{mean} ± {(self.high - self.mean) / scale:.{digits}f}"
        return f"{mean} ({self.low / scale:{form}} to {self.high / scale:{form}})"

    def verdict(self, *, larger_is_better: bool = True) -> Verdict:
        """Return what the interval of a difference says: better or worse only where it leaves out zero."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "not told apart"
        return "better" if (self.low > 0) == larger_is_better else "worse"


def t_quantile(probability: float, degrees: int) -> float:
    """Return the quantile of Student's t distribution with `degrees` >= 1 degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def mean_interval(values: Sequence[float], *, confidence: float = CONFIDENCE, kind: Kind = "t") -> Interval:
    """Return mean and interval of at least one value, taken as independent draws of one distribution.

    Student's takes it as normal. With `bca` fewer than eight values, and equal ones, get Student's all the same.
    """
    mean, count = statistics.fmean(values), len(values)
    if count < 2:
        return Interval(mean=mean, low=None, high=None, count=count)
    if kind == "bca" and count >= LEAST_FOR_BOOTSTRAP and max(values) > min(values):
        return _bootstrapped(values, mean, confidence)
    half_width = t_half_width(statistics.stdev(values), count, confidence=confidence)
    return Interval(mean=mean, low=mean - half_width, high=mean + half_width, count=count)


def t_half_width(deviation: float, count: int, *, confidence: float = CONFIDENCE) -> float:
    """Return half of the t-interval of the mean of `count` >= 2 values with this sample standard deviation."""
    return t_quantile((1 + confidence) / 2, count - 1) * deviation / math.sqrt(count)


def _bootstrapped(values: Sequence[float], mean: float, confidence: float) -> Interval:
    from scipy.stats import bootstrap

    # The resamples are the same each time, so that equal runs give equal intervals.
    draws = stream(0, "bootstrap", len(values))
    found = bootstrap((np.asarray(values),), np.mean, n_resamples=_RESAMPLES, confidence_level=confidence,
                      method="BCa", random_state=draws).confidence_interval  # fmt: skip
    return Interval(mean=mean, low=float(found.low), high=float(found.high), count=len(values), kind="bca")


def paired_difference(
    values: Mapping[int, float], baseline: Mapping[int, float], *, confidence: float = CONFIDENCE, kind: Kind = "t"
) -> Interval | None:
    """Return the mean of `values - baseline` over the seeds that both have, with its interval; None without any."""
    seeds = sorted(values.keys() & baseline.keys())
    if not seeds:
        return None
    return mean_interval([_less(values[seed], baseline[seed]) for seed in seeds], confidence=confidence, kind=kind)


def _less(value: float, other: float) -> float:
    """Return `value - other`, zero where that is what rounding leaves: the same number is no difference."""
    difference = value - other
    return 0.0 if abs(difference) <= _ROUNDING * max(abs(value), abs(other)) else difference
