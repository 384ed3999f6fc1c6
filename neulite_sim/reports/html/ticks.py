"""Axes of charts: limits, and ticks at numbers that people count in. Pure functions.

Steps are 1, 2 or 5 times a power of ten for numbers, percentages and sizes, and the usual parts of minutes, hours and
days for times; where perplexities differ twentyfold, their axis is logarithmic. A tick says its number without its
unit; the unit stands in the title of the axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from neulite_sim.reports.measures import log_steps, perplexity_range, step_text

_TIMES_S = (
    ("milliseconds", 1e-3, 0.0, (1.0,)),
    ("seconds", 1.0, 0.5, (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0)),
    ("minutes", 60.0, 120.0, (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0)),
    ("hours", 3600.0, 7200.0, (1.0, 2.0, 3.0, 6.0, 12.0)),
    ("days", 86400.0, 4 * 86400.0, (1.0, 2.0, 7.0)),
)
"""Name, seconds, from how many seconds on, and steps in it beyond which those of numbers go on."""
_THINNEST = 1e-6
"""Of the larger limit, or of one: what is closer is drawn as one place."""
_BYTES = (("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A place on an axis, in the unit of its values, and what stands there."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """From `low` to `high`, which is more; the title names the quantity and the unit of the ticks."""

    title: str
    low: float
    high: float
    ticks: tuple[Tick, ...]
    is_log: bool = False
    """Whether equal ratios are equally far apart; `low` is above zero then."""

    def share(self, value: float) -> float:
        """Return where a value lies, 0 at `low` and 1 at `high`; outside it is one of the two."""
        if self.is_log:
            value = min(max(value, self.low), self.high)
            return math.log(value / self.low) / math.log(self.high / self.low)
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)


def nice_step(span: float, most: int, *, least: float = 0.0) -> float:
    """Return the smallest 1, 2 or 5 times a power of ten of which at most `most` (>= 1) fit into `span` (> 0)."""
    wanted = max(span / most, least, 1e-300)
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(power * factor for factor in (1.0, 2.0, 5.0, 10.0) if power * factor >= wanted * (1 - 1e-9))


def _apart(low: float, high: float) -> float:
    """Return `high`, or one above `low` where the two are nearly the same: an axis has a length."""
    return high if high - low > _THINNEST * max(abs(low), abs(high), 1.0) else low + max(1.0, _THINNEST * 10 * abs(low))


def _ticks(low: float, high: float, step: float, scale: float = 1.0) -> tuple[Tick, ...]:
    """Return ticks at whole multiples of `step`, which counts in units of `scale`."""
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / scale / step - 1e-9), math.floor(high / scale / step + 1e-9)
    return tuple(Tick(at=n * step * scale, text=f"{n * step:,.{digits}f}") for n in range(first, last + 1))


def number_axis(title: str, low: float, high: float, most: int, *, is_whole: bool = False) -> Axis:
    """Return an axis that holds `low` to `high`, ending at ticks; `is_whole` keeps to whole numbers."""
    high = _apart(low, high)
    step = nice_step(high - low, most, least=1.0 if is_whole else 0.0)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return Axis(title=title, low=low, high=high, ticks=_ticks(low, high, step))


def count_axis(title: str, high: float, most: int, *, low: float = 0.0) -> Axis:
    """Return an axis of whole numbers that ends where the data ends; ticks lie inside."""
    high = _apart(low, high)
    step = nice_step(high - low, most, least=1.0)
    return Axis(title=title, low=low, high=high, ticks=_ticks(low, high, step))


def percent_axis(title: str, low: float, high: float, most: int) -> Axis:
    """Return an axis of shares (0 to 1) in percent, from the tick below `low` to the one above `high`."""
    found = number_axis(title, low * 100, high * 100, most)
    bottom, top = max(found.low, 0.0), min(found.high, 100.0)
    ticks = tuple(Tick(at=tick.at / 100, text=tick.text) for tick in found.ticks if bottom <= tick.at <= top)
    return Axis(title=f"{title} (%)", low=bottom / 100, high=top / 100, ticks=ticks)


def perplexity_axis(title: str, values: Sequence[float], most: int) -> Axis:
    """Return an axis that holds perplexities, all finite."""
    found = perplexity_range(values)
    if not found.is_log:
        return number_axis(title, max(found.low, 0.0), found.high, most)
    ticks = tuple(Tick(at=at, text=step_text(at)) for at in log_steps(found.low, found.high, most))
    return Axis(title=f"{title} (logarithmic)", low=found.low, high=found.high, ticks=ticks, is_log=True)


def time_axis(title: str, high_s: float, most: int, *, low_s: float = 0.0) -> Axis:
    """Return an axis of seconds, with ticks in the unit that suits its length."""
    high_s = _apart(low_s, high_s)
    span_s = high_s - low_s
    name, scale, _, steps = next(unit for unit in reversed(_TIMES_S) if span_s >= unit[2])
    fitting = (step for step in steps if span_s / scale / step <= most)
    step = next(fitting, 0.0) or nice_step(span_s / scale, most)
    if span_s / scale / step < 2:
        step = nice_step(span_s / scale, most)
    return Axis(title=f"{title} ({name})", low=low_s, high=high_s, ticks=_ticks(low_s, high_s, step, scale))


def byte_axis(title: str, high: float, most: int, *, low: float = 0.0) -> Axis:
    """Return an axis of bytes with ticks in decimal units."""
    high = _apart(low, high)
    unit, scale = next((unit for unit in reversed(_BYTES) if high >= 2 * unit[1]), _BYTES[0])
    step = nice_step((high - low) / scale, most, least=1.0 if scale == 1 else 0.0)
    return Axis(title=f"{title} ({unit})", low=low, high=high, ticks=_ticks(low, high, step, scale))
