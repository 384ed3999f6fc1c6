"""Availability read from a file: a CSV table of online intervals, one line each.

    device,start_s,end_s
    phone-17,0,3600
    phone-17,7200,9000
    phone-20,1800,86400

`device` is any label, times are seconds of virtual time, an interval is half-open. Lines may stand in any order.
Intervals of a device that touch are joined; ones that overlap, are empty or run backwards are refused with their line.
"""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from neulite_sim.errors import DataNotFoundError, Problem, ScenarioError
from neulite_sim.population.intervals import Intervals, merged, on_grid
from neulite_sim.population.table import Floats, Integers
from neulite_sim.seeding import stream

HEADER = ("device", "start_s", "end_s")
FORMAT = "a CSV file with the header device,start_s,end_s and one online interval per line"
KEY = "population.availability.path"
_MAX_PROBLEMS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Intervals per label, labels in the order in which the file first names them."""

    labels: tuple[str, ...]
    intervals: Intervals
    last_end_s: float


class TraceSource:
    """The intervals of a trace over `[0, length_s)`, again and again, or once."""

    look_ahead = 1

    def __init__(self, intervals: Intervals, *, length_s: float, is_repeated: bool) -> None:
        self.length_s = length_s
        self._intervals = intervals
        none = np.empty(0)
        offline = Intervals(offsets=np.zeros_like(intervals.offsets), start_s=none, end_s=none)
        self._after = intervals if is_repeated else offline

    def chunk(self, index: int) -> Intervals:
        """Return when each label is online in repetition `index`, in seconds since its start."""
        return self._after if index else self._intervals


def rows_for(num_devices: int, *, num_labels: int, seed: int) -> Integers:
    """Return the label of each device, int64 `[num_devices]`.

    With enough labels, device d takes the d-th. With fewer, every label serves equally many devices (or one more),
    in an order drawn from the seed.
    """
    if num_devices <= num_labels:
        return np.arange(num_devices)
    rng = stream(seed, "availability-assignment")
    return rng.permutation(rng.permutation(num_labels)[np.arange(num_devices) % num_labels])


def read_trace(path: Path) -> Trace:
    """Return the trace in a CSV file, or in a gzipped one (`.gz`).

    Raises:
        DataNotFoundError: there is no such file, or it cannot be read.
        ScenarioError: the file is not such a table; the problems name their lines.
    """
    try:
        with _opened(path) as file:
            return _parse(file, str(path))
    except FileNotFoundError:
        raise DataNotFoundError(f"there is no availability trace at {path.resolve()}; {KEY} names {FORMAT}") from None
    except (UnicodeDecodeError, csv.Error, EOFError, zlib.error) as unreadable:
        raise DataNotFoundError(f"{path.resolve()} is not text ({unreadable}); {KEY} names {FORMAT}") from None
    except OSError as failure:
        why = failure.strerror or failure
        raise DataNotFoundError(f"{path.resolve()} cannot be read ({why}); {KEY} names {FORMAT}") from None


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _parse(file: Iterable[str], name: str) -> Trace:
    reader = csv.reader(file)
    header = next(reader, [])
    if tuple(cell.strip() for cell in header) != HEADER:
        found = ",".join(header) or "nothing"
        raise ScenarioError([_problem(name, 1, f"the header is {found!r}; write {','.join(HEADER)}")])
    read = [(reader.line_num, cells) for cells in reader if cells]
    whole = [(line, cells) for line, cells in read if len(cells) == len(HEADER) and cells[0].strip()]
    problems: list[Problem] = []
    if len(whole) < len(read):
        broken = [(line, cells) for line, cells in read if len(cells) != len(HEADER) or not cells[0].strip()]
        problems += [_problem(name, line, f"{','.join(cells)!r} is not device,start_s,end_s") for line, cells in broken]
    number_of: dict[str, int] = {}
    rows = np.array([number_of.setdefault(cells[0].strip(), len(number_of)) for _, cells in whole], np.int64)
    lines = np.array([line for line, _ in whole], np.int64)
    labels = tuple(number_of)
    texts = [cells[1] for _, cells in whole], [cells[2] for _, cells in whole]
    start_s, end_s = (_seconds(text) for text in texts)
    problems += _wrong_times(texts, start_s=start_s, end_s=end_s, name=name, lines=lines)
    # Overlaps are looked for only among lines that are right by themselves.
    right = np.isfinite(start_s) & (start_s >= 0) & (start_s < end_s) & np.isfinite(end_s)
    kept = np.flatnonzero(right)
    order = kept[np.lexsort((start_s[kept], rows[kept]))]
    table = _Sorted(rows[order], start_s[order], end_s[order], lines[order])
    problems += _overlaps(table, labels=labels, name=name)
    if problems:
        raise ScenarioError(_first(problems, name))
    if not len(order):
        raise ScenarioError([_problem(name, 1, f"holds no interval; expected {FORMAT}")])
    joined = merged(table.rows, on_grid(table.start_s), on_grid(table.end_s), num_rows=len(labels))
    return Trace(labels=labels, intervals=joined, last_end_s=float(np.max(end_s)))


@dataclass(frozen=True, slots=True)
class _Sorted:
    rows: Integers
    start_s: Floats
    end_s: Floats
    lines: Integers


def _problem(name: str, line: int, message: str) -> Problem:
    return Problem(key=KEY, message=message, file=name, line=line)


def _first(problems: list[Problem], name: str) -> list[Problem]:
    """Return the problems in the order of the file, and how many more there are past the first twenty."""
    ordered = sorted(problems, key=lambda problem: problem.line or 0)
    more = len(ordered) - _MAX_PROBLEMS
    rest = [Problem(key=KEY, message=f"and {more} more problems", file=name)] if more > 0 else []
    return ordered[:_MAX_PROBLEMS] + rest


def _seconds(texts: list[str]) -> Floats:
    """Return the numbers, NaN for what is none."""
    try:
        return np.array(texts, dtype=np.str_).astype(np.float64)
    except ValueError:
        return np.array([_second(text) for text in texts])


def _second(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _wrong_times(
    texts: tuple[list[str], list[str]], *, start_s: Floats, end_s: Floats, name: str, lines: Integers
) -> list[Problem]:
    problems: list[Problem] = []
    for column, text, seconds in zip(HEADER[1:], texts, (start_s, end_s), strict=True):
        for at in np.flatnonzero(~np.isfinite(seconds) | (seconds < 0)):
            message = f"{column} {text[at]!r} is not a number of seconds from 0 up"
            problems.append(_problem(name, int(lines[at]), message))
    for at in np.flatnonzero((start_s >= 0) & (end_s >= 0) & (end_s <= start_s)):
        message = f"end_s {end_s[at]:g} is not after start_s {start_s[at]:g}; an interval has a length above 0"
        problems.append(_problem(name, int(lines[at]), message))
    return problems


def _overlaps(table: _Sorted, *, labels: tuple[str, ...], name: str) -> list[Problem]:
    same = table.rows[1:] == table.rows[:-1]
    problems: list[Problem] = []
    for at in np.flatnonzero(same & (table.start_s[1:] < table.end_s[:-1])):
        before, after = (f"{table.start_s[i]:g} to {table.end_s[i]:g}" for i in (at, at + 1))
        message = f"device {labels[table.rows[at]]!r}: {after} overlaps {before} of line {table.lines[at]}; join them"
        problems.append(_problem(name, int(table.lines[at + 1]), message))
    return problems
