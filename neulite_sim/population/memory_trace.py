"""Available memory read from a file: a CSV table of what each device has from when on.

    device,t_s,available_bytes
    phone-17,0,800000000
    phone-17,3600,350000000
    phone-20,0,1200000000

A value holds until the next line of its device; before the first line, the first one holds. With `share` in place of
`available_bytes` the values are shares of the memory that the scenario gives the device. Lines may stand in any order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.outside import plain_numbers
from neulite_sim.population.diurnal import DAY_S
from neulite_sim.population.intervals import LAST_S, TOO_LATE, Intervals, on_grid
from neulite_sim.population.memory_steps import FleetMemory
from neulite_sim.population.table import Floats, Integers
from neulite_sim.population.trace import Origin, origin_of, unused_labels
from neulite_sim.population.trace_files import Table, TraceKind, first_problems, problem, read_table

BYTES, SHARE = "available_bytes", "share"
HEADERS = (("device", "t_s", BYTES), ("device", "t_s", SHARE))
KIND = TraceKind(
    name="memory",
    noun="memory trace",
    key="population.memory_motion.path",
    form="a CSV file with the header device,t_s,available_bytes (or share) whose values hold until the next line",
)
_MOST = 2.0**60


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFile:
    """The values per label, labels in the order in which the file first names them.

    Label r has `values[i]` from `time_s[i]` on, for i from `offsets[r]` to `offsets[r + 1] - 1`, times ascending.
    """

    labels: tuple[str, ...]
    is_share: bool
    offsets: Integers
    time_s: Floats
    values: Floats

    @property
    def last_s(self) -> float:
        """The latest time in the file."""
        return float(self.time_s.max())


def read_memory_trace(path: Path, origin: Origin = 0.0) -> MemoryFile:
    """Return the trace in a CSV file, or in a gzipped one (`.gz`), its times counted from `origin`.

    Raises:
        DataNotFoundError: there is no such file, or it cannot be read.
        ScenarioError: the file is not such a table; the problems name their lines.
    """
    table = read_table(path, KIND)
    if table.header not in HEADERS:
        found = ",".join(table.header) or "nothing"
        message = f"the header is {found!r}; write {' or '.join(','.join(header) for header in HEADERS)}"
        raise ScenarioError([problem(KIND, path, table.header_line, message)])
    if not table.rows:
        raise ScenarioError([problem(KIND, path, table.header_line, f"holds no value; expected {KIND.form}")])
    return _parsed(table, path, origin)


def _parsed(table: Table, path: Path, origin: Origin) -> MemoryFile:
    problems: list[Problem] = []
    width = len(table.header)
    whole = [(line, cells) for line, cells in table.rows if len(cells) == width and cells[0]]
    for line, cells in table.rows:
        if len(cells) != width or not cells[0]:
            problems.append(problem(KIND, path, line, f"{','.join(cells)!r} is not {','.join(table.header)}"))
    lines = np.array([line for line, _ in whole], np.int64)
    columns = []
    for place, (name, most) in enumerate(zip(table.header[1:], (LAST_S, _MOST), strict=True), start=1):
        texts = [cells[place] for _, cells in whole]
        numbers = np.array(plain_numbers(texts))
        columns.append(numbers)
        above = TOO_LATE if most == LAST_S else f"is above {most:.3g}, the most that is read"
        wrongs = {"is not a number from 0 up": ~(numbers >= 0), above: numbers > most}
        problems += [problem(KIND, path, int(lines[at]), f"{name} {texts[at]!r} {why}")
                     for why, is_so in wrongs.items() for at in np.flatnonzero(is_so)]  # fmt: skip
    given_s, values = columns
    number_of: dict[str, int] = {}
    rows = np.array([number_of.setdefault(cells[0], len(number_of)) for _, cells in whole], np.int64)
    labels = tuple(number_of)
    given_s = np.where(given_s <= LAST_S, given_s, math.nan)
    time_s = on_grid(given_s - origin_of(origin, given_s, lines, kind=KIND, path=path))
    order = np.lexsort((lines, time_s, rows))
    rows, time_s = rows[order], time_s[order]
    for at in np.flatnonzero((rows[1:] == rows[:-1]) & (time_s[1:] == time_s[:-1])) + 1:
        before, after = order[at - 1], order[at]
        when = f"at {given_s[after]:.16g} s" if given_s[after] == given_s[before] else "within a tick of the clock"
        message = f"device {labels[rows[at]]!r} has a second value {when}, after line {lines[before]}; write one"
        problems.append(problem(KIND, path, int(lines[after]), message))
    if problems:
        raise ScenarioError(first_problems(problems, KIND, path))
    return MemoryFile(
        labels=labels,
        is_share=table.header[2] == SHARE,
        offsets=np.searchsorted(rows, np.arange(len(labels) + 1)),
        time_s=time_s,
        values=values[order],
    )


class TraceMemory:
    """The lookups of `table.MemoryMotion` over a trace; device d follows label `rows[d]`.

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
        one, row = np.array([device]), self._rows[device]
        if int(self.available_bytes_of(one, at_s, 0)[0]) < needed_bytes:
            return at_s
        entries = slice(self._trace.offsets[row], self._trace.offsets[row + 1])
        time_s = self._trace.time_s[entries].copy()
        # Before its own moment the first value holds, so a repetition begins with it.
        time_s[0] = 0.0
        short_s = time_s[self._bytes(self._trace.values[entries], np.full(len(time_s), device)) < needed_bytes]
        begin_s, since_s = self._locate(at_s)
        candidates_s = begin_s + short_s[short_s > since_s]
        if not len(candidates_s) and len(short_s) and self._repeat_s < math.inf:
            candidates_s = begin_s + self._repeat_s + short_s
        first_s = float(candidates_s.min(initial=math.inf))
        return first_s if first_s <= until_s else math.inf

    def next_change_s(self, at_s: float) -> float:
        """Return the next moment after `at_s` at which a line of the file begins to hold; `inf` after the last."""
        begin_s, since_s = self._locate(at_s)
        later_s = self._changes_s[self._changes_s > since_s]
        return begin_s + (float(later_s[0]) if len(later_s) else self._repeat_s)

    def _bytes(self, values: Floats, devices: Integers) -> Integers:
        wanted = values * self._nominal_bytes[devices] if self._trace.is_share else values
        return np.minimum(np.rint(np.minimum(wanted, _MOST)).astype(np.int64), self._cap_bytes[devices])

    def _locate(self, at_s: float) -> tuple[float, float]:
        """Return when the repetition that holds `at_s` began, and the seconds since; both exact on the grid."""
        if not 0 <= at_s < math.inf:
            raise ValueError(f"virtual time {at_s} s is outside [0, inf); available memory is known from 0 on")
        if self._repeat_s == math.inf:
            return 0.0, at_s
        begin_s = at_s // self._repeat_s * self._repeat_s
        return begin_s, at_s - begin_s
