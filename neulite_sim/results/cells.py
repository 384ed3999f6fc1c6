"""Cells of rows: as plain Python values, and back from the text of a CSV file.

The annotations of a row type decide: a float column holds a float even where the run put a whole number or a NumPy
scalar into it, so that files, digests and rows read back agree. None stands in a CSV file as an empty cell, floats
are written with `repr`, as Python's `csv` does by itself, and come back bit for bit.
"""

from __future__ import annotations

import csv
import io
import math
import operator
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from neulite_sim.errors import DataNotFoundError
from neulite_sim.outside import TABLE_BYTES, open_regular
from neulite_sim.results.rows import (
    DenialRow,
    DeviceRow,
    DiagnosticRow,
    FlightRow,
    RoundRow,
    Row,
    columns,
    later_columns,
)

FILES: Mapping[type[Row], str] = {RoundRow: "rounds.csv", FlightRow: "flights.csv", DenialRow: "denials.csv"}
"""The tables of every run."""
OPTIONAL_FILES: Mapping[type[Row], str] = {DiagnosticRow: "diagnostics.csv"}
"""Tables that begin with their first row, and are not there without one."""
DEVICES_CSV, DEVICES_PARQUET = "devices.csv", "devices.parquet"
"""The table of devices, which is written as a whole; a fleet too large for a CSV file has the other."""
_CASTS: Mapping[type, Callable[[Any], Any]] = {int: operator.index, float: float, str: str}


def column_types(kind: type[Row]) -> Mapping[str, tuple[type, bool]]:
    """Return for each column, in order, its type (int, float or str) and whether it may be None.

    Raises:
        TypeError: a column is annotated with anything else.
    """
    found: dict[str, tuple[type, bool]] = {}
    for name, hint in typing.get_type_hints(kind).items():
        options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        cast, *others = [option for option in options if option is not types.NoneType]
        optional = len(options) > 1
        # An optional text is refused because an empty text and None would look the same in a file.
        if others or cast not in _CASTS or (cast is str and optional):
            raise TypeError(f"{kind.__name__}.{name} is {hint}; a column holds int, float, str or an optional number")
        found[name] = (cast, optional)
    return found


_TYPES: Mapping[type[Row], Mapping[str, tuple[type, bool]]] = {
    kind: column_types(kind) for kind in (*FILES, *OPTIONAL_FILES, DeviceRow)
}


class _CellReader:
    """Reads the cells of one kind of row; what does not depend on the row is looked up once."""

    def __init__(self, kind: type[Row], *, wall_clock: bool) -> None:
        self.names = columns(kind, wall_clock=wall_clock)
        self._types = tuple(_TYPES[kind][name][0] for name in self.names)
        self._cells_of = operator.attrgetter(*self.names)

    def values(self, row: Row) -> list[Any]:
        return [
            value if value is None or type(value) is cast else _CASTS[cast](value)
            for value, cast in zip(self._cells_of(row), self._types, strict=True)
        ]


_READERS = {
    (kind, wall_clock): _CellReader(kind, wall_clock=wall_clock) for kind in _TYPES for wall_clock in (True, False)
}


def values(row: Row, *, wall_clock: bool = True) -> list[Any]:
    """Return the cells of a row in column order, each as the int, float, str or None that its column says.

    Without `wall_clock` only those of columns that equal runs share.
    """
    return _READERS[type(row), wall_clock].values(row)


def decisive(row: Row) -> list[Any]:
    """Return the cells that equal runs share, without those of later columns at the end that have their defaults."""
    cells = values(row, wall_clock=False)
    for default in reversed([*later_columns(type(row)).values()]):
        if cells[-1] != default:
            break
        cells.pop()
    return cells


def record(row: Row, *, wall_clock: bool = True) -> dict[str, Any]:
    """Return the same with the names of the columns."""
    reader = _READERS[type(row), wall_clock]
    return dict(zip(reader.names, reader.values(row), strict=True))


def _value(text: str, name: str, *, kind: type[Row], where: str) -> Any:
    cast, optional = _TYPES[kind][name]
    if text == "" and optional:
        return None
    try:
        if cast is not float:
            return cast(text)
        number = float(text)
        if math.isfinite(number):
            return number
        raise ValueError
    except ValueError:
        expected = {int: "a whole number", float: "a number"}[cast]
        raise DataNotFoundError(f"{where}: {name} is {text!r}, not {expected}; the file was changed or cut") from None


def scan_rows(
    path: Path | str, kind: type[Row], *, names: Sequence[str] = (), having: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a CSV file of a run folder, typed, one at a time.

    Columns that `kind` does not have are passed over. A last line that a killed run left unfinished is passed over.
    With `names` only these columns are read, with `having` only rows whose cells are written so: a look at a few cells
    of a million rows is short.

    Raises:
        DataNotFoundError: no such file, a column that is missing, or a cell that is not what its column says.
    """
    path = Path(path)
    try:
        opened = open_regular(path, most_bytes=TABLE_BYTES * 64, follows_links=False)
    except OSError as error:
        raise DataNotFoundError(f"{path}: cannot be read: {error.strerror}", hint="name the folder of a run") from None
    with io.TextIOWrapper(opened, encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        records = csv.reader(line for line in file if line.endswith("\n"))
        try:
            yield from _scanned(records, path, kind, names, having or {})
        except csv.Error as error:
            raise DataNotFoundError(f"{path}:{records.line_num}: {error}; the file was changed") from None


def _scanned(
    records: Any, path: Path, kind: type[Row], names: Sequence[str], having: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    header: list[str] = next(records, [])
    later = {name: default for name, default in later_columns(kind).items() if name not in header}
    missing = [name for name in _TYPES[kind] if name not in header and name not in later]
    if missing:
        expected = FILES.get(kind) or OPTIONAL_FILES.get(kind) or DEVICES_CSV
        raise DataNotFoundError(
            f"{path}: has no column {', '.join(missing)}; it is no {expected}, or of another version"
        )
    places = {name: header.index(name) for name in names or _TYPES[kind] if name not in later}
    later = {name: default for name, default in later.items() if not names or name in names}
    wanted = [(header.index(name), str(cell)) for name, cell in having.items()]
    for record in records:
        if len(record) != len(header):
            where = f"{path}:{records.line_num}"
            if next(records, None) is None:
                return
            raise DataNotFoundError(f"{where}: has {len(record)} cells, not {len(header)}; the file was changed")
        if any(record[place] != cell for place, cell in wanted):
            continue
        where = f"{path}:{records.line_num}"
        found = {name: _value(record[place], name, kind=kind, where=where) for name, place in places.items()}
        yield {**found, **later}
