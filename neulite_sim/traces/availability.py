"""Availability read from a file: a CSV table of online intervals, one line each.

    device,start_s,end_s[,period_s]
    phone-17,0,3600
    phone-17,7200,9000
    phone-20,1800,86400
    phone-21,,

`device` is any label, times are seconds of virtual time, an interval is half-open. Lines may stand in any order; one
without times names a device that is never online. Intervals of a device that touch are joined; ones that overlap, are
empty or run backwards are refused with their line. With `period_s` every device starts over after a period of its own.
Times may begin anywhere, as Unix time stamps do: `origin` is the one that becomes virtual time 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from neulite_sim.arrays import Floats, Integers
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.outside import plain_numbers
from neulite_sim.traces.columns import how_to_import
from neulite_sim.traces.intervals import LAST_S, TOO_LATE, TOO_SHORT, Intervals, merged, on_grid
from neulite_sim.traces.origin import Origin, origin_of
from neulite_sim.traces.tables import Table, TraceKind, first_problems, problem, read_table

HEADER = ("device", "start_s", "end_s")
PERIOD = "period_s"
_SHORTEST_PERIOD_S = 1.0
KIND = TraceKind(
    name="availability",
    noun="availability trace",
    key="population.availability.path",
    form="a CSV file with the header device,start_s,end_s and one online interval per line",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Intervals per label, labels in the order in which the file first names them.

    `period_s` is float64 `[num_labels]` on the grid of times; None where the file gives no periods.
    """

    labels: tuple[str, ...]
    intervals: Intervals
    last_end_s: float
    period_s: Floats | None = None


