"""Available memory that follows a trace, once or again and again."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from neulite_sim.arrays import Floats, Integers
from neulite_sim.population.memory.contract import FleetMemory
from neulite_sim.population.memory.searching import Wanted
from neulite_sim.traces.intervals import Intervals
from neulite_sim.traces.labels import unused_labels
from neulite_sim.traces.memory import KIND, MOST_AVAILABLE_BYTES, MemoryFile
from neulite_sim.units import DAY_S


class TraceMemory:
    """The lookups of `contract.MemoryMotion` over a trace; device d follows label `rows[d]`.

    The trace begins again every `repeat_s`, a time on the grid after all of its own; `inf` for once.
    """

    def __init__(
        self, trace: MemoryFile, memory: FleetMemory, *, rows: Integers, repeat_s: float, path: Path | None = None
    ) -> None:
        self._trace = trace
        self._starts = Intervals(offsets=trace.offsets, start_s=trace.time_s, end_s=trace.time_s)
        self._rows = rows
        self._repeat_s = repeat_s
        self._nominal_bytes, self._cap_bytes = memory.nominal_bytes, memory.cap_bytes
        self._changes_s = np.unique(np.append(trace.time_s, 0.0))
        self.notes = self._notes(path or Path("the trace"))

    def _notes(self, path: Path) -> tuple[str, ...]:
        """Return what a user should know of the trace: lines that serve nobody, capped values, late beginnings."""
        trace, rows = self._trace, self._rows
        key = KIND.key.removesuffix(".path")
        notes = [*unused_labels(key, path, num_labels=len(trace.labels), num_devices=len(rows))]
        most = np.maximum.reduceat(trace.values, trace.offsets[:-1])[rows]
        is_above = np.rint(most * self._nominal_bytes if trace.is_share else most) > self._cap_bytes
        if count := int(np.count_nonzero(is_above)):
            notes.append(f"{key}: {path} gives {count} of {len(rows)} devices more than their usable memory, capped")
        begin_s = float(trace.time_s[trace.offsets[rows]].min())
        if begin_s >= DAY_S:
            notes.append(
                f"{key}: nobody's memory moves before virtual day {begin_s // DAY_S:,.0f}, the first time in {path} "
                f"being {begin_s:.16g} s; set {key}.origin to first, or to the time that is virtual time 0"
            )
        return tuple(notes)

    def available_bytes(self, at_s: float, round_number: int) -> Integers:
        """Return the available memory of every device at virtual time `at_s`; the round does not matter.

        Raises:
            ValueError: `at_s` is negative or not finite.
        """
        return self.available_bytes_of(np.arange(len(self._rows)), at_s, round_number)

    def available_bytes_of(self, devices: Integers, at_s: float, round_number: int) -> Integers:
        """Return the same for some devices, without the work for the others."""
        rows = self._rows[devices]
        _, since_s = self._locate(at_s)
        found = np.maximum(self._starts.last_started(rows, since_s), self._trace.offsets[rows])
        return self._bytes(self._trace.values[found], devices)

    def short_from_s(self, device: int, needed_bytes: int, at_s: float, until_s: float) -> float:
        """Return the first moment from `at_s` to `until_s` at which a device has less than `needed_bytes`.

        `inf` where there is none.
        """
        wanted = Wanted(devices=np.array([device]), needed_bytes=np.array([needed_bytes]), is_short=True)
        return self._first_s(wanted, at_s, until_s)

    def enough_from_s(self, devices: Integers, needed_bytes: Integers, at_s: Floats, until_s: float) -> Floats:
        """Return the first moment of each device from its `at_s` to `until_s` at which it has `needed_bytes`.

        `inf` where there is none.
        """
        found_s = np.full(len(devices), math.inf)
        wanted = Wanted(devices=devices, needed_bytes=needed_bytes, is_short=False)
        most = np.maximum.reduceat(self._trace.values, self._trace.offsets[:-1])[self._rows[devices]]
        for place in np.flatnonzero(wanted.is_met(self._bytes(most, devices))).tolist():
            found_s[place] = self._first_s(wanted.taken(np.array([place])), float(at_s[place]), until_s)
        return found_s

    def _first_s(self, wanted: Wanted, at_s: float, until_s: float) -> float:
        """Return when it is so first of one device, from `at_s` to `until_s`."""
        device, row = wanted.devices[0], self._rows[wanted.devices[0]]
        if at_s <= until_s and wanted.is_met(self.available_bytes_of(wanted.devices, at_s, 0))[0]:
            return at_s
        entries = slice(self._trace.offsets[row], self._trace.offsets[row + 1])
        time_s = self._trace.time_s[entries].copy()
        # Before its own moment the first value holds, so a repetition begins with it.
        time_s[0] = 0.0
        met_s = time_s[wanted.is_met(self._bytes(self._trace.values[entries], np.full(len(time_s), device)))]
        begin_s, since_s = self._locate(at_s)
        candidates_s = begin_s + met_s[met_s > since_s]
        if not len(candidates_s) and len(met_s) and self._repeat_s < math.inf:
            candidates_s = begin_s + self._repeat_s + met_s
        first_s = float(candidates_s.min(initial=math.inf))
        return first_s if first_s <= until_s else math.inf

    def next_change_s(self, at_s: float) -> float:
        """Return the next moment after `at_s` at which a line of the file begins to hold; `inf` after the last."""
        begin_s, since_s = self._locate(at_s)
        later_s = self._changes_s[self._changes_s > since_s]
        return begin_s + (float(later_s[0]) if len(later_s) else self._repeat_s)

    def _bytes(self, values: Floats, devices: Integers) -> Integers:
        wanted = values * self._nominal_bytes[devices] if self._trace.is_share else values
        return np.minimum(np.rint(np.minimum(wanted, MOST_AVAILABLE_BYTES)).astype(np.int64), self._cap_bytes[devices])

    def _locate(self, at_s: float) -> tuple[float, float]:
        """Return when the repetition that holds `at_s` began, and the seconds since; both exact on the grid."""
        if not 0 <= at_s < math.inf:
            raise ValueError(f"virtual time {at_s} s is outside [0, inf); available memory is known from 0 on")
        if self._repeat_s == math.inf:
            return 0.0, at_s
        begin_s = at_s // self._repeat_s * self._repeat_s
        return begin_s, at_s - begin_s
