"""The folder of one run: rows and timeline as they happen, then the summary, the final model and `COMPLETE`.

Rows are appended whole and at the latest with each round, so that a killed run leaves readable files, and nothing
of a row stays in memory. `COMPLETE` is written last; where it is absent, the run was cut off.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from neulite_sim.errors import NeuliteError, OutputError
from neulite_sim.outside import what_stands
from neulite_sim.results.cells import DEVICES_CSV, DEVICES_PARQUET, FILES, OPTIONAL_FILES
from neulite_sim.results.claiming import claim, claim_free, remove_empty
from neulite_sim.results.contract import Sink
from neulite_sim.results.device_rows import DeviceRows, write_devices
from neulite_sim.results.flight_rows import FlightRows
from neulite_sim.results.places import (
    CHECKPOINT,
    COMPLETE,
    FAILED,
    JOURNAL,
    MODEL,
    PROVENANCE,
    SCENARIO,
    SUMMARY,
    SUMS,
    TABLES,
    TIMELINE,
    require_own,
)
from neulite_sim.results.rows import NOTHING, Asked, FlightRow, RoundRow, Row
from neulite_sim.results.seals import sealed, sha256
from neulite_sim.results.sums import sums_of
from neulite_sim.results.trace_events import TimelineFile
from neulite_sim.results.writing import Table, as_json, encoded, put, refusal, refusing, remove, write_whole
from neulite_sim.stopping import is_asked_to_stop

_STAGED = ".replayed"
"""What the tables of a resumed run are called until its replay has succeeded."""


class RunFolder(Sink):
    """The sink that keeps a run on disk. Make one with `RunFolder.create`.

    As a context manager it closes its files at the end; rows that came after the last round are then written too.
    """

    def __init__(self, path: Path, made: tuple[Path, ...], *, asked: Asked = NOTHING) -> None:
        self.path = path
        self._made = made
        self._asked = asked
        self._tables: dict[type[Row], Table] = {}
        self._timeline: TimelineFile | None = None
        self._staged = ""
        self._staged_devices: DeviceRows | None = None

    @classmethod
    def create(
        cls,
        path: Path | str | None,
        *,
        name: str,
        seed: int,
        scenario_yaml: str,
        provenance: Mapping[str, Any],
        asked: Asked = NOTHING,
    ) -> Self:
        """Return a new run folder that holds the scenario, its provenance and tables without rows.

        Args:
            path: where the folder shall be, new or empty; None takes the first free `runs/NAME-SEED[-N]`.
            name: the scenario's name.
            seed: the root seed.
            scenario_yaml: the resolved scenario as YAML text.
            provenance: what `provenance.json` shall hold.
            asked: which columns the tables have that a run has to ask for.

        Raises:
            OutputError: the folder holds something, or cannot be made or written. Nothing is left behind.
        """
        claimed = claim_free(name, seed) if path is None else claim(Path(path))
        folder = cls(*claimed, asked=asked)
        try:
            write_whole(folder.path / SCENARIO, scenario_yaml)
            made = sealed({**provenance, "scenario_sha256": sha256(encoded(scenario_yaml))})
            write_whole(folder.path / PROVENANCE, as_json(made))
            for kind, file in FILES.items():
                folder._tables[kind] = Table(folder.path / file, kind, asked=asked)
            folder._begin_timeline()
            folder.flush()
        except BaseException:
            folder.discard()
            raise
        return folder

    @classmethod
    def reopen(cls, path: Path, *, asked: Asked = NOTHING) -> Self:
        """Return the folder of a run that was cut off, its tables begun anew: a replay writes every row again.

        They are written beside the old ones, which stay until `put_in_place`; without it, they go at the end.

        Raises:
            OutputError: the folder is gone, or cannot be written.
            DataNotFoundError: something else stands in the place of one of its files.
        """
        if not path.is_dir():
            raise OutputError(f"{path}: there is no such folder any more", hint="name the folder of a run")
        require_own(path)
        folder = cls(path, (), asked=asked)
        folder._staged = _STAGED
        folder._remove_staged()
        try:
            for kind, file in FILES.items():
                folder._tables[kind] = Table(path / file, kind, staged=_STAGED, asked=asked)
            folder._begin_timeline()
        except BaseException:
            folder.close()
            folder._remove_staged()
            raise
        return folder

    def put_in_place(self) -> None:
        """Let the tables written since `reopen` take the place of the old ones: the replay has succeeded.

        Raises:
            OutputError: a file cannot be replaced.
        """
        if not self._staged:
            return
        self.flush()
        for kind, file in OPTIONAL_FILES.items():
            if kind not in self._tables:
                remove(self.path / file)
        remove(self.path / FAILED)
        for table in self._tables.values():
            table.put_in_place()
        with refusing(self.path / TIMELINE, "replace"):
            put(self.path / (TIMELINE + _STAGED), self.path / TIMELINE)
        self._staged = ""
        for name in (DEVICES_CSV, DEVICES_PARQUET):
            remove(self.path / name)
        if self._staged_devices is not None:
            self.write_devices(self._staged_devices)

    def _remove_staged(self) -> None:
        for name in (TIMELINE, *FILES.values(), *OPTIONAL_FILES.values()):
            remove(self.path / (name + _STAGED))

    def write(self, row: Row) -> None:
        """Append one row; a `RoundRow` also brings everything before it to disk.

        Raises:
            OutputError: a file cannot be written any more (a full disk); names it and the reason.
        """
        if type(row) in OPTIONAL_FILES and type(row) not in self._tables:
            path = self.path / OPTIONAL_FILES[type(row)]
            self._tables[type(row)] = Table(path, type(row), staged=self._staged)
        self._tables[type(row)].add(row)
        if self._timeline is not None:
            with refusing(self._timeline.path, "write"):
                self._timeline.add(row)
        if isinstance(row, RoundRow):
            self.flush()

    def write_flights(self, rows: FlightRows) -> None:
        """Append rows of flights.

        Raises:
            OutputError: a file cannot be written any more.
        """
        self._tables[FlightRow].add_flights(rows)
        if self._timeline is not None:
            with refusing(self._timeline.path, "write"):
                self._timeline.add_flights(rows)

    def write_devices(self, rows: DeviceRows) -> None:
        """Write the rows of the devices in the place of those of before; in a replay, once it has succeeded.

        Raises:
            OutputError: the file cannot be written.
        """
        if self._staged:
            self._staged_devices = rows
            return
        write_devices(self.path, rows)

    def flush(self) -> None:
        """Bring every row to disk."""
        for table in self._tables.values():
            table.flush()

    def finish(self, summary: Mapping[str, Any], weights: Mapping[str, Tensor] | None) -> None:
        """Write the summary, the final global model (None where nothing was trained), sums and, last, `COMPLETE`.

        Raises:
            OutputError: a file cannot be written; names it and the reason.
        """
        self.flush()
        self._end_timeline()
        self.close()
        write_whole(self.path / SUMMARY, as_json(summary))
        if weights is not None:
            self._write_model(weights)
        mark = f"{summary.get('digest') or ''}\n"
        with refusing(self.path / SUMS, "read what it sums up for"):
            sums = sums_of(self.path, mark)
        write_whole(self.path / SUMS, sums)
        write_whole(self.path / COMPLETE, mark)

    def _write_model(self, weights: Mapping[str, Tensor]) -> None:
        path = self.path / MODEL
        partial = path.with_name(path.name + ".partial")
        # Copies, because safetensors refuses tensors that share one storage.
        tensors = {name: weights[name].detach().cpu().contiguous().clone() for name in sorted(weights)}
        try:
            remove(partial)
            save_file(tensors, partial, metadata={"format": "pt"})
            put(partial, path)
        except (OSError, SafetensorError) as error:
            remove(partial)
            raise refusal(path, "write", error) from error

    def _begin_timeline(self) -> None:
        with refusing(self.path / TIMELINE, "create"):
            self._timeline = TimelineFile(self.path / (TIMELINE + self._staged))

    def _end_timeline(self) -> None:
        if self._timeline is not None:
            with refusing(self._timeline.path, "write"):
                self._timeline.close()

    def close(self) -> None:
        """Close the tables and the timeline; what was not flushed is not written to the tables."""
        for table in self._tables.values():
            table.close()
        self._tables = {}
        # Whoever has to know that the timeline could not be finished was told before.
        with contextlib.suppress(OutputError):
            self._end_timeline()

    def discard(self) -> None:
        """Remove the folder of a run that never began: its own files, and the folders made for it if they are empty."""
        self.close()
        for name in (FAILED, SCENARIO, PROVENANCE, TIMELINE, *TABLES):
            remove(self.path / name)
        _remove_past(self.path)
        remove_empty(self._made)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not isinstance(error, OutputError):
                self.flush()
                self._end_timeline()
        finally:
            self.close()
            if isinstance(error, Exception) and not is_asked_to_stop():
                self._mark_failed(error)
            if self._staged:
                self._remove_staged()

    def _mark_failed(self, error: Exception) -> None:
        """Leave in a run's folder why it failed; not where nothing of it is there, or a resume changed nothing yet."""
        if self._staged or what_stands(self.path / SCENARIO) != "a file":
            return
        kind = error.kind if isinstance(error, NeuliteError) else type(error).__name__
        with contextlib.suppress(OutputError):
            write_whole(self.path / FAILED, f"{kind}: {error}\n")


def clear_cut_off(path: Path) -> None:
    """Remove what a cut-off run left in its folder, and the folder where nothing else is in it.

    Raises:
        OutputError: the folder holds a complete run; it stays.
        DataNotFoundError: something else stands in the place of one of its files; all stays.
    """
    require_own(path)
    if (path / COMPLETE).exists():
        raise OutputError(f"{path}: holds a complete run, which is not removed", hint="choose another place with --out")
    for name in (FAILED, SUMMARY, MODEL, SUMS, TIMELINE, *TABLES, PROVENANCE, SCENARIO):
        remove(path / name)
        remove(path / f"{name}.partial")
        remove(path / f"{name}{_STAGED}")
    _remove_past(path)
    remove_empty((path,))


def _remove_past(path: Path) -> None:
    """Remove what a run could be resumed from."""
    for name in (JOURNAL, CHECKPOINT):
        shutil.rmtree(path / name, ignore_errors=True)
