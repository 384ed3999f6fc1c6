"""Rows in memory: the sink of a run without a folder, and the rows of a run folder read back."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from neulite_sim.errors import DataNotFoundError, NeuliteError
from neulite_sim.results.cells import record, scan_rows
from neulite_sim.results.contract import Sink
from neulite_sim.results.device_rows import DeviceRows, find_devices, scan_devices
from neulite_sim.results.flight_rows import FlightRows
from neulite_sim.results.row_table import rows_html
from neulite_sim.results.rows import DenialRow, DeviceRow, DiagnosticRow, FlightRow, RoundRow, Row, columns


class Rows(list[dict[str, Any]]):
    """Rows of one kind as plain dictionaries, in the order in which they happened."""

    def __init__(self, rows: Iterable[dict[str, Any]] = (), *, columns: tuple[str, ...]) -> None:
        super().__init__(rows)
        self.columns = columns

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` with one column per cell, also where there are no rows.

        Raises:
            NeuliteError: pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError:
            raise NeuliteError("to_pandas needs pandas; install it with: python -m pip install pandas") from None
        return pandas.DataFrame(list(self), columns=list(self.columns))

    def _repr_html_(self) -> str:
        """Show the rows as a table in a notebook."""
        return rows_html(self, self.columns)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Say at IPython's prompt what these rows are; each of them is shown where it is asked for."""
        del cycle
        printer.text(f"{len(self)} rows of {', '.join(self.columns)}")


class MemorySink(Sink):
    """The sink that keeps every row in memory; `summary` and `weights` are there once the run has ended."""

    def __init__(self) -> None:
        self.rounds = Rows(columns=columns(RoundRow))
        self.flights = Rows(columns=columns(FlightRow))
        self.denials = Rows(columns=columns(DenialRow))
        self.diagnostics = Rows(columns=columns(DiagnosticRow))
        self._devices: DeviceRows | None = None
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
        self._tables[type(row)].append(record(row))

    def write_flights(self, rows: FlightRows) -> None:
        """Keep rows of flights."""
        self.flights.extend(rows.records())

    def write_devices(self, rows: DeviceRows) -> None:
        """Keep the rows of the devices as columns."""
        self._devices = rows

    @property
    def devices(self) -> Rows:
        """The rows of the devices."""
        return Rows(() if self._devices is None else self._devices.records(), columns=columns(DeviceRow))

    def finish(self, summary: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """Keep the summary and a copy of the final global model."""
        self.summary = dict(summary)
        self.weights = {name: weights[name].detach().clone() for name in sorted(weights)}


def read_rows(path: Path | str, kind: type[Row]) -> Rows:
    """Return all rows of a CSV file of a run folder, typed by the annotations of `kind`.

    Raises:
        DataNotFoundError: no such file, a column that is missing, or a cell that is not what its column says.
    """
    return Rows(scan_rows(path, kind), columns=columns(kind))


def read_devices(run_dir: Path | str) -> Rows:
    """Return the rows of the devices of a run folder, from `devices.csv` or `devices.parquet`.

    Raises:
        DataNotFoundError: the folder has neither, as those of older versions, or the file is damaged.
    """
    path = find_devices(Path(run_dir))
    if path is None:
        raise DataNotFoundError(
            f"{run_dir}: has no devices.csv, which runs of this version write", hint="run its scenario.yaml again"
        )
    return Rows(scan_devices(path), columns=columns(DeviceRow))
