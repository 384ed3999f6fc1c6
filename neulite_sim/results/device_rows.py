"""Rows of devices as columns, a block at a time: how a run writes them, since it can have a million.

A fleet of up to `MOST_IN_CSV` devices is written as `devices.csv`, a larger one as `devices.parquet` where pyarrow is
installed.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import importlib.util
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neulite_sim.arrays import Integers, Repeated
from neulite_sim.errors import DataNotFoundError
from neulite_sim.outside import TABLE_BYTES, create_regular, open_regular
from neulite_sim.results.behind import Behind
from neulite_sim.results.cells import DEVICES_CSV, DEVICES_PARQUET, column_types, scan_rows
from neulite_sim.results.cells import scan_columns as scan_cells
from neulite_sim.results.rows import DeviceRow, columns
from neulite_sim.results.writing import encoded, put, refusal, remove, write_all

MOST_IN_CSV = 100_000
JOIN = ";"
"""What stands between several names in one cell."""
BLOCK = 2**15
NAMES = columns(DeviceRow)
_TYPES = column_types(DeviceRow)


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """A column of texts of which many are the same: entry i is `texts[codes[i]]`."""

    codes: Integers
    texts: Sequence[str]

    @classmethod
    def of(cls, cells: Integers, text_of: Callable[[list[int]], str]) -> Coded:
        """Return a column whose entry i is `text_of(cells[:, i])`, made once for equal cells."""
        mixed = np.zeros(cells.shape[1], np.int64)
        for row in cells:
            known, codes = np.unique(row, return_inverse=True)
            # Renumbered each time, so that the product of two numbers of codes never overflows.
            mixed = np.unique(mixed * len(known) + codes, return_inverse=True)[1]
        _, first, codes = np.unique(mixed, return_index=True, return_inverse=True)
        return cls(codes, [text_of(each) for each in cells[:, first].T.tolist()])

    def tolist(self) -> list[str]:
        """Return the texts."""
        return list(map(self.texts.__getitem__, self.codes.tolist()))


Column = NDArray[Any] | Coded | Repeated[Any]
Block = Mapping[str, Column]
"""The columns of devices that follow each other; NaN stands for a number that is not known."""


def _cells(column: Column) -> Sequence[Any]:
    """Return a column as plain int, float, str or None."""
    if isinstance(column, Repeated):
        return column
    cells: list[Any] = column.tolist()
    if isinstance(column, Coded) or column.dtype.kind != "f":
        return cells
    return [None if math.isnan(cell) else cell for cell in cells]


class DeviceRows:
    """The rows of `count` devices; `block_of(first, after)` returns the columns of those from `first` to `after` - 1.

    Devices are numbered from 0, and stand in their order.
    """

    def __init__(self, count: int, block_of: Callable[[int, int], Block]) -> None:
        self.count = count
        self._block_of = block_of

    def __len__(self) -> int:
        return self.count

    def blocks(self) -> Iterator[Block]:
        """Yield the columns of all devices, a block of devices after the other."""
        for first in range(0, self.count, BLOCK):
            block = self._block_of(first, min(first + BLOCK, self.count))
            assert tuple(block) == NAMES, f"columns {tuple(block)}"
            yield block

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield each row as a plain dictionary."""
        for block in self.blocks():
            for row in zip(*map(_cells, block.values()), strict=True):
                yield dict(zip(NAMES, row, strict=True))


def has_pyarrow() -> bool:
    """Whether Parquet can be written and read."""
    return importlib.util.find_spec("pyarrow") is not None


def place_for(count: int) -> str:
    """Return the name of the file for so many devices."""
    return DEVICES_PARQUET if count > MOST_IN_CSV and has_pyarrow() else DEVICES_CSV


