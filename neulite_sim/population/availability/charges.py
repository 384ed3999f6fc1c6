"""Batteries that flights drain: what each device has left, and when it has enough to be offered work.

What a device draws in flight is followed exactly, state by state, and remembered: the next flight begins with what the
one before has left and the charger has brought since. A device whose charge is below `minimum` counts as offline until
it is charged again, unless it is in flight: a flight goes on until its battery is empty.

The columns change where a device leaves and lands, in the order of virtual time, which a replay repeats. Looks at a
moment that has passed are answered as they were, from a log of the landings since then.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence

import numpy as np

from neulite_sim.arrays import Flags, Floats, Integers
from neulite_sim.population.availability.charge_course import Cells, Course
from neulite_sim.traces.intervals import TICKS_PER_SECOND
from neulite_sim.units import DAY_S

Pauses = Sequence[tuple[float, float]]
PHASES = ("receive_watts", "compute_watts", "send_watts")


class Charges:
    """The batteries of a fleet; `watts` are columns by state, `level_j` what each has at virtual time 0.

    It is an `Availability`: a device is online where it has `least_j`, or is in flight.
    """

    def __init__(self, cells: Cells, *, watts: Mapping[str, Floats], level_j: Floats, least_j: Floats) -> None:
        self.cells, self._watts, self._least_j, self._first_j = cells, watts, least_j, level_j
        self.begin()

    def begin(self) -> None:
        """Begin a run: all are as they are at virtual time 0."""
        num = len(self._first_j)
        self._level_j, self._since_s = self._first_j.copy(), np.zeros(num)
        self._left_s = np.full(num, math.inf)
        self._opens_s, self._closes_s = np.zeros(num), np.zeros(num)
        # Whose window is not known yet ends before all time.
        self._begins_s, self._ends_s = np.full(num, math.inf), np.full(num, -math.inf)
        # device, left, landed, level before, since before: five numbers for each landing.
        self._log = array("d")

    # ---- what a run tells -------------------------------------------------------------------------------------------

    def depart(self, devices: Integers, at_s: float) -> None:
        """Take note that devices are in flight from now on."""
        self._left_s[devices] = at_s

    def land(self, devices: Integers, ended_s: Floats, seconds: Sequence[Floats], pauses: Sequence[Pauses]) -> None:
        """Take note that the flights of devices, each once, have ended after `seconds` in each phase and `pauses`."""
        left_s = self._left_s[devices]
        self._set(devices, left_s, ended_s, self._flown(devices, left_s, seconds, pauses)[1])

    def _set(self, devices: Integers, left_s: Floats, ended_s: Floats, level_j: Floats) -> None:
        before = (devices.astype(np.float64), left_s, ended_s, self._level_j[devices], self._since_s[devices])
        # In the order of time, which that of several landings together may not be.
        self._log.extend(np.stack(before, axis=1)[np.argsort(ended_s, kind="stable")].ravel().tolist())
        self._level_j[devices], self._since_s[devices] = level_j, ended_s
        self._left_s[devices] = math.inf
        self._begins_s[devices], self._ends_s[devices] = math.inf, -math.inf

    # ---- what a flight draws ----------------------------------------------------------------------------------------

    def level_j(self, devices: Integers, at_s: float) -> Floats:
        """Return the joules that devices which are not in flight have now."""
        course = Course(self.cells.of(devices), self._level_j[devices], self._since_s[devices])
        return course.level_j(np.full(len(devices), at_s))

    def empty_s(self, devices: Integers, at_s: float, seconds: Sequence[Floats], pauses: Sequence[Pauses]) -> Floats:
        """Return when the batteries of devices are empty that leave now for flights like these; `inf` for never."""
        return self._flown(devices, np.full(len(devices), at_s), seconds, pauses)[0]

    def _flown(
        self, devices: Integers, left_s: Floats, seconds: Sequence[Floats], pauses: Sequence[Pauses]
    ) -> tuple[Floats, Floats]:
        """Return when the batteries are empty in flights, and the joules that are left in them."""
        watts = np.stack([self._watts[phase][devices] for phase in PHASES], axis=1)
        empty_s, level_j = self._walk(devices, left_s, np.stack(list(seconds), axis=1), watts)
        for place, waits in enumerate(pauses) if any(pauses) else ():
            if waits:
                one, worked_s = slice(place, place + 1), [float(phase[place]) for phase in seconds]
                durations_s, drawn = self._stretches(int(devices[place]), float(left_s[place]), worked_s, waits)
                empty_s[one], level_j[one] = self._walk(devices[one], left_s[one], durations_s[None], drawn[None])
        return empty_s, level_j

    def _stretches(self, device: int, left_s: float, seconds: Sequence[float], pauses: Pauses) -> tuple[Floats, Floats]:
        """Return the stretches of a flight in their order: how long each lasts, and what the device draws in it."""
        found: list[tuple[float, float]] = []
        now_s, waits = left_s, list(pauses)
        idle = float(self._watts["idle_watts"][device])
        for phase, worked_s in zip(PHASES, seconds, strict=True):
            watts, rest_s = float(self._watts[phase][device]), worked_s
            while waits and waits[0][0] < now_s + rest_s:
                begins_s, ends_s = waits.pop(0)
                works_s = max(begins_s - now_s, 0.0)
                found += [(works_s, watts), (ends_s - begins_s, idle)]
                rest_s, now_s = rest_s - works_s, ends_s
            found.append((max(rest_s, 0.0), watts))
            now_s += max(rest_s, 0.0)
        found += [(ends_s - begins_s, idle) for begins_s, ends_s in waits]
        durations_s, watts_of = zip(*found, strict=True)
        return np.array(durations_s), np.array(watts_of)

    def _walk(self, devices: Integers, left_s: Floats, durations_s: Floats, watts: Floats) -> tuple[Floats, Floats]:
        """Return when each battery is empty (`inf`: never), and the joules left in it, after stretches `[F, S]`."""
        cells = self.cells.of(devices)
        level_j = Course(cells, self._level_j[devices], self._since_s[devices]).level_j(left_s)
        empty_s, now_s = np.full(len(devices), math.inf), left_s.copy()
        for stretch in range(durations_s.shape[1]):
            rest_s = durations_s[:, stretch].copy()
            while (rest_s > 0).any():
                into_s = cells.into_day_s(now_s)
                is_plugged = into_s < cells.plugged_s
                switch_s = np.where(is_plugged, cells.plugged_s - into_s, DAY_S - into_s)
                step_s = np.minimum(rest_s, np.maximum(switch_s, 1 / TICKS_PER_SECOND))
                drain = watts[:, stretch] - cells.charging_watts * is_plugged
                runs_out = np.isinf(empty_s) & (drain > 0) & (step_s > 0) & (level_j <= drain * step_s)
                left = np.divide(level_j, drain, out=np.zeros_like(level_j), where=drain > 0)
                empty_s = np.where(runs_out, now_s + np.minimum(left, step_s), empty_s)
                level_j = np.clip(level_j - drain * step_s, 0.0, cells.capacity_j)
                now_s, rest_s = now_s + step_s, rest_s - step_s
        return empty_s, level_j

    # ---- who has enough ---------------------------------------------------------------------------------------------

    def online(self, at_s: float) -> Flags:
        """Return for every device whether it has enough at virtual time `at_s`, or is in flight then."""
        late = self._landed_after(at_s)
        if len(late):
            return self._past_online(at_s, late)
        self._look(at_s)
        enough: Flags = (self._opens_s <= at_s) & (at_s < self._closes_s)
        return enough | (self._left_s <= at_s)

    def online_until_s(self, devices: Integers, at_s: float, horizon_s: float = math.inf) -> Floats:
        """Return until when each of `devices`, if it does not fly meanwhile, has enough; `at_s` for one that has not.

        One in flight is online for as long as is asked.
        """
        now_s = np.full(len(devices), at_s)
        course, least_j = self._course(devices), self._least_j[devices]
        has, aloft = course.has(now_s, least_j), self._left_s[devices] <= at_s
        found, asks = np.where(aloft, math.inf, at_s), np.flatnonzero(has & ~aloft)
        if len(asks):
            some = self._course(devices[asks])
            found[asks] = some.until_s(now_s[asks], least_j[asks], horizon_s)
        return found

    def next_online_s(self, devices: Integers, at_s: float) -> Floats:
        """Return the first time >= `at_s` when each of `devices` has enough, if it does not fly; `inf` for never."""
        return self.next_online_each_s(devices, np.full(len(devices), float(at_s)))

    def next_online_each_s(self, devices: Integers, at_s: Floats) -> Floats:
        """Return the first time >= `at_s[i]`, all finite, when `devices[i]` has enough; `inf` where it never has."""
        aloft = self._left_s[devices] <= at_s
        return np.where(aloft, at_s, self._course(devices).next_s(at_s, self._least_j[devices]))

    def _course(self, devices: Integers) -> Course:
        return Course(self.cells.of(devices), self._level_j[devices], self._since_s[devices])

    def _look(self, at_s: float) -> None:
        """Bring the windows of all devices to those of the stays that hold `at_s`."""
        stale = np.flatnonzero((self._begins_s > at_s) | (self._ends_s <= at_s))
        if not len(stale):
            return
        course, now_s = self._course(stale), np.full(len(stale), at_s)
        day = course.day(now_s)
        stay = course.stay(day)
        opens_s, closes_s, _ = course.window(day, self._least_j[stale])
        self._opens_s[stale], self._closes_s[stale] = opens_s, closes_s
        self._begins_s[stale], self._ends_s[stale] = stay.begins_s, stay.ends_s

    def _landed_after(self, at_s: float) -> Floats:
        """Return the landings after a moment, from the last back; landings stand in the log in the order of time."""
        first = len(self._log)
        while first and self._log[first - 3] > at_s:
            first -= 5
        return np.array(self._log[first:], np.float64).reshape(-1, 5)[::-1]

    def _past_online(self, at_s: float, late: Floats) -> Flags:
        """Return the same of a moment before some landings."""
        level_j, since_s, left_s = self._level_j.copy(), self._since_s.copy(), self._left_s.copy()
        for device, left, landed, before_j, before_s in late.tolist():
            if landed > at_s:
                place = int(device)
                level_j[place], since_s[place] = before_j, before_s
                left_s[place] = left if left <= at_s else math.inf
        left_s[left_s > at_s] = math.inf
        course = Course(self.cells, level_j, since_s)
        return course.has(np.full(len(level_j), at_s), self._least_j) | (left_s <= at_s)
