"""Availability of a trace whose devices start over each after a period of its own, looked up without chunks.

A chunk of `trace.PeriodicSource` is as long as the longest period and holds every repetition of the others: a second
beside thirty years would be a billion intervals. Here a moment is taken modulo the period of each row and found by
bisection among the intervals of the file. Answers are those of the chunks; a question costs more where they are small.
"""

from __future__ import annotations

import math

import numpy as np

from neulite_sim.arrays import Flags, Floats, Integers
from neulite_sim.traces.intervals import Intervals


class PeriodicAvailability:
    """The lookups of `table.Availability`; device d is row `row_of_device[d]` of `intervals`.

    `period_s` is the period of each row, on the grid; without `is_repeated` a row is offline after its first.
    """

    def __init__(
        self,
        intervals: Intervals,
        *,
        period_s: Floats,
        is_repeated: bool,
        row_of_device: Integers,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.notes = notes
        self._intervals = intervals
        self._period_s = period_s
        self._is_repeated = is_repeated
        self._row_of_device = row_of_device
        filled = np.flatnonzero(np.diff(intervals.offsets))
        first, last = intervals.offsets[filled], intervals.offsets[filled + 1] - 1
        # How long a row that is online at the end of its period stays so at the beginning of the next.
        self._goes_on_s = np.zeros(intervals.num_rows)
        if is_repeated:
            wraps = (intervals.start_s[first] == 0) & (intervals.end_s[last] == period_s[filled])
            never_ends = wraps & (intervals.end_s[first] == period_s[filled])
            length_s = np.where(never_ends, math.inf, intervals.end_s[first])
            self._goes_on_s[filled] = np.where(wraps, length_s, 0.0)

    def online(self, at_s: float) -> Flags:
        """Return for every device whether it is online at virtual time `at_s`.

        Raises:
            ValueError: `at_s` is negative or not finite.
        """
        rows = np.arange(self._intervals.num_rows)
        _, _, inside = self._find(rows, self._moments(rows, at_s))
        found: Flags = inside[self._row_of_device]
        return found

    def online_until_s(self, devices: Integers, at_s: float, horizon_s: float = math.inf) -> Floats:
        """Return when each of `devices` goes offline next (`inf`: never); `at_s` for one that is offline now.

        Raises:
            ValueError: `at_s` is negative or not finite.
        """
        del horizon_s
        rows = self._row_of_device[devices]
        moments_s = self._moments(rows, at_s)
        begin_s, found, inside = self._find(rows, moments_s)
        held, row = found[inside], rows[inside]
        end_s = self._intervals.end_s[held]
        goes_on_s = np.where(end_s == self._period_s[row], self._goes_on_s[row], 0.0)
        until_s = moments_s
        until_s[inside] = begin_s[inside] + end_s + goes_on_s
        return until_s

    def next_online_s(self, devices: Integers, at_s: float) -> Floats:
        """Return the first time >= `at_s` when each of `devices` is online; `inf` where that never happens.

        Raises:
            ValueError: `at_s` is negative or not finite.
        """
        return self.next_online_each_s(devices, self._moments(devices, at_s))

    def next_online_each_s(self, devices: Integers, at_s: Floats) -> Floats:
        """Return the first time >= `at_s[i]`, all finite, when `devices[i]` is online; `inf` where that never is."""
        rows = self._row_of_device[devices]
        begin_s, found, inside = self._find(rows, at_s)
        first, after = self._intervals.offsets[rows], self._intervals.offsets[rows + 1]
        comes_s = np.full(len(rows), math.inf)
        later = np.flatnonzero((found + 1 < after) & (self._is_repeated | (begin_s == 0)))
        comes_s[later] = begin_s[later] + self._intervals.start_s[found[later] + 1]
        if self._is_repeated:
            again = np.flatnonzero((found + 1 >= after) & (after > first))
            comes_s[again] = begin_s[again] + self._period_s[rows[again]] + self._intervals.start_s[first[again]]
        return np.where(inside, at_s, comes_s)

    @staticmethod
    def _moments(rows: Integers, at_s: float) -> Floats:
        if not 0 <= at_s < math.inf:
            raise ValueError(f"virtual time {at_s} s is outside [0, inf); availability begins at 0")
        return np.full(len(rows), float(at_s))

    def _find(self, rows: Integers, at_s: Floats) -> tuple[Floats, Integers, Flags]:
        """Return when the period that holds each moment began, the last interval begun since, and whether it holds."""
        period_s = self._period_s[rows]
        begin_s = at_s // period_s * period_s
        since_s = at_s - begin_s
        found = self._intervals.last_started(rows, since_s)
        inside = found >= self._intervals.offsets[rows]
        inside[inside] = since_s[inside] < self._intervals.end_s[found[inside]]
        if not self._is_repeated:
            inside &= begin_s == 0
        return begin_s, found, inside