def write_devices(folder: Path, rows: DeviceRows) -> None:
    """Write the devices of a run folder, whole or not at all, in the place of those that it has.

    Raises:
        OutputError: the file cannot be written; names it and the reason.
    """
    name = place_for(len(rows))
    path = folder / name
    partial = path.with_name(f"{name}.partial")
    try:
        remove(partial)
        (_write_parquet if name == DEVICES_PARQUET else _write_csv)(partial, rows)
        put(partial, path)
    except OSError as error:
        remove(partial)
        raise refusal(path, "write", error) from error
    remove(folder / (DEVICES_CSV if name == DEVICES_PARQUET else DEVICES_PARQUET))


def _write_csv(path: Path, rows: DeviceRows) -> None:
    with create_regular(path) as file:
        write_all(file, encoded(",".join(NAMES) + "\n"))
        for block in rows.blocks():
            held = io.StringIO(newline="")
            # Python 3.11 leaves a lone carriage return unquoted, which its reader then refuses.
            texts = (column.texts for column in block.values() if isinstance(column, Coded))
            is_odd = any("\r" in text for each in texts for text in each)
            lines = csv.writer(held, lineterminator="\n", quoting=csv.QUOTE_ALL if is_odd else csv.QUOTE_MINIMAL)
            lines.writerows(zip(*map(_cells, block.values()), strict=True))
            write_all(file, encoded(held.getvalue()))


def _write_parquet(path: Path, rows: DeviceRows) -> None:
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    # Texts go as codes, and come back as texts to whoever reads: the file does not say how they were given.
    coded = arrow.dictionary(arrow.int32(), arrow.string())
    schema = _schema(arrow, texts_as=coded)
    texts = [name for name, (cast, _) in _TYPES.items() if cast is str]
    whole = {name: "DELTA_BINARY_PACKED" for name, (cast, _) in _TYPES.items() if cast is int}
    how = {"use_dictionary": texts, "column_encoding": whole, "compression": "zstd", "write_statistics": ["device"]}
    repeated: dict[Any, Any] = {}

    def cells_of(column: Column, kind: Any) -> Any:
        if not isinstance(column, Repeated):
            return _as_arrow(arrow, column, kind)
        # Most columns of a large fleet say the same of everybody, block after block.
        key = column.value, type(column.value), len(column), kind
        if key not in repeated:
            repeated[key] = _repeated(arrow, column, kind)
        return repeated[key]

    with (
        create_regular(path) as file,
        parquet.ParquetWriter(arrow.PythonFile(file, mode="w"), schema, store_schema=False, **how) as writer,
        contextlib.closing(Behind()) as behind,
    ):
        for block in rows.blocks():
            cells = [cells_of(column, field.type) for column, field in zip(block.values(), schema, strict=True)]
            behind.do(writer.write_batch, arrow.record_batch(cells, schema=schema))
        behind.wait()


def _repeated(arrow: Any, column: Repeated[Any], kind: Any) -> Any:
    if column.value is None:
        return arrow.nulls(len(column), kind)
    if isinstance(column.value, str):
        return _as_arrow(arrow, Coded(np.zeros(len(column), np.int64), [column.value]), kind)
    return _as_arrow(arrow, np.full(len(column), column.value), kind)


def _as_arrow(arrow: Any, column: NDArray[Any] | Coded, kind: Any) -> Any:
    if isinstance(column, Coded):
        # No text is made for each device.
        codes = _from_memory(arrow, column.codes.astype(np.int32), arrow.int32())
        return arrow.DictionaryArray.from_arrays(codes, _texts_from_memory(arrow, column.texts))
    dtype = np.float64 if kind == arrow.float64() else np.int64
    if column.dtype.kind != "f" or not (is_unknown := np.isnan(column)).any():
        return _from_memory(arrow, column.astype(dtype, copy=False), kind)
    # What is not known has no whole number to become.
    numbers = np.where(is_unknown, 0, column).astype(dtype, copy=False)
    return _from_memory(arrow, numbers, kind, is_known=~is_unknown)


