"""Numbers as small pictures and short texts, without any terminal library: what the console and reports draw with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neulite_sim.units import format_bytes

BLANK = "\u2800"
_LEVELS = "▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉"
# Of the memory of a large device: thinner rungs would begin and end at the same number.
_THINNEST_RUNG_SHARE = 0.01
# Dots of a Braille cell, by column and row from the top (Unicode chart U+2800).
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


class History:
    """The whole history of a number in bounded memory: once full, neighbours are averaged and the step doubles."""

    def __init__(self, *, capacity: int = 512) -> None:
        self._capacity = capacity + capacity % 2
        self._means: list[float] = []
        self._step = 1
        self._sum = 0.0
        self._summed = 0

    def add(self, value: float) -> None:
        """Append one value."""
        self._sum += value
        self._summed += 1
        if self._summed < self._step:
            return
        self._means.append(self._sum / self._summed)
        self._sum, self._summed = 0.0, 0
        if len(self._means) == self._capacity:
            pairs = zip(self._means[::2], self._means[1::2], strict=True)
            self._means = [(left + right) / 2 for left, right in pairs]
            self._step *= 2

    def values(self) -> list[float]:
        """Return the history from its start to its end, at most `capacity` numbers."""
        return [*self._means, self._sum / self._summed] if self._summed else list(self._means)


def resampled(values: Sequence[float], width: int) -> list[float]:
    """Return at most `width` numbers: means of equal shares of `values`, or `values` where they are few enough."""
    if len(values) <= width:
        return list(values)
    return [float(part.mean()) for part in np.array_split(np.asarray(values), width)]


def sparkline(values: Sequence[float], width: int) -> str:
    """Return the history as at most `width` block characters, lowest to highest value."""
    points = resampled(values, width)
    if not points:
        return ""
    low, span = min(points), max(points) - min(points)
    top = len(_LEVELS) - 1
    return "".join(_LEVELS[round((value - low) / span * top) if span > 0 else top // 2] for value in points)


def bar(share: float, width: int) -> str:
    """Return a bar that fills `share` (0 to 1) of `width` characters, to an eighth; something is never nothing."""
    eighths = min(max(round(share * width * 8), 1 if share > 0 else 0), width * 8)
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def nice_range(values: Sequence[float], *, step: float = 0.1) -> tuple[float, float]:
    """Return the smallest range of whole steps inside [0, 1] that holds `values`; (0, 1) without values."""
    if not values:
        return 0.0, 1.0
    low = math.floor(min(values) / step + 1e-9) * step
    high = math.ceil(max(values) / step - 1e-9) * step
    return max(0.0, min(low, 1 - step)), min(1.0, max(high, low + step))


@dataclass(frozen=True, slots=True)
class Plot:
    """A line of Braille dots: `height` rows of `width` characters between `low` and `high`, top row first."""

    rows: tuple[str, ...]
    low: float
    high: float

    def row_of(self, value: float) -> int | None:
        """Return the row in which a value lies, or None outside the plot."""
        if not self.low <= value <= self.high:
            return None
        return _dot_row(value, self, len(self.rows)) // 4

    def value_at(self, row: int) -> float:
        """Return the value at the height of a row: `high` for the first, `low` for the last."""
        return self.high - (self.high - self.low) * row / max(len(self.rows) - 1, 1)


def _dot_row(value: float, limits: Plot, height: int) -> int:
    share = (limits.high - value) / (limits.high - limits.low)
    return round(min(max(share, 0.0), 1.0) * (height * 4 - 1))


def plot(values: Sequence[float], *, width: int, height: int) -> Plot:
    """Return accuracies as a connected line over the whole width; a single value is a dot at the left."""
    limits = Plot((), *nice_range(values))
    cells = [[0] * width for _ in range(height)]
    if values:
        dots = width * 2 if len(values) > 1 else 1
        curve = np.interp(np.linspace(0, len(values) - 1, dots), np.arange(len(values)), values)
        heights = [_dot_row(float(value), limits, height) for value in curve]
        for dot, (before, here) in enumerate(zip([heights[0], *heights[:-1]], heights, strict=True)):
            # From the neighbour's height to the own one, so that steep parts stay connected.
            for row in range(min(before, here), max(before, here) + 1):
                cells[row // 4][dot // 2] |= _DOTS[dot % 2][row % 4]
    rows = tuple("".join(chr(ord(BLANK) + cell) for cell in line) for line in cells)
    return Plot(rows, limits.low, limits.high)


def time_left_s(marks: Sequence[tuple[float, float]], goal: float, now_s: float) -> float | None:
    """Return the wall seconds until `goal` at the mean pace over `marks`, or None where there is no pace yet.

    `marks` are pairs of wall second and progress, oldest first; the time since the last of them counts as spent.
    """
    if len(marks) < 2:
        return None
    (first_s, first), (last_s, last) = marks[0], marks[-1]
    if last <= first or last_s <= first_s:
        return None
    return max(0.0, (goal - last) * (last_s - first_s) / (last - first) - (now_s - last_s))


def reach_s(points: Sequence[tuple[float, float]], target: float) -> float | None:
    """Return how many seconds after the last of `points` the target is reached, going on along their slope.

    `points` are pairs of second and value; the slope is that of their least-squares line, and goes on from its last
    value, or from the best of all values where that is lower: the line overshoots a curve that flattens.
    None with fewer than three points, without a rise, or where it would take over twenty times the span seen.
    """
    if len(points) < 3:
        return None
    at_s, values = np.asarray(points, dtype=np.float64).T
    spread = at_s - at_s.mean()
    if not spread.any():
        return None
    slope = float((spread * (values - values.mean())).sum() / (spread**2).sum())
    if slope <= 0:
        return None
    last = min(float(values.mean()) + slope * float(spread[-1]), float(values.max()))
    left_s = (target - last) / slope
    return max(0.0, left_s) if left_s <= 20 * float(at_s[-1] - at_s[0]) else None


def counted(count: int) -> str:
    """Return a count in at most six characters: 12,345, 120k, 1.2M."""
    if count < 100_000:
        return f"{count:,}"
    return f"{count / 1e3:.0f}k" if count < 1_000_000 else f"{count / 1e6:.3g}M"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A submodel's threshold in the ladder: what it needs and how many devices have it."""

    name: str
    needed_bytes: int
    devices: int

    def text(self, width: int) -> str:
        """Return the mark's label in at most `width` characters, the longest form that fits."""
        need = f"{self.name} {format_bytes(self.needed_bytes)}"
        count = counted(self.devices)
        forms = (f"{need}: {count} device{' fits' if self.devices == 1 else 's fit'}", f"{need}: {count} fit", need)
        return next((form for form in forms if len(form) <= width), forms[-1][:width])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """The devices whose available memory lies in [low, high) (the last rung: [low, high])."""

    low_bytes: int
    high_bytes: int
    devices: int
    submodels: int
    """How many of the method's submodels fit on every one of them."""

    def label(self) -> str:
        """Return the range in words: "250–310 MB"."""
        units = (10**6, "kB", 10**3, 0), (10**7, "MB", 10**6, 2), (10**8, "MB", 10**6, 1), (10**10, "MB", 10**6, 0)
        fitting = ((unit, scale, digits) for below, unit, scale, digits in units if self.high_bytes < below)
        unit, scale, digits = next(fitting, ("GB", 10**9, 1))
        low, high = (f"{value / scale:.{digits}f}" for value in (self.low_bytes, self.high_bytes))
        return f"{low} {unit}" if low == high else f"{low}–{high} {unit}"


