"""Sorted half-open intervals of many rows in three flat arrays, and bisection over them.

A row is a device, or a label of a trace that several devices share. All times lie on a grid of 2**-20 s (about a
microsecond), so that adding and subtracting whole chunks of time is exact below 2**33 s (272 years): a moment that
one lookup returns is the same moment for every other lookup.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from neulite_sim.arrays import Floats, Integers

TICKS_PER_SECOND = 2.0**20
# A power of two: the product is exact, and several times faster than a quotient.
_SECONDS_PER_TICK = 1.0 / TICKS_PER_SECOND


LAST_S = 2.0**33
"""Times beyond are not read from files: there the grid is no longer exact. As Unix time it is the year 2242."""
TOO_LATE = "lies beyond 2^33 s (272 years), the last that is read; times are in seconds, not milliseconds"
TOO_SHORT = "is shorter than a tick of the clock (2^-20 s, about a microsecond)"


def on_grid(seconds: Floats) -> Floats:
    """Return the nearest times on the grid."""
    ticks = seconds * TICKS_PER_SECOND
    np.rint(ticks, out=ticks)
    ticks *= _SECONDS_PER_TICK
    return ticks


def nearest_tick(seconds: float) -> float:
    """Return the nearest time on the grid."""
    return round(seconds * TICKS_PER_SECOND) / TICKS_PER_SECOND


def above_on_grid(seconds: Floats) -> Floats:
    """Return the next times on the grid at or after `seconds`, at least one tick."""
    ticks = seconds * TICKS_PER_SECOND
    np.ceil(ticks, out=ticks)
    np.maximum(ticks, 1.0, out=ticks)
    ticks *= _SECONDS_PER_TICK
    return ticks


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """Row r holds `[start_s[i], end_s[i])` for i from `offsets[r]` to `offsets[r + 1] - 1`.

    Within a row they are ascending, not empty, and do not touch each other.
    """

    offsets: Integers
    start_s: Floats
    end_s: Floats

    @property
    def num_rows(self) -> int:
        """Number of rows, those without intervals included."""
        return len(self.offsets) - 1

    @property
    def num_bytes(self) -> int:
        """Bytes held by the three arrays."""
        return self.offsets.nbytes + self.start_s.nbytes + self.end_s.nbytes

    def first_start_s(self) -> Floats:
        """Return per row when its first interval starts, `inf` where it has none."""
        found = np.full(self.num_rows, np.inf)
        filled = np.flatnonzero(np.diff(self.offsets))
        found[filled] = self.start_s[self.offsets[filled]]
        return found

    def last_started(self, rows: Integers, at_s: float | Floats) -> Integers:
        """Return per row the index of the last interval with `start_s <= at_s`; `offsets[row] - 1` where none has."""
        low, high = self.offsets[rows], self.offsets[rows + 1]
        widest = int(np.max(high - low, initial=0))
        for _ in range(widest.bit_length()):
            middle = (low + high) // 2
            # A search that has ended keeps low == high; its probe may lie one past the last interval.
            started = self.start_s[np.minimum(middle, len(self.start_s) - 1)] <= at_s
            searching = low < high
            low = np.where(searching & started, middle + 1, low)
            high = np.where(searching & ~started, middle, high)
        return low - 1


def merged(rows: Integers, start_s: Floats, end_s: Floats, *, num_rows: int) -> Intervals:
    """Return the intervals of each row with empty ones left out and touching ones joined.

    `rows` is ascending, `start_s` and `end_s` are ascending within a row; an interval may overlap the one before.
    """
    # Numbers of the chosen, not a flag for each: taking by number is several times faster.
    filled = np.flatnonzero(end_s > start_s)
    rows, start_s, end_s = rows[filled], start_s[filled], end_s[filled]
    is_alone = np.ones(len(rows) + 1, np.bool_)
    is_alone[1:-1] = (rows[1:] != rows[:-1]) | (start_s[1:] > end_s[:-1])
    first, last = np.flatnonzero(is_alone[:-1]), np.flatnonzero(is_alone[1:])
    offsets = np.zeros(num_rows + 1, np.int64)
    np.cumsum(np.bincount(rows[first], minlength=num_rows), out=offsets[1:])
    return Intervals(offsets=offsets, start_s=start_s[first], end_s=end_s[last])


def stacked(parts: Iterable[Intervals]) -> Intervals:
    """Return the rows of all parts, one part after the other."""
    counts, starts_s, ends_s = [np.zeros(1, np.int64)], [], []
    for part in parts:
        counts.append(np.diff(part.offsets))
        starts_s.append(part.start_s)
        ends_s.append(part.end_s)
    # Column by column, each let go of when it is put together: for a million devices a quarter less is held at once.
    start_s = np.concatenate(starts_s)
    starts_s.clear()
    return Intervals(offsets=np.cumsum(np.concatenate(counts)), start_s=start_s, end_s=np.concatenate(ends_s))