# `arrow.array` and `arrow.scalar` would import pandas where it is installed: half a second and 40 MB.
def _from_memory(arrow: Any, numbers: NDArray[Any], kind: Any, *, is_known: NDArray[np.bool_] | None = None) -> Any:
    """Return numbers as a column of pyarrow."""
    known = None if is_known is None else arrow.py_buffer(np.packbits(is_known, bitorder="little"))
    return arrow.Array.from_buffers(kind, len(numbers), [known, arrow.py_buffer(np.ascontiguousarray(numbers))])


def _texts_from_memory(arrow: Any, texts: Sequence[str]) -> Any:
    """Return texts as a column of pyarrow."""
    packed = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, packed)]).astype(np.int32)
    buffers = [None, arrow.py_buffer(ends), arrow.py_buffer(b"".join(packed))]
    return arrow.Array.from_buffers(arrow.string(), len(packed), buffers)


def find_devices(folder: Path) -> Path | None:
    """Return the file of a run folder that holds its devices; None where it has none."""
    return next((folder / name for name in (DEVICES_CSV, DEVICES_PARQUET) if (folder / name).exists()), None)


def scan_devices(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file of devices, typed, one at a time.

    Raises:
        DataNotFoundError: the file is missing or damaged, or pyarrow is not installed and needed.
    """
    if path.name == DEVICES_CSV:
        yield from scan_rows(path, DeviceRow)
        return
    for batch in _batches(path):
        yield from batch.to_pylist()


def scan_columns(path: Path, *names: str) -> Iterator[Mapping[str, list[Any]]]:
    """Yield some columns of a file of devices as plain values, many devices at a time, in the order of their numbers.

    Raises:
        DataNotFoundError: as `scan_devices`.
    """
    if path.name == DEVICES_CSV:
        for cells in scan_cells(path, DeviceRow, most_rows=BLOCK):
            yield {name: cells[name] for name in names}
        return
    for batch in _batches(path):
        yield {name: batch.column(name).to_pylist() for name in names}


def device_row(path: Path, device: int) -> dict[str, Any] | None:
    """Return the row of one device; None where the file has none for it.

    Raises:
        DataNotFoundError: as `scan_devices`.
    """
    if path.name == DEVICES_CSV:
        return next(scan_rows(path, DeviceRow, having={"device": device}), None)
    for batch in _batches(path):
        found = np.flatnonzero(batch.column("device").to_numpy() == device)
        if len(found):
            row: dict[str, Any] = batch.slice(int(found[0]), 1).to_pylist()[0]
            return row
    return None


def _batches(path: Path) -> Iterator[Any]:
    """Yield the rows of a Parquet file, many at a time, in the columns and types of `DeviceRow`."""
    if not has_pyarrow():
        hint = "install it with: python -m pip install pyarrow"
        raise DataNotFoundError(f"{path}: reading Parquet needs pyarrow", hint=hint)
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    schema = _schema(arrow)
    try:
        with (
            open_regular(path, most_bytes=TABLE_BYTES * 64, follows_links=False) as opened,
            parquet.ParquetFile(arrow.PythonFile(opened, mode="r")) as file,
        ):
            missing = [name for name in NAMES if name not in file.schema_arrow.names]
            if missing:
                raise DataNotFoundError(f"{path}: has no column {', '.join(missing)}; it is of another version")
            for batch in file.iter_batches(columns=list(NAMES)):
                cells = [batch.column(field.name).cast(field.type) for field in schema]
                yield arrow.record_batch(cells, schema=schema)
    except (OSError, ValueError, NotImplementedError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataNotFoundError(f"{path}: cannot be read: {why}", hint="run the scenario again") from None


def _schema(arrow: Any, *, texts_as: Any = None) -> Any:
    kinds = {int: arrow.int64(), float: arrow.float64(), str: texts_as or arrow.string()}
    return arrow.schema([(name, kinds[cast]) for name, (cast, _) in _TYPES.items()])
