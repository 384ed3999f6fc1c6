"""The folder of one run: rows and timeline as they happen, then the summary, the final model and `COMPLETE`.

Rows are appended whole and at the latest with each round, so that a killed run leaves readable files, and nothing
of a row stays in memory. `COMPLETE` is written last; where it is absent, the run was cut off.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from neulite_sim.errors import OutputError
from neulite_sim.results.cells import FILES, OPTIONAL_FILES, column_types, values
from neulite_sim.results.contract import Sink
from neulite_sim.results.rows import RoundRow, Row, columns
from neulite_sim.results.trace_events import TimelineFile

SCENARIO = "scenario.yaml"
PROVENANCE = "provenance.json"
SUMMARY = "summary.json"
MODEL = "model.safetensors"
COMPLETE = "COMPLETE"
JOURNAL = "journal"
CHECKPOINT = "checkpoint"
TIMELINE = "timeline.json.gz"
RUNS = Path("runs")

_HELD_CHARACTERS = 1 << 16


def _refusal(path: Path, what: str, error: Exception) -> OutputError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return OutputError(
        f"{path}: cannot {what}: {reason}; make room or rights there, or choose another place with --out"
    )


@contextlib.contextmanager
def _refusing(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _refusal(path, what, error) from error


def write_whole(path: Path, content: str) -> None:
    """Write a text file so that it is there whole or not at all.

    Raises:
        OutputError: the file cannot be written; names it and the reason.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(content, encoding="utf-8", errors="backslashreplace", newline="\n")
        partial.replace(path)
    except OSError as error:
        _remove(partial)
        raise _refusal(path, "write", error) from error


