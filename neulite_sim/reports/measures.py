"""What curves are drawn of: accuracy, and perplexity where runs have it. How each is said, and where its axis ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neulite_sim.reports import lines
from neulite_sim.results.stored import StoredRun

_SPREAD = 20.0
# A range that is narrower, by its high end, would draw small differences as large ones.
_LEAST_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A number that tests find out."""

    name: str
    column: str
    """Its column of the rounds."""
    summarised: str
    """The key of a summary that has it where a run was tested."""
    unit: str
    say: Callable[[float | None], str]


ACCURACY = Measure(
    name="accuracy", column="test_accuracy", summarised="final_accuracy", unit=" (%)", say=lines.accuracy
)
PERPLEXITY = Measure(
    name="perplexity",
    column="test_perplexity",
    summarised="final_perplexity",
    unit="",
    say=lambda value: lines.number(value, 2),
)
MEASURES = (ACCURACY, PERPLEXITY)


def measures_of(runs: Sequence[StoredRun]) -> tuple[Measure, ...]:
    """Return what curves of runs are drawn of: accuracy, and perplexity where one of them has it."""
    has_perplexity = any(run.summary.get(PERPLEXITY.summarised) is not None for run in runs)
    return MEASURES if has_perplexity else (ACCURACY,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Ends of an axis of perplexities; with powers of ten at equal distances where `is_log`."""

    low: float
    high: float
    is_log: bool


def perplexity_range(values: Sequence[float]) -> Range:
    """Return the range that holds perplexities, all finite; it is logarithmic where they differ twentyfold."""
    low, high = (min(values), max(values)) if values else (1.0, 10.0)
    if low > 0 and high > _SPREAD * low:
        return Range(low=low, high=high, is_log=True)
    missing = max(0.0, _LEAST_SHARE * (abs(high) or 1.0) - (high - low)) / 2
    return Range(low=low - missing, high=high + missing, is_log=False)


def log_steps(low: float, high: float, most: int) -> list[float]:
    """Return places of ticks on a logarithmic axis, at most `most` (>= 2) from `low` (> 0) to `high`, rising.

    They are 1, 2 and 5 times powers of ten, or powers of ten alone, or every so many of those.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
        inside = [at for at in found if low <= at <= high]
        if 2 <= len(inside) <= most:
            return inside
    every = max(1, -(-(last - first) // (most - 1)))
    return [at for at in (10.0**power for power in range(first, last + 1, every)) if low <= at <= high]


def step_text(at: float) -> str:
    """Return the text of a tick on a logarithmic axis: 20, 5,000, 1e+06."""
    return f"{at:,.10g}" if at < 1e5 else f"{at:.0e}"
