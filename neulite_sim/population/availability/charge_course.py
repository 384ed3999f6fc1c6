"""The charge of idle batteries from any level on: a closed form, for many devices and moments at once.

A device is plugged in once a day, at a clock time of its own. Plugged in it gains `charging - idle` watts up to full,
otherwise it loses `idle` watts down to nothing. Let G be what it gains in a day at most, L what it loses, C a full
battery, and q the joules at the first unplugging after a whole time on the charger. Then the k-th of these unpluggings
finds it at

    clip(q + k (G - L), min(C, G), C)

because a day adds G - L until the battery is full, or empty each time it is plugged in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from neulite_sim.arrays import Flags, Floats, Integers
from neulite_sim.traces.intervals import on_grid
from neulite_sim.units import DAY_S, MOST_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The batteries of devices: columns, one entry per device, and what they have in common."""

    capacity_j: Floats
    idle_watts: Floats
    plugged_at_s: Floats
    """The clock time at which each is plugged in, in [0, 24 h)."""
    charging_watts: float
    plugged_s: float
    """How long they stay plugged in each day."""

    def of(self, devices: Integers) -> Cells:
        """Return those of some devices."""
        return Cells(
            capacity_j=self.capacity_j[devices],
            idle_watts=self.idle_watts[devices],
            plugged_at_s=self.plugged_at_s[devices],
            charging_watts=self.charging_watts,
            plugged_s=self.plugged_s,
        )

    def into_day_s(self, at_s: Floats) -> Floats:
        """Return the seconds since each was plugged in last, in [0, 24 h)."""
        into_s: Floats = (at_s - self.plugged_at_s) % DAY_S
        return np.where(into_s >= DAY_S, 0.0, into_s)

    @property
    def rise_watts(self) -> Floats:
        """What an idle device gains while it is plugged in."""
        return self.charging_watts - self.idle_watts

    @property
    def gained_j(self) -> Floats:
        """What an idle device gains in a day on the charger, at most."""
        return self.rise_watts * self.plugged_s

    @property
    def lost_j(self) -> Floats:
        """What an idle device loses in a day off the charger, at most."""
        return self.idle_watts * (DAY_S - self.plugged_s)

    def highest_j(self) -> Floats:
        """Return the joules with which an idle device is unplugged, day after day."""
        gained_j = np.minimum(self.gained_j, self.capacity_j)
        return np.where(self.lost_j <= gained_j, self.capacity_j, gained_j)

    def usual_j(self, at_s: float) -> Floats:
        """Return the joules of devices that have been idle for ever."""
        highest_j = self.highest_j()
        into_s = self.into_day_s(np.full(len(self.capacity_j), at_s))
        rising = np.minimum(np.maximum(highest_j - self.lost_j, 0.0) + self.rise_watts * into_s, highest_j)
        falling = np.maximum(highest_j - self.idle_watts * (into_s - self.plugged_s), 0.0)
        usual: Floats = np.where(into_s < self.plugged_s, rising, falling)
        return usual


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """A time from one plugging in to the next, or the rest of one: moments, and joules at its start and its peak."""

    begins_s: Floats
    unplugged_s: Floats
    ends_s: Floats
    first_j: Floats
    peak_j: Floats