def read_trace(path: Path, origin: Origin = 0.0) -> Trace:
    """Return the trace in a CSV file, or in a gzipped one (`.gz`), its times counted from `origin`.

    Raises:
        DataNotFoundError: there is no such file, or it cannot be read.
        ScenarioError: the file is not such a table; the problems name their lines.
    """
    table = read_table(path, KIND)
    has_periods = table.header == (*HEADER, PERIOD)
    if not has_periods and table.header != HEADER:
        found = ",".join(table.header) or "nothing"
        message = f"the header is {found!r}; write {','.join(HEADER)}{how_to_import(path, table.header)}"
        raise ScenarioError([problem(KIND, path, table.header_line, message)])
    problems: list[Problem] = []
    lines = _counted_from(origin, _lines(table, path, problems), path)
    order, by_row = _right_lines(lines, path, problems)
    period_s = _periods(lines, path, problems) if has_periods else None
    if problems:
        raise ScenarioError(first_problems(problems, KIND, path))
    if not len(order):
        raise ScenarioError([problem(KIND, path, table.header_line, f"holds no interval; expected {KIND.form}")])
    joined = merged(by_row.rows, on_grid(by_row.start_s), on_grid(by_row.end_s), num_rows=len(lines.labels))
    last_end_s = float(by_row.end_s.max())
    return Trace(labels=lines.labels, intervals=joined, last_end_s=last_end_s, period_s=period_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lines:
    """The lines of a table as columns; `start_s` and `end_s` are NaN where a line has no times at all."""

    labels: tuple[str, ...]
    rows: Integers
    lines: Integers
    texts: tuple[list[str], list[str]]
    start_s: Floats
    end_s: Floats
    is_empty: np.typing.NDArray[np.bool_]
    periods: list[str]


@dataclass(frozen=True, slots=True)
class _Sorted:
    rows: Integers
    start_s: Floats
    end_s: Floats
    lines: Integers


def _lines(table: Table, path: Path, problems: list[Problem]) -> _Lines:
    width = len(table.header)
    whole = [(line, cells) for line, cells in table.rows if len(cells) == width and cells[0]]
    if len(whole) < len(table.rows):
        broken = [(line, cells) for line, cells in table.rows if len(cells) != width or not cells[0]]
        form = ",".join(table.header)
        problems += [problem(KIND, path, line, f"{','.join(cells)!r} is not {form}") for line, cells in broken]
    number_of: dict[str, int] = {}
    rows = np.array([number_of.setdefault(cells[0], len(number_of)) for _, cells in whole], np.int64)
    texts = [cells[1] for _, cells in whole], [cells[2] for _, cells in whole]
    return _Lines(
        labels=tuple(number_of),
        rows=rows,
        lines=np.array([line for line, _ in whole], np.int64),
        texts=texts,
        start_s=np.array(plain_numbers(texts[0])),
        end_s=np.array(plain_numbers(texts[1])),
        is_empty=np.array([not (start or end) for start, end in zip(*texts, strict=True)], np.bool_),
        periods=[cells[3] for _, cells in whole] if width > len(HEADER) else [],
    )


def _right_lines(found: _Lines, path: Path, problems: list[Problem]) -> tuple[Integers, _Sorted]:
    """Return the lines with an interval, by label and start; overlaps are looked for only among right lines."""
    problems += _wrong_times(found, path)
    start_s, end_s = found.start_s, found.end_s
    kept = np.flatnonzero(np.isfinite(start_s) & (start_s >= 0) & (start_s < end_s) & np.isfinite(end_s))
    order = kept[np.lexsort((start_s[kept], found.rows[kept]))]
    by_row = _Sorted(found.rows[order], start_s[order], end_s[order], found.lines[order])
    problems += _overlaps(by_row, labels=found.labels, path=path)
    return order, by_row


def _counted_from(origin: Origin, found: _Lines, path: Path) -> _Lines:
    """Return the lines with their times counted from the origin; all are at or after it.

    Raises:
        ScenarioError: some are not.
    """
    origin_s = origin_of(origin, found.start_s, found.lines, kind=KIND, path=path)
    return replace(found, start_s=found.start_s - origin_s, end_s=found.end_s - origin_s)


def _wrong_times(found: _Lines, path: Path) -> list[Problem]:
    problems: list[Problem] = []
    for column, text, seconds in zip(HEADER[1:], found.texts, (found.start_s, found.end_s), strict=True):
        for at in np.flatnonzero((~np.isfinite(seconds) | (seconds < 0)) & ~found.is_empty):
            message = f"{column} {text[at]!r} is not a number of seconds from 0 up"
            problems.append(problem(KIND, path, int(found.lines[at]), message))
        problems += [
            problem(KIND, path, int(found.lines[at]), f"{column} {text[at]!r} {TOO_LATE}")
            for at in np.flatnonzero(seconds > LAST_S)
        ]
    start_s, end_s = found.start_s, found.end_s
    for at in np.flatnonzero((start_s >= 0) & (end_s >= 0) & (end_s <= start_s)):
        message = f"end_s {end_s[at]:.13g} is not after start_s {start_s[at]:.13g}; an interval has a length above 0"
        problems.append(problem(KIND, path, int(found.lines[at]), message))
    right = np.flatnonzero((start_s >= 0) & (end_s > start_s) & (end_s <= LAST_S))
    for at in right[on_grid(end_s[right]) <= on_grid(start_s[right])]:
        message = f"the interval {found.texts[0][at]} to {found.texts[1][at]} {TOO_SHORT}"
        problems.append(problem(KIND, path, int(found.lines[at]), message))
    return problems


def _overlaps(table: _Sorted, *, labels: tuple[str, ...], path: Path) -> list[Problem]:
    same = table.rows[1:] == table.rows[:-1]
    problems: list[Problem] = []
    for at in np.flatnonzero(same & (table.start_s[1:] < table.end_s[:-1])):
        before, after = (f"{table.start_s[i]:.13g} to {table.end_s[i]:.13g}" for i in (at, at + 1))
        message = f"device {labels[table.rows[at]]!r}: {after} overlaps {before} of line {table.lines[at]}; join them"
        problems.append(problem(KIND, path, int(table.lines[at + 1]), message))
    return problems


def _periods(found: _Lines, path: Path, problems: list[Problem]) -> Floats:
    """Return the period of each label on the grid; every line of a label must give the same, not before its end."""
    given = np.array(plain_numbers(found.periods))
    of_label = np.full(len(found.labels), math.nan)
    # Assigned backwards, so that the first line of a label has the last word.
    of_label[found.rows[::-1]] = given[::-1]
    for at in np.flatnonzero(~(np.isfinite(given) & (given >= _SHORTEST_PERIOD_S))):
        message = f"period_s {found.periods[at]!r} is not a number of seconds from {_SHORTEST_PERIOD_S:g} up"
        problems.append(problem(KIND, path, int(found.lines[at]), message))
    problems += [
        problem(KIND, path, int(found.lines[at]), f"period_s {found.periods[at]!r} {TOO_LATE}")
        for at in np.flatnonzero(given > LAST_S)
    ]
    for at in np.flatnonzero((given > 0) & (given != of_label[found.rows]) & (of_label[found.rows] > 0)):
        label, first = found.labels[found.rows[at]], of_label[found.rows[at]]
        message = f"period_s {given[at]:g} of device {label!r} is {first:g} on an earlier line; write one for all"
        problems.append(problem(KIND, path, int(found.lines[at]), message))
    for at in np.flatnonzero((given > 0) & (found.end_s > given)):
        message = (
            f"end_s {found.end_s[at]:.13g} lies after period_s {given[at]:.13g}; an interval ends within the period"
        )
        problems.append(problem(KIND, path, int(found.lines[at]), message))
    return on_grid(np.clip(of_label, 0.0, LAST_S))
