"""A run as Parquet files: a file per table, with the types, names and units of its columns, written in row groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from neulite_sim.exports.origin import Origin
from neulite_sim.exports.words import metric_of, unit_of
from neulite_sim.results import device_rows
from neulite_sim.results.cells import column_types, columns_in, scan_columns
from neulite_sim.results.rows import EVERYTHING, DeviceRow, Row, columns

_TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string()}
GROUP_ROWS = 1 << 16
"""Rows of a group: a reader may take one at a time, and no more of a table is in memory."""


def write_parquet(origin: Origin, folder: Path) -> None:
    """Write a file per table into a folder; equal tables give equal files, with one version of pyarrow.

    Columns are called as in the rows. The metadata of a column has its `unit` and, where trackers show it, its
    `metric`; that of the file has what the run is.

    Raises:
        DataNotFoundError: a table is damaged.
    """
    for name, (path, kind) in origin.tables.items():
        groups = _groups(path, kind)
        _write(groups, _schema(path, kind, origin), folder / f"{name}.parquet")
    if rows := origin.audit():
        table = pa.Table.from_pylist(_plain(rows))
        fields = [_named(field, unit_of(field.name), "") for field in table.schema]
        schema = pa.schema(fields, metadata=_about(origin))
        _write([table.to_pydict()], schema, folder / "audit.parquet")


def _groups(path: Path, kind: type[Row]) -> Iterator[Mapping[str, list[Any]]]:
    """Yield the columns of a table, many rows at a time."""
    if kind is DeviceRow:
        return device_rows.scan_columns(path, *columns(kind))
    return scan_columns(path, kind, most_rows=GROUP_ROWS)


def _write(groups: Iterator[Mapping[str, Sequence[Any]]] | Sequence[Any], schema: Any, path: Path) -> None:
    # Texts such as reasons and submodels come again and again; numbers hardly do.
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=texts) as writer:
        for cells in groups:
            writer.write_table(pa.table(dict(cells), schema=schema), row_group_size=GROUP_ROWS)


def _schema(path: Path, kind: type[Row], origin: Origin) -> Any:
    types = column_types(kind, asked=EVERYTHING)
    names = columns(kind) if kind is DeviceRow else columns_in(path, kind)
    fields = [
        _named(
            pa.field(name, _TYPES[cast], nullable=optional), "" if cast is str else unit_of(name), metric_of(kind, name)
        )
        for name, (cast, optional) in ((name, types[name]) for name in names)
    ]
    return pa.schema(fields, metadata=_about(origin))


def _named(field: Any, unit: str, metric: str) -> Any:
    known = {key: text for key, text in (("unit", unit), ("metric", metric)) if text}
    return field.with_metadata(known) if known else field


def _about(origin: Origin) -> dict[str, str]:
    return {f"neulite_sim.{key}": text for key, text in origin.tags.items()}


def _plain(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows that all have the same keys: where a number came from a whole and a broken one, both are broken."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return [{key: row.get(key) for key in keys} for row in rows]
