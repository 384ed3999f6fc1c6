"""What an importer is, and how it reads files it must not trust.

An importer is a `registry.Component` in the entry-point group `neulite_sim.trace_importers`; its `build(options)`
returns a `ReadForeign`. `traces import` writes what that returns and reads it back before it says that it is done.
`conformance.check_importer` tests that for an importer of your own.
"""

from __future__ import annotations

import csv
import io
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neulite_sim.errors import DataNotFoundError, Problem, ScenarioError
from neulite_sim.outside import open_unpacked, printable

Cells = Sequence[object]
Interval = tuple[float, float]
MOST_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A table in the project's own format: its kind ("availability", "throughput" or "devices") and its lines.

    `notes` say in words what was left out or filled in, `facts` the same as numbers for `--json`.
    """

    kind: str
    header: tuple[str, ...]
    rows: Sequence[Cells]
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


ReadForeign = Callable[[Sequence[Path]], Imported]


def refused(path: Path, message: str, line: int | None = None) -> ScenarioError:
    """Return what to raise about a foreign file."""
    return ScenarioError([Problem(key="", message=message, file=str(path), line=line)])


def only(paths: Sequence[Path], what: str) -> Path:
    """Return the one file of a format that stands in one file.

    Raises:
        ScenarioError: there are several.
    """
    if len(paths) > 1:
        raise refused(paths[1], f"{what} is imported one file at a time, found {len(paths)}; import each on its own")
    return paths[0]


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, unpacked where its name ends in `.gz`.

    Raises:
        DataNotFoundError: there is no such file, or it cannot be read.
    """
    try:
        with open_unpacked(path) as file:
            return file.read()
    except FileNotFoundError:
        raise DataNotFoundError(f"there is no file at {path.absolute()}") from None
    except (EOFError, zlib.error) as broken:
        raise DataNotFoundError(f"{path.absolute()} is not a whole gzip file ({broken})") from None
    except OSError as failure:
        raise DataNotFoundError(f"{path.absolute()} cannot be read ({failure.strerror or failure})") from None


def read_csv(path: Path, *, blank: bool = False, delimiter: str | None = ",") -> list[tuple[int, list[str]]]:
    """Return the lines of a CSV file that are not empty, each with its number in the file, cells stripped.

    With `blank`, a file without a comma is split at spaces and tabs. Without a `delimiter` it is the one of comma,
    semicolon and tab that the first line has most of.

    Raises:
        DataNotFoundError: as `read_text`.
        ScenarioError: it is not CSV.
    """
    text = read_text(path)
    if blank and "," not in text:
        return [(line, row.split()) for line, row in enumerate(text.split("\n"), start=1) if row.strip()]
    if delimiter is None:
        first = text.lstrip().partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    try:
        return [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if cells]
    except csv.Error as error:
        raise refused(path, f"is not a CSV table ({error})", reader.line_num) from None


def read_text(path: Path) -> str:
    """Return the text of a file, unpacked where its name ends in `.gz`.

    Raises:
        DataNotFoundError: there is no such file, it cannot be read, or it is not UTF-8 text.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte, place = error.object[error.start], error.start
        raise DataNotFoundError(f"{path.absolute()} is not UTF-8 text (byte {byte:#04x} at position {place})") from None


def is_number(value: object, *, above: float = -math.inf) -> bool:
    """Return whether a value is a finite number above a limit; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # A whole number too large for a float is no quantity of a trace either.
    return abs(value) < 1e300 and value > above


def label_of(path: Path, name: object, line: int | None = None) -> str:
    """Return what the own table calls a device or trace: a name as text that any file takes, without blanks around it.

    Raises:
        ScenarioError: it is neither a text nor a whole number, is empty, or longer than 200 characters.
    """
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise refused(path, f"a name must be a text or a whole number, found a {type(name).__name__}", line)
    # A whole number of any length would take Python for ever to write.
    text = printable(name).strip() if isinstance(name, str) else f"{name:d}" if abs(name) < 10**200 else "9" * 201
    if not text or len(text) > MOST_CHARACTERS:
        what = "is empty" if not text else f"{text[:20]!r}... has more than {MOST_CHARACTERS} characters"
        raise refused(path, f"a name {what}; a device or a trace needs a short one", line)
    return text


def distinct(path: Path, labels: Iterable[str]) -> None:
    """Refuse a file in which two devices would have one name in the own table.

    Raises:
        ScenarioError: the first such name.
    """
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if twice:
        raise refused(path, f"has two entries called {twice[0]!r}; rename one")


def joined(intervals: Iterable[Interval]) -> list[Interval]:
    """Return the union of half-open intervals, ascending; empty ones are left out."""
    union: list[Interval] = []
    for start_s, end_s in sorted(intervals):
        if end_s <= start_s:
            continue
        if union and start_s <= union[-1][1]:
            union[-1] = union[-1][0], max(union[-1][1], end_s)
        else:
            union.append((start_s, end_s))
    return union


def availability_rows(label: str, intervals: Iterable[Interval], period_s: float) -> list[Cells]:
    """Return the lines of one device; a single one without times where it is never online."""
    union = joined(intervals)
    return [(label, start_s, end_s, period_s) for start_s, end_s in union] or [(label, "", "", period_s)]


def counted(count: int, noun: str, more: str = "s") -> str:
    """Return "1 device" or "3 devices"."""
    return f"{count:,} {noun}{'' if count == 1 else more}"
