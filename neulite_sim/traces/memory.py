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

from neulite_sim.arrays import Floats, Integers
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.outside import plain_numbers
from neulite_sim.traces.intervals import LAST_S, TOO_LATE, on_grid
from neulite_sim.traces.origin import Origin, origin_of
from neulite_sim.traces.tables import Table, TraceKind, first_problems, problem, read_table

BYTES, SHARE = "available_bytes", "share"
HEADERS = (("device", "t_s", BYTES), ("device", "t_s", SHARE))
KIND = TraceKind(
    name="memory",
    noun="memory trace",
    key="population.memory_motion.path",
    form="a CSV file with the header device,t_s,available_bytes (or share) whose values hold until the next line",
)
MOST_AVAILABLE_BYTES = 2.0**60


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
    for place, (name, most) in enumerate(zip(table.header[1:], (LAST_S, MOST_AVAILABLE_BYTES), strict=True), start=1):
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
    given_s = np.where((given_s >= 0) & (given_s <= LAST_S), given_s, math.nan)
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