class Course:
    """The charge of idle devices that had `level_j` at `since_s`, from then on."""

    def __init__(self, cells: Cells, level_j: Floats, since_s: Floats) -> None:
        self._cells = cells
        into_s = cells.into_day_s(since_s)
        unplugged_s = np.where(into_s < cells.plugged_s, on_grid(since_s - into_s + cells.plugged_s), since_s)
        peak_j = np.minimum(level_j + cells.rise_watts * (unplugged_s - since_s), cells.capacity_j)
        self._next_s = on_grid(since_s - into_s + DAY_S)
        self._first = Stay(
            begins_s=since_s, unplugged_s=unplugged_s, ends_s=self._next_s, first_j=level_j, peak_j=peak_j
        )
        self._left_j = np.maximum(peak_j - cells.idle_watts * (self._next_s - unplugged_s), 0.0)

    def day(self, at_s: Floats) -> Integers:
        """Return in which stay each moment lies: 0 up to the next plugging in, and from there on days from 1."""
        return np.where(at_s < self._next_s, 0, np.floor((at_s - self._next_s) / DAY_S) + 1).astype(np.int64)

    def _peak_j(self, day: Integers) -> Floats:
        """Return the joules at the unplugging of a day from 1 on."""
        cells = self._cells
        first_j = np.minimum(self._left_j + cells.gained_j, cells.capacity_j)
        lowest_j = np.minimum(cells.gained_j, cells.capacity_j)
        return np.clip(first_j + (day - 1) * (cells.gained_j - cells.lost_j), lowest_j, cells.capacity_j)

    def stay(self, day: Integers) -> Stay:
        """Return the stay of each device of its day."""
        cells, first, is_first = self._cells, self._first, day == 0
        begins_s = self._next_s + (day - 1) * DAY_S
        first_j = np.where(day <= 1, self._left_j, np.maximum(self._peak_j(day - 1) - cells.lost_j, 0.0))
        return Stay(
            begins_s=np.where(is_first, first.begins_s, begins_s),
            unplugged_s=np.where(is_first, first.unplugged_s, begins_s + cells.plugged_s),
            ends_s=np.where(is_first, first.ends_s, begins_s + DAY_S),
            first_j=np.where(is_first, first.first_j, first_j),
            peak_j=np.where(is_first, first.peak_j, self._peak_j(day)),
        )

    def level_j(self, at_s: Floats) -> Floats:
        """Return the joules at moments not before `since_s`."""
        cells, stay = self._cells, self.stay(self.day(at_s))
        rising = np.minimum(stay.first_j + cells.rise_watts * (at_s - stay.begins_s), stay.peak_j)
        falling = np.maximum(stay.peak_j - cells.idle_watts * (at_s - stay.unplugged_s), 0.0)
        found: Floats = np.where(at_s < stay.unplugged_s, rising, falling)
        return found

    def window(self, day: Integers, least_j: Floats) -> tuple[Floats, Floats, Flags]:
        """Return from when to when in the stay of its day a device has `least_j`, and whether it has to its very end.

        A device that never has it there opens at `inf`.
        """
        cells, stay = self._cells, self.stay(day)
        rises_s = stay.begins_s + np.maximum(least_j - stay.first_j, 0.0) / cells.rise_watts
        opens_s = np.where(stay.first_j >= least_j, stay.begins_s, on_grid(np.minimum(rises_s, stay.unplugged_s)))
        opens_s = np.where(stay.peak_j >= least_j, opens_s, math.inf)
        falls_s = on_grid(stay.unplugged_s + (stay.peak_j - least_j) / cells.idle_watts)
        is_whole = falls_s >= stay.ends_s
        return opens_s, np.where(is_whole, stay.ends_s, falls_s), is_whole

    def has(self, at_s: Floats, least_j: Floats) -> Flags:
        """Return whether each device has `least_j` at its moment."""
        opens_s, closes_s, _ = self.window(self.day(at_s), least_j)
        found: Flags = (opens_s <= at_s) & (at_s < closes_s)
        return found

    def until_s(self, at_s: Floats, least_j: Floats, horizon_s: float) -> Floats:
        """Return until when each device, which has `least_j` at its moment, has it without a break; `inf`: for ever.

        What comes at or after `horizon_s` is not looked for.
        """
        day = self.day(at_s)
        found = np.full(len(at_s), math.inf)
        pending = np.ones(len(at_s), np.bool_)
        latest_s = min(horizon_s, MOST_SECONDS)
        while pending.any():
            _, closes_s, is_whole = self.window(day, least_j)
            next_opens_s, _, _ = self.window(day + 1, least_j)
            breaks = pending & ~(is_whole & (next_opens_s <= closes_s))
            found[breaks] = closes_s[breaks]
            # From the second whole day on, a day that is like the one before is like all to come.
            is_same = (day >= 2) & (self._peak_j(day + 1) == self._peak_j(np.maximum(day, 1)))
            pending &= ~breaks & ~is_same & (closes_s < latest_s)
            day = np.where(pending, self._skipped(day + 1, least_j), day)
        return found

    def _skipped(self, day: Integers, least_j: Floats) -> Integers:
        """Return the last day up to which all days are like `day`: whole where the charge falls from day to day."""
        cells = self._cells
        falls_j = cells.lost_j - cells.gained_j
        first_j = np.minimum(self._left_j + cells.gained_j, cells.capacity_j)
        with np.errstate(divide="ignore", invalid="ignore"):
            lasts = np.floor((first_j - least_j - cells.lost_j) / falls_j)
        return _at_least(day, np.where(falls_j > 0, lasts, 0.0))

    def next_s(self, at_s: Floats, least_j: Floats) -> Floats:
        """Return when each device has `least_j` next, at its moment or later; `inf` where it never has again."""
        found = np.full(len(at_s), math.inf)
        day = self.day(at_s)
        pending = np.ones(len(at_s), np.bool_)
        latest_s = np.maximum(at_s, 0.0) + MOST_SECONDS
        while pending.any():
            opens_s, closes_s, _ = self.window(day, least_j)
            moment_s = np.maximum(opens_s, at_s)
            hits = pending & (moment_s < closes_s) & np.isfinite(moment_s)
            found[hits] = moment_s[hits]
            pending &= ~hits & (self._next_s + day * DAY_S < latest_s)
            day = np.where(pending, self._risen(day + 1, least_j), day)
        return found

    def _risen(self, day: Integers, least_j: Floats) -> Integers:
        """Return a day from `day` on before which no day has `least_j`, where the charge rises from day to day."""
        cells = self._cells
        rises_j = cells.gained_j - cells.lost_j
        first_j = np.minimum(self._left_j + cells.gained_j, cells.capacity_j)
        with np.errstate(divide="ignore", invalid="ignore"):
            lasts = np.floor((least_j - first_j) / rises_j)
        return _at_least(day, np.where(rises_j > 0, lasts, 0.0))


def _at_least(day: Integers, number: Floats) -> Integers:
    """Return the later of two days; a number that is none, or of a day that nobody sees, does not count."""
    is_sure = np.isfinite(number) & (number < MOST_SECONDS)
    return np.maximum(day, np.where(is_sure, number, 0.0).astype(np.int64))
