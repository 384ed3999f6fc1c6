"""What an importer is, and how it reads files it must not trust.

An importer is a `registry.Component` in the entry-point group `neulite_sim.trace_importers`; its `build(options)`
returns a `Reader`. `traces import` writes what the reader returns and reads it back before it says that it is done.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neulite_sim.errors import DataNotFoundError, Problem, ScenarioError

Row = Sequence[object]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A table in the project's own format: its kind ("availability", "throughput" or "devices") and its lines.

    `notes` say in words what was left out or filled in, `facts` the same as numbers for `--json`.
    """

    kind: str
    header: tuple[str, ...]
    rows: Sequence[Row]
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


Reader = Callable[[Sequence[Path]], Imported]


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
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as file:
                return file.read()
        return path.read_bytes()
    except FileNotFoundError:
        raise DataNotFoundError(f"there is no file at {path.resolve()}") from None
    except (EOFError, zlib.error) as broken:
        raise DataNotFoundError(f"{path.resolve()} is not a whole gzip file ({broken})") from None
    except OSError as failure:
        raise DataNotFoundError(f"{path.resolve()} cannot be read ({failure.strerror or failure})") from None


def read_text(path: Path) -> str:
    """Return the text of a file, unpacked where its name ends in `.gz`.

    Raises:
        DataNotFoundError: there is no such file, it cannot be read, or it is not UTF-8 text.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte, place = error.object[error.start], error.start
        raise DataNotFoundError(f"{path.resolve()} is not UTF-8 text (byte {byte:#04x} at position {place})") from None


def is_number(value: object, *, above: float = -math.inf) -> bool:
    """Return whether a value is a finite number above a limit; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # A whole number too large for a float is no quantity of a trace either.
    return abs(value) < 1e300 and value > above


def number(text: str) -> float:
    """Return the number that a text holds, NaN where it holds none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


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


def availability_rows(label: str, intervals: Iterable[Interval], period_s: float) -> list[Row]:
    """Return the lines of one device; a single one without times where it is never online."""
    union = joined(intervals)
    return [(label, start_s, end_s, period_s) for start_s, end_s in union] or [(label, "", "", period_s)]


def counted(count: int, noun: str, more: str = "s") -> str:
    """Return "1 device" or "3 devices"."""
    return f"{count:,} {noun}{'' if count == 1 else more}"
