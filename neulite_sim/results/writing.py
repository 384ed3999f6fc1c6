"""Files of a run folder as they are written: whole or not at all, by whole rows, never through a link."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from neulite_sim.errors import OutputError
from neulite_sim.outside import create_regular, what_stands
from neulite_sim.results.cells import column_types, values
from neulite_sim.results.flight_rows import FlightRows
from neulite_sim.results.rows import NOTHING, Asked, Row, columns

_HELD_CHARACTERS = 1 << 16


ROOM = "make room or rights there"
_ELSEWHERE = f"{ROOM}, or choose another place with --out"


def refusal(path: Path, what: str, error: Exception) -> OutputError:
    """Return what a user is told where a file cannot be written."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return OutputError(f"{path}: cannot {what}: {reason}", hint=_ELSEWHERE)


@contextlib.contextmanager
def advising(hint: str) -> Iterator[None]:
    """Say this of files inside that cannot be written, where there is no `--out` to choose another place with.

    Raises:
        OutputError: the one from inside, with the other hint.
    """
    try:
        yield
    except OutputError as error:
        if error.hint != _ELSEWHERE:
            raise
        raise OutputError(error.what, hint=hint) from error.__cause__


@contextlib.contextmanager
def refusing(path: Path, what: str) -> Iterator[None]:
    """Turn an OSError inside into what a user is told."""
    try:
        yield
    except OSError as error:
        raise refusal(path, what, error) from error


def write_whole(path: Path, content: str) -> None:
    """Write a text file so that it is there whole or not at all; no link is followed.

    Raises:
        OutputError: the file cannot be written, or its place is taken by a link; names it and the reason.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        remove(partial)
        with create_regular(partial) as file:
            write_all(file, encoded(content))
        put(partial, path)
    except OSError as error:
        remove(partial)
        raise refusal(path, "write", error) from error


def encoded(text: str) -> bytes:
    """Return the bytes of a text of this project: UTF-8, what that does not have escaped."""
    return text.encode("utf-8", "backslashreplace")


def write_all(file: BinaryIO, content: bytes) -> None:
    """Write all of it to an unbuffered file."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def put(partial: Path, path: Path) -> None:
    """Give a file its name, unless something else than a file has it."""
    found = what_stands(path)
    if found not in (None, "a file"):
        raise OSError(errno.EEXIST, f"{found} is in its place")
    partial.replace(path)


def as_json(content: Mapping[str, Any]) -> str:
    """Return a mapping as indented JSON; NumPy scalars become numbers, paths become text."""
    return (
        json.dumps(content, indent=2, default=lambda value: value.item() if hasattr(value, "item") else str(value))
        + "\n"
    )


def remove(path: Path) -> None:
    """Remove a file or a link, where that can be done."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


class Table:
    """One CSV file that grows at its end by whole rows."""

    def __init__(self, path: Path, kind: type[Row], *, staged: str = "", asked: Asked = NOTHING) -> None:
        self.path = path
        self._asked = asked
        self._place = path.with_name(path.name + staged)
        types = column_types(kind)
        self._texts = [place for place, name in enumerate(columns(kind)) if types[name][0] is str]
        self._held = io.StringIO(newline="")
        self._rows = csv.writer(self._held, lineterminator="\n")
        # Python 3.11 leaves a lone carriage return unquoted, which its reader then refuses.
        self._quoted_rows = csv.writer(self._held, lineterminator="\n", quoting=csv.QUOTE_ALL)
        self._rows.writerow(columns(kind, asked=asked))
        try:
            self._file = create_regular(self._place)
        except OSError as error:
            raise refusal(path, "create", error) from error

    def add(self, row: Row) -> None:
        """Add a row; it is written when enough are held."""
        cells = values(row, asked=self._asked)
        needs_quotes = any("\r" in cells[place] for place in self._texts)
        (self._quoted_rows if needs_quotes else self._rows).writerow(cells)
        self._flush_much()

    def add_flights(self, rows: FlightRows) -> None:
        """Add rows of flights; they are written when enough are held."""
        if rows.has_carriage_returns:
            for row in rows:
                self.add(row)
            return
        self._held.write(rows.as_csv())
        self._flush_much()

    def _flush_much(self) -> None:
        if self._held.tell() >= _HELD_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        content = self._held.getvalue().encode("utf-8", "backslashreplace")
        self._held.seek(0)
        self._held.truncate()
        try:
            write_all(self._file, content)
        except OSError as error:
            raise refusal(self.path, "write", error) from error

    def put_in_place(self) -> None:
        """Give the table its own name."""
        with refusing(self.path, "replace"):
            put(self._place, self.path)
        self._place = self.path

    def close(self) -> None:
        """Close the file; what is held is lost."""
        self._file.close()
