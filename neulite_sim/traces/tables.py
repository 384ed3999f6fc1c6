"""The project's own trace files: CSV tables, plain or gzipped, that say in comments at their top what they hold.

    # neulite-sim trace 1 kind=throughput
    # source: any text
    trace,t_s,bits_per_second

The comments are optional; where the first one stands, its version and kind are checked. docs/reference/trace_formats.md
describes the kinds. Problems name their line.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import gzip
import io
import itertools
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from neulite_sim.errors import DataNotFoundError, OutputError, Problem, ScenarioError
from neulite_sim.outside import open_unpacked

VERSION = 1
MOST_BYTES = 10**9
"""The most that a table may hold, unpacked: its lines are held in memory, ten times as large."""
_MARK = re.compile(r"#\s*neulite-sim trace (?P<version>\S+) kind=(?P<kind>\S+)\s*")
_MAX_PROBLEMS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceKind:
    """One kind of trace file: what messages call it, and which key of a scenario names it."""

    name: str
    noun: str
    key: str
    form: str
    """What the file must be, as error messages end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A trace file as text: the header, and each line that is not empty with its number in the file.

    `header_line` is 1 where no comment stands above it. Cells are stripped.
    """

    header: tuple[str, ...]
    header_line: int
    rows: list[tuple[int, list[str]]]


def read_table(path: Path, kind: TraceKind) -> Table:
    """Return the cells of a trace file.

    Raises:
        DataNotFoundError: there is no such file, or it is not text.
        ScenarioError: its first comment names another version or kind, or it is not CSV.
    """
    with _read_errors(path, kind), _opened(path) as file:
        return _table(file, str(path), kind)


def problem(kind: TraceKind, path: Path | str, line: int, message: str) -> Problem:
    """Return what is wrong at a line of a trace file."""
    return Problem(key=kind.key, message=message, file=str(path), line=line)


def first_problems(problems: Sequence[Problem], kind: TraceKind, path: Path | str) -> list[Problem]:
    """Return the problems in the order of the file, and how many more there are past the first twenty."""
    ordered = sorted(problems, key=lambda found: found.line or 0)
    more = len(ordered) - _MAX_PROBLEMS
    rest = [Problem(key=kind.key, message=f"and {more} more problems", file=str(path))] if more > 0 else []
    return ordered[:_MAX_PROBLEMS] + rest


def write_table(
    path: Path, *, kind: str, source: str, notes: Sequence[str], header: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Write a trace file whole or not at all; the same content gives the same bytes, gzipped or not.

    Raises:
        OutputError: it cannot be written.
    """
    # A name of its own, so that two imports at a time do not write into each other.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as raw, _packed(raw, path) as file:
            file.write(f"# neulite-sim trace {VERSION} kind={kind}\n")
            for word, text in [("source", source), *(("note", note) for note in notes)]:
                file.write(f"# {word}: {' '.join(text.split())}\n")
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(rows)
        partial.replace(path)
    except OSError as failure:
        raise OutputError(f"{path} cannot be written ({failure.strerror or failure})") from None
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _packed(raw: io.BufferedWriter, path: Path) -> Iterator[TextIO]:
    # A name may hold characters of no encoding, from a pickle or from JSON; they are written as escapes.
    form = functools.partial(io.TextIOWrapper, encoding="utf-8", errors="backslashreplace", newline="")
    if path.suffix != ".gz":
        with form(raw) as text:
            yield text
        return
    with (
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed,
        form(packed) as text,
    ):
        yield text


@contextlib.contextmanager
def _read_errors(path: Path, kind: TraceKind) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataNotFoundError(
            f"there is no {kind.noun} at {path.absolute()}", hint=f"{kind.key} names {kind.form}"
        ) from None
    except (UnicodeDecodeError, EOFError, zlib.error) as unreadable:
        raise DataNotFoundError(
            f"{path.absolute()} is not text ({unreadable})", hint=f"{kind.key} names {kind.form}"
        ) from None
    except OSError as failure:
        why = failure.strerror or failure
        raise DataNotFoundError(
            f"{path.absolute()} cannot be read ({why})", hint=f"{kind.key} names {kind.form}"
        ) from None


def _opened(path: Path) -> TextIO:
    return io.TextIOWrapper(open_unpacked(path, most_bytes=MOST_BYTES), encoding="utf-8-sig", newline="")


def _table(file: Iterable[str], name: str, kind: TraceKind) -> Table:
    lines = iter(file)
    num_comments, first = 0, ""
    for line in lines:
        if not line.startswith("#"):
            first = line
            break
        num_comments += 1
        if num_comments == 1:
            _check_mark(line, name, kind)
    reader = csv.reader(itertools.chain([first], lines), strict=True)
    try:
        header = tuple(cell.strip() for cell in next(reader, []))
        rows = [(num_comments + reader.line_num, [cell.strip() for cell in cells]) for cells in reader if cells]
    except csv.Error as wrong:
        message = f"is not a line of CSV ({wrong}); {kind.key} names {kind.form}"
        raise ScenarioError([problem(kind, name, num_comments + reader.line_num, message)]) from None
    return Table(header=header, header_line=num_comments + 1, rows=rows)


def _check_mark(line: str, name: str, kind: TraceKind) -> None:
    mark = _MARK.match(line)
    if mark is None:
        return
    if mark["version"] != str(VERSION):
        message = f"is a trace of version {mark['version']}; this neulite-sim reads version {VERSION}"
        raise ScenarioError([problem(kind, name, 1, message)])
    if mark["kind"] != kind.name:
        message = f"is a trace of kind {mark['kind']}; {kind.key} names one of kind {kind.name}"
        raise ScenarioError([problem(kind, name, 1, message)])
