"""Rows in memory: the sink of a run without a folder, and the rows of a run folder read back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from neulite_sim.errors import DataNotFoundError
from neulite_sim.results.cells import DEVICES_CSV, DEVICES_PARQUET, columns_in, record, scan_rows
from neulite_sim.results.contract import Sink
from neulite_sim.results.device_rows import DeviceRows, find_devices, scan_devices
from neulite_sim.results.flight_rows import FlightRows
from neulite_sim.results.row_table import Rows
from neulite_sim.results.rows import (
    NOTHING,
    Asked,
    DenialRow,
    DeviceRow,
    DiagnosticRow,
    FlightRow,
    RoundRow,
    Row,
    columns,
)
from neulite_sim.results.stored import require_kept


class MemorySink(Sink):
    """The sink that keeps every row in memory; `summary` and `weights` are there once the run has ended."""

    def __init__(self, *, asked: Asked = NOTHING) -> None:
        self.rounds = Rows(columns=columns(RoundRow, asked=asked))
        self.flights = Rows(columns=columns(FlightRow, asked=asked))
        self.denials = Rows(columns=columns(DenialRow))
        self.diagnostics = Rows(columns=columns(DiagnosticRow))
        self.device_rows: DeviceRows | None = None
        self.asked = asked
        self.summary: dict[str, Any] | None = None
        self.weights: dict[str, Tensor] | None = None
        self._tables: Mapping[type[Row], Rows] = {
            RoundRow: self.rounds,
            FlightRow: self.flights,
            DenialRow: self.denials,
            DiagnosticRow: self.diagnostics,
        }

    def write(self, row: Row) -> None:
        """Keep one row."""
        table = self._tables[type(row)]
        cells = record(row)
        table.append({name: cells.get(name) for name in table.columns})

    def write_flights(self, rows: FlightRows) -> None:
        """Keep rows of flights."""
        self.flights.extend(rows.records())

    def write_devices(self, rows: DeviceRows) -> None:
        """Keep the rows of the devices as columns."""
        self.device_rows = rows

    @property
    def devices(self) -> Rows:
        """The rows of the devices."""
        return Rows(() if self.device_rows is None else self.device_rows.records(), columns=columns(DeviceRow))

    def finish(self, summary: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """Keep the summary and a copy of the final global model."""
        self.summary = dict(summary)
        self.weights = {name: weights[name].detach().clone() for name in sorted(weights)}


def read_rows(path: Path | str, kind: type[Row]) -> Rows:
    """Return all rows of a CSV file of a run folder, typed by the annotations of `kind`.

    Raises:
        DataNotFoundError: no such file, a column that is missing, or a cell that is not what its column says.
    """
    return Rows(scan_rows(path, kind), columns=columns_in(path, kind))


def read_devices(run_dir: Path | str) -> Rows:
    """Return the rows of the devices of a run folder, from `devices.csv` or `devices.parquet`.

    Raises:
        DataNotFoundError: the folder has neither, as those of older versions, or the file was changed or is gone.
    """
    require_kept(Path(run_dir), DEVICES_CSV, DEVICES_PARQUET)
    path = find_devices(Path(run_dir))
    if path is None:
        raise DataNotFoundError(
            f"{run_dir}: has no devices.csv, which runs of this version write", hint="run its scenario.yaml again"
        )
    return Rows(scan_devices(path), columns=columns(DeviceRow))