def as_json(content: Mapping[str, Any]) -> str:
    """Return a mapping as indented JSON; NumPy scalars become numbers, paths become text."""
    return (
        json.dumps(content, indent=2, default=lambda value: value.item() if hasattr(value, "item") else str(value))
        + "\n"
    )


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def _remove_empty(folders: tuple[Path, ...]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return


class _Table:
    """One CSV file that grows at its end by whole rows."""

    def __init__(self, path: Path, kind: type[Row]) -> None:
        self.path = path
        self._texts = [place for place, (cast, _) in enumerate(column_types(kind).values()) if cast is str]
        self._held = io.StringIO(newline="")
        self._rows = csv.writer(self._held, lineterminator="\n")
        # Python 3.11 leaves a lone carriage return unquoted, which its reader then refuses.
        self._quoted_rows = csv.writer(self._held, lineterminator="\n", quoting=csv.QUOTE_ALL)
        self._rows.writerow(columns(kind))
        try:
            self._file = path.open("xb", buffering=0)
        except OSError as error:
            raise _refusal(path, "create", error) from error

    def add(self, row: Row) -> None:
        cells = values(row)
        needs_quotes = any("\r" in cells[place] for place in self._texts)
        (self._quoted_rows if needs_quotes else self._rows).writerow(cells)
        if self._held.tell() >= _HELD_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        left = memoryview(self._held.getvalue().encode("utf-8", "backslashreplace"))
        self._held.seek(0)
        self._held.truncate()
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise _refusal(self.path, "write", error) from error

    def close(self) -> None:
        self._file.close()


class RunFolder(Sink):
    """The sink that keeps a run on disk. Make one with `RunFolder.create`.

    As a context manager it closes its files at the end; rows that came after the last round are then written too.
    """

    def __init__(self, path: Path, made: tuple[Path, ...]) -> None:
        self.path = path
        self._made = made
        self._tables: dict[type[Row], _Table] = {}
        self._timeline: TimelineFile | None = None

    @classmethod
    def create(
        cls, path: Path | str | None, *, name: str, seed: int, scenario_yaml: str, provenance: Mapping[str, Any]
    ) -> Self:
        """Return a new run folder that holds the scenario, its provenance and tables without rows.

        Args:
            path: where the folder shall be, new or empty; None takes the first free `runs/NAME-SEED[-N]`.
            name: the scenario's name.
            seed: the root seed.
            scenario_yaml: the resolved scenario as YAML text.
            provenance: what `provenance.json` shall hold.

        Raises:
            OutputError: the folder holds something, or cannot be made or written. Nothing is left behind.
        """
        folder = cls(*(_claim_free(name, seed) if path is None else _claim(Path(path))))
        try:
            write_whole(folder.path / SCENARIO, scenario_yaml)
            write_whole(folder.path / PROVENANCE, as_json(provenance))
            for kind, file in FILES.items():
                folder._tables[kind] = _Table(folder.path / file, kind)
            folder._begin_timeline()
            folder.flush()
        except BaseException:
            folder.discard()
            raise
        return folder

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """Return the folder of a run that was cut off, its tables begun anew: a replay writes every row again.

        Raises:
            OutputError: the folder is gone, or cannot be written.
        """
        if not path.is_dir():
            raise OutputError(f"{path}: there is no such folder any more; name the folder of a run")
        folder = cls(path, ())
        for file in OPTIONAL_FILES.values():
            _remove(path / file)
        for kind, file in FILES.items():
            _remove(path / file)
            folder._tables[kind] = _Table(path / file, kind)
        folder._begin_timeline()
        folder.flush()
        return folder

    def write(self, row: Row) -> None:
        """Append one row; a `RoundRow` also brings everything before it to disk.

        Raises:
            OutputError: a file cannot be written any more (a full disk); names it and the reason.
        """
        if type(row) in OPTIONAL_FILES and type(row) not in self._tables:
            self._tables[type(row)] = _Table(self.path / OPTIONAL_FILES[type(row)], type(row))
        self._tables[type(row)].add(row)
        if self._timeline is not None:
            try:
                self._timeline.add(row)
            except OSError as error:
                raise _refusal(self._timeline.path, "write", error) from error
        if isinstance(row, RoundRow):
            self.flush()

    def flush(self) -> None:
        """Bring every row to disk."""
        for table in self._tables.values():
            table.flush()

    def finish(self, summary: Mapping[str, Any], weights: Mapping[str, Tensor] | None) -> None:
        """Write the summary, the final global model (None where nothing was trained) and, last, `COMPLETE`.

        Raises:
            OutputError: a file cannot be written; names it and the reason.
        """
        self.flush()
        self._end_timeline()
        self.close()
        write_whole(self.path / SUMMARY, as_json(summary))
        if weights is not None:
            self._write_model(weights)
        write_whole(self.path / COMPLETE, f"{summary.get('digest') or ''}\n")

    def _write_model(self, weights: Mapping[str, Tensor]) -> None:
        path = self.path / MODEL
        partial = path.with_name(path.name + ".partial")
        # Copies, because safetensors refuses tensors that share one storage.
        tensors = {name: weights[name].detach().cpu().contiguous().clone() for name in sorted(weights)}
        try:
            save_file(tensors, partial, metadata={"format": "pt"})
            partial.replace(path)
        except (OSError, SafetensorError) as error:
            _remove(partial)
            raise _refusal(path, "write", error) from error

    def _begin_timeline(self) -> None:
        with _refusing(self.path / TIMELINE, "create"):
            self._timeline = TimelineFile(self.path / TIMELINE)

    def _end_timeline(self) -> None:
        if self._timeline is not None:
            with _refusing(self._timeline.path, "write"):
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
        for name in (SCENARIO, PROVENANCE, TIMELINE, *FILES.values(), *OPTIONAL_FILES.values()):
            _remove(self.path / name)
        _remove_past(self.path)
        _remove_empty(self._made)

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


def clear_cut_off(path: Path) -> None:
    """Remove what a cut-off run left in its folder, and the folder where nothing else is in it.

    Raises:
        OutputError: the folder holds a complete run; it stays.
    """
    if (path / COMPLETE).exists():
        raise OutputError(f"{path}: holds a complete run, which is not removed; choose another place with --out")
    for name in (SUMMARY, MODEL, TIMELINE, *FILES.values(), *OPTIONAL_FILES.values(), PROVENANCE, SCENARIO):
        _remove(path / name)
        _remove(path / f"{name}.partial")
    _remove_past(path)
    _remove_empty((path,))


def _remove_past(path: Path) -> None:
    """Remove what a run could be resumed from."""
    for name in (JOURNAL, CHECKPOINT):
        shutil.rmtree(path / name, ignore_errors=True)


def _missing(path: Path) -> tuple[Path, ...]:
    """Return `path` and its parents that do not exist yet, innermost first."""
    return tuple(itertools.takewhile(lambda folder: not os.path.lexists(folder), (path, *path.parents)))


def _claim(path: Path) -> tuple[Path, tuple[Path, ...]]:
    """Return `path` as a new or empty folder, and which folders were made for it."""
    made = _missing(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        found = sorted(item.name for item in path.iterdir())
    except FileExistsError:
        raise OutputError(f"{path}: is a file; --out needs a new or empty folder") from None
    except OSError as error:
        _remove_empty(made)
        raise _refusal(path, "create", error) from error
    if found:
        state = "the complete run" if COMPLETE in found else "an unfinished run" if SCENARIO in found else "other files"
        shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        raise OutputError(f"{path}: already holds {state} ({shown}); --out needs a new or empty folder")
    return path, made


def _claim_free(name: str, seed: int) -> tuple[Path, tuple[Path, ...]]:
    """Return the first `runs/NAME-SEED[-N]` that was free, made at once so that no other run can take it."""
    for number in itertools.count(1):
        path = RUNS / (f"{name}-{seed}" if number == 1 else f"{name}-{seed}-{number}")
        made = _missing(path)
        try:
            RUNS.mkdir(exist_ok=True)
            path.mkdir()
        except FileExistsError as error:
            if not RUNS.is_dir():
                raise _refusal(RUNS, "create", error) from error
            continue
        except OSError as error:
            raise _refusal(path, "create", error) from error
        return path, made
    raise AssertionError("unreachable")