def _shown(thresholds: Sequence[tuple[str, int]], most: int) -> list[tuple[str, int]]:
    """Return at most `most` thresholds by size, the smallest and the largest among them."""
    ordered = sorted(thresholds, key=lambda threshold: (threshold[1], threshold[0]))
    if len(ordered) <= most:
        return ordered
    kept = sorted({round(place) for place in np.linspace(0, len(ordered) - 1, most)})
    return [ordered[place] for place in kept]


def _split(edges: list[int], budgets: NDArray[np.int64], rungs: int) -> list[int]:
    """Return the edges with the widest rungs halved until there are `rungs` of them; thin tails stay whole."""
    # Beyond these a few devices with very much or little memory would take most of the room.
    low, high = (int(limit) for limit in np.quantile(budgets, (0.02, 0.98)))
    while len(edges) < rungs:
        ends = [*edges[1:], int(budgets[-1])]
        widths = [min(end, high) - max(edge, low) for edge, end in zip(edges, ends, strict=True)]
        place = int(np.argmax(widths))
        if widths[place] < _THINNEST_RUNG_SHARE * high:
            return edges
        middle = (min(ends[place], high) + max(edges[place], low)) // 2
        edges = [*edges[: place + 1], middle, *edges[place + 1 :]]
    return edges


def memory_ladder(
    budgets: NDArray[np.int64],
    thresholds: Sequence[tuple[str, int]],
    *,
    rows: int,
    fitting: Mapping[str, int] | None = None,
) -> list[Mark | Rung]:
    """Return a histogram of the fleet's memory with the thresholds of its submodels between the rungs, ascending.

    Every threshold is an edge, so the devices that fit a submodel are those on the rungs after its mark, but for those
    that are charged for more than the threshold: `fitting` counts by submodel without them.

    Args:
        budgets: available bytes of every device, ascending, at least one.
        thresholds: names and needed bytes of the submodels, in any order.
        rows: how many marks and rungs there is room for; with little room some middle thresholds are left out.
        fitting: how many devices hold each submodel, by what each is charged.
    """
    shown = _shown(thresholds, max(min(len(thresholds), (rows - 1) // 2), 1))
    low, high = int(budgets[0]), int(budgets[-1])
    edges = sorted({low, *(needed for _, needed in shown if low < needed <= high)})
    edges = _split(edges, budgets, rows - len(shown))
    starts = np.searchsorted(budgets, edges)
    ends = np.append(starts[1:], len(budgets))
    marks = [
        Mark(
            name=name,
            needed_bytes=needed,
            devices=(fitting or {}).get(name, len(budgets) - int(np.searchsorted(budgets, needed))),
        )
        for name, needed in shown
    ]
    ladder: list[Mark | Rung] = []
    for edge, until, start, end in zip(edges, [*edges[1:], high], starts, ends, strict=True):
        while marks and marks[0].needed_bytes <= edge:
            ladder.append(marks.pop(0))
        held = sum(needed <= edge for _, needed in thresholds)
        ladder.append(Rung(low_bytes=edge, high_bytes=until, devices=int(end - start), submodels=held))
    return [*ladder, *marks]
