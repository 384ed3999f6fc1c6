"""Cells of rows: as plain Python values, and back from the text of a CSV file.

The annotations of a row type decide: a float column holds a float even where the run put a whole number or a NumPy
scalar into it, so that files, digests and rows read back agree. None stands in a CSV file as an empty cell, floats
are written with `repr`, as Python's `csv` does by itself, and come back bit for bit.
"""

from __future__ import annotations

import csv
import io
import itertools
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
    EVERYTHING,
    NOTHING,
    Asked,
    DenialRow,
    DeviceRow,
    DiagnosticRow,
    FlightRow,
    RoundRow,
    Row,
    asked_columns,
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


def column_types(kind: type[Row], *, asked: Asked = NOTHING) -> Mapping[str, tuple[type, bool]]:
    """Return for each column, in order, its type (int, float or str) and whether it may be None.

    Those that a run has to ask for are among them as far as they are `asked` for.

    Raises:
        TypeError: a column is annotated with anything else.
    """
    found: dict[str, tuple[type, bool]] = {}
    left_out = {name for name, what in asked_columns(kind).items() if what not in asked}
    for name, hint in typing.get_type_hints(kind).items():
        if name in left_out:
            continue
        options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        cast, *others = [option for option in options if option is not types.NoneType]
        optional = len(options) > 1
        # An optional text is refused because an empty text and None would look the same in a file.
        if others or cast not in _CASTS or (cast is str and optional):
            raise TypeError(f"{kind.__name__}.{name} is {hint}; a column holds int, float, str or an optional number")
        found[name] = (cast, optional)
    return found


_TYPES: Mapping[type[Row], Mapping[str, tuple[type, bool]]] = {
    kind: column_types(kind, asked=EVERYTHING) for kind in (*FILES, *OPTIONAL_FILES, DeviceRow)
}


class _CellReader:
    """Reads the cells of one kind of row; what does not depend on the row is looked up once."""

    def __init__(self, kind: type[Row], *, wall_clock: bool, asked: Asked = NOTHING) -> None:
        self.names = columns(kind, wall_clock=wall_clock, asked=asked)
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


_ASKING_READERS = {
    (kind, asked): _CellReader(kind, wall_clock=True, asked=asked)
    for kind in _TYPES
    for size in range(len(EVERYTHING) + 1)
    for asked in map(frozenset, itertools.combinations(EVERYTHING, size))
}


def values(row: Row, *, wall_clock: bool = True, asked: Asked = NOTHING) -> list[Any]:
    """Return the cells of a row in column order, each as the int, float, str or None that its column says.

    Without `wall_clock` only those of columns that equal runs share, of others those `asked` for.
    """
    return (_ASKING_READERS[type(row), asked] if asked else _READERS[type(row), wall_clock]).values(row)


def decisive(row: Row) -> list[Any]:
    """Return the cells that equal runs share, without those of later columns at the end that have their defaults."""
    cells = values(row, wall_clock=False)
    for default in reversed([*later_columns(type(row)).values()]):
        if cells[-1] != default:
            break
        cells.pop()
    return cells


def record(row: Row, *, wall_clock: bool = True) -> dict[str, Any]:
    """Return the same with the names of the columns, those that a run asks for where they are known."""
    known = frozenset(what for name, what in asked_columns(type(row)).items() if getattr(row, name) is not None)
    reader = _ASKING_READERS[type(row), known] if known and wall_clock else _READERS[type(row), wall_clock]
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


def columns_in(path: Path | str, kind: type[Row]) -> tuple[str, ...]:
    """Return the columns of a kind of row as a CSV file has them, with those that its run asked for.

    Raises:
        DataNotFoundError: no such file.
    """
    with _opened(Path(path)) as file:
        header = next(csv.reader(file), [])
    return tuple(name for name in columns(kind, asked=EVERYTHING) if name in header or name not in asked_columns(kind))


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
    for place, record, shape in _records(Path(path), kind):
        if having is None or shape.has(record, having):
            yield shape.row(record, f"{path}:{place}", names)


