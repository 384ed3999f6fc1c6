"""Availability of a trace: its intervals chunk by chunk, once or again and again."""

from __future__ import annotations

import numpy as np

from neulite_sim.arrays import Floats
from neulite_sim.traces.intervals import TICKS_PER_SECOND, Intervals, merged


class TraceSource:
    """The intervals of a trace over `[0, length_s)`, again and again, or once."""

    look_ahead = 1

    def __init__(self, intervals: Intervals, *, length_s: float, is_repeated: bool) -> None:
        self.length_s = length_s
        self._intervals = intervals
        self._after = intervals if is_repeated else _offline(intervals.num_rows)

    def chunk(self, index: int) -> Intervals:
        """Return when each label is online in repetition `index`, in seconds since its start."""
        return self._after if index else self._intervals


class PeriodicSource:
    """The intervals of a trace whose labels start over each after a period of its own, or end after it.

    A chunk is as long as the longest period, so that each label shows all it ever does within one chunk.
    """

    look_ahead = 1

    def __init__(self, intervals: Intervals, *, period_s: Floats, is_repeated: bool) -> None:
        self.length_s = float(period_s.max())
        self.period_s = period_s
        self._intervals = intervals
        self._is_repeated = is_repeated
        self._row_of_interval = np.repeat(np.arange(intervals.num_rows), np.diff(intervals.offsets))
        # Whole ticks: which repetitions a chunk meets is then exact however far out it lies.
        self._period_ticks = np.rint(period_s * TICKS_PER_SECOND).astype(np.int64)

    @property
    def intervals_per_chunk(self) -> float:
        """About how many intervals a chunk holds; a short period beside a long one makes many."""
        counts = np.diff(self._intervals.offsets)
        return float((counts * (self.length_s / self.period_s)).sum()) if self._is_repeated else float(counts.sum())

    def chunk(self, index: int) -> Intervals:
        """Return when each label is online in chunk `index`, in seconds since its start, cut to its length."""
        if index and not self._is_repeated:
            return _offline(self._intervals.num_rows)
        length = int(self._period_ticks.max())
        begin = index * length
        first = begin // self._period_ticks if self._is_repeated else np.zeros_like(self._period_ticks)
        after = -(-(begin + length) // self._period_ticks) if self._is_repeated else first + 1
        counts = (after - first)[self._row_of_interval]
        source = np.repeat(np.arange(len(counts)), counts)
        rows = self._row_of_interval[source]
        number = np.arange(len(source)) - np.repeat(np.cumsum(counts) - counts, counts) + first[rows]
        shift_s = (number * self._period_ticks[rows] - begin) / TICKS_PER_SECOND
        start_s = np.clip(self._intervals.start_s[source] + shift_s, 0.0, self.length_s)
        end_s = np.clip(self._intervals.end_s[source] + shift_s, 0.0, self.length_s)
        order = np.lexsort((start_s, rows))
        return merged(rows[order], start_s[order], end_s[order], num_rows=self._intervals.num_rows)


def _offline(num_rows: int) -> Intervals:
    none = np.empty(0)
    return Intervals(offsets=np.zeros(num_rows + 1, np.int64), start_s=none, end_s=none)