def scan_columns(path: Path | str, kind: type[Row], *, most_rows: int = 1 << 15) -> Iterator[dict[str, list[Any]]]:
    """Yield the same rows as columns, at most so many of them at a time: faster where there are many.

    Raises:
        DataNotFoundError: as `scan_rows`.
    """
    records = _records(Path(path), kind)
    while held := list(itertools.islice(records, most_rows)):
        shape = held[0][2]
        try:
            yield shape.columns([record for _, record, _ in held])
        except ValueError:
            # The slow way finds the cell, and says where it stands.
            rows = [shape.row(record, f"{path}:{place}") for place, record, _ in held]
            yield {name: [row[name] for row in rows] for name in rows[0]}


class _Shape:
    """Where the columns of a kind of row stand in the records of a file, and which of them are not in it."""

    def __init__(self, header: Sequence[str], path: Path, kind: type[Row]) -> None:
        self._kind = kind
        self._later = {name: default for name, default in later_columns(kind).items() if name not in header}
        asked = {name for name in asked_columns(kind) if name not in header}
        self.names = tuple(name for name in _TYPES[kind] if name not in asked)
        missing = [name for name in self.names if name not in header and name not in self._later]
        if missing:
            expected = FILES.get(kind) or OPTIONAL_FILES.get(kind) or DEVICES_CSV
            raise DataNotFoundError(
                f"{path}: has no column {', '.join(missing)}; it is no {expected}, or of another version"
            )
        self._places = {name: header.index(name) for name in self.names if name not in self._later}

    def has(self, record: Sequence[str], having: Mapping[str, Any]) -> bool:
        """Whether the cells of a record are written like these."""
        return all(record[self._places[name]] == str(cell) for name, cell in having.items())

    def row(self, record: Sequence[str], where: str, names: Sequence[str] = ()) -> dict[str, Any]:
        """Return the cells of a record, with `names` only those of these columns.

        Raises:
            DataNotFoundError: a cell is not what its column says; it stands at `where`.
        """
        kind, wanted = self._kind, names or self.names
        return {
            name: _value(record[self._places[name]], name, kind=kind, where=where)
            if name in self._places
            else self._later[name]
            for name in wanted
        }

    def columns(self, records: Sequence[Sequence[str]]) -> dict[str, list[Any]]:
        """Return the cells of some records, column by column.

        Raises:
            ValueError: a cell is not what its column says.
        """
        texts = list(zip(*records, strict=True))
        found = {name: _cast(texts[place], *_TYPES[self._kind][name]) for name, place in self._places.items()}
        return {name: found[name] if name in found else [self._later[name]] * len(records) for name in self.names}


def _cast(texts: Sequence[str], cast: type, optional: bool) -> list[Any]:
    if cast is str:
        return list(texts)
    has_gaps = optional and "" in texts
    cells = [cast(text) if text else None for text in texts] if has_gaps else list(map(cast, texts))
    if cast is float and not all(map(math.isfinite, filter(None, cells))):
        raise ValueError
    return cells


def _opened(path: Path) -> io.TextIOWrapper:
    try:
        opened = open_regular(path, most_bytes=TABLE_BYTES * 64, follows_links=False)
    except OSError as error:
        raise DataNotFoundError(f"{path}: cannot be read: {error.strerror}", hint="name the folder of a run") from None
    return io.TextIOWrapper(opened, encoding="utf-8", errors="backslashreplace", newline="\n")


def _records(path: Path, kind: type[Row]) -> Iterator[tuple[int, list[str], _Shape]]:
    """Yield each whole record of a file with its line, and where its columns stand."""
    with _opened(path) as file:
        records = csv.reader(line for line in file if line.endswith("\n"))
        try:
            header = next(records, [])
            shape, width = _Shape(header, path, kind), len(header)
            for record in records:
                if len(record) != width:
                    where = f"{path}:{records.line_num}"
                    if next(records, None) is None:
                        return
                    raise DataNotFoundError(f"{where}: has {len(record)} cells, not {width}; the file was changed")
                yield records.line_num, record, shape
        except csv.Error as error:
            raise DataNotFoundError(f"{path}:{records.line_num}: {error}; the file was changed") from None
