"""What is exported: a run folder, checked, with all that other tools ask for."""

from __future__ import annotations

import calendar
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neulite_sim.errors import DataNotFoundError
from neulite_sim.exports.words import POINTS, TABLES
from neulite_sim.outside import file_sha256, what_stands
from neulite_sim.results.cells import FILES, OPTIONAL_FILES, scan_rows
from neulite_sim.results.device_rows import find_devices
from neulite_sim.results.places import AUDIT, OWN_FILES, PROVENANCE, SCENARIO, SUMMARY, SUMS
from neulite_sim.results.rows import DeviceRow, Row
from neulite_sim.results.stored import StoredRun, provenance_of, read_run, require_kept
from neulite_sim.version import __version__

_MOST_TEXT = 500
"""The longest text of a parameter: MLflow of 2022 takes no more."""
_NAMES = ("name", "seed", "method", "selection", "model", "dataset", "backend")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A run to export. `made` is its provenance; of an old or foreign folder it may be empty."""

    run: StoredRun
    made: Mapping[str, Any]
    name: str
    identity: str
    """Tells this run from every other, however far it has come; 64 hexadecimal digits."""
    state: str
    """Tells what of it can be exported now; another one as soon as there are more rows."""

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.run.path

    @property
    def started_s(self) -> int:
        """When it began, in seconds since 1970; 0 where nothing tells."""
        try:
            began = time.strptime(str(self.made.get("started_at_utc")), "%Y-%m-%dT%H:%M:%S+00:00")
        except ValueError:
            return 0
        return calendar.timegm(began)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What somebody who reads the export has to know, a sentence each."""
        found = []
        if not self.run.is_complete:
            found.append("the run was cut off or still goes on: exported as far as its rows go")
        if self.run.not_applicable is not None:
            found.append(f"the run trained nothing: {self.run.not_applicable}")
        return tuple(found)

    @property
    def tags(self) -> dict[str, str]:
        """What it is and where it comes from, as texts."""
        summary, made = self.run.summary, self.made
        found = {key: summary.get(key) for key in (*_NAMES, "digest", "proxy", "not_applicable")}
        found |= {
            key: made.get(key) for key in ("scenario_hash", "started_at_utc", "neulite_sim", "git_commit", "command")
        }
        found |= {"run_folder": self.name, "complete": str(self.run.is_complete).lower(), "exported_by": __version__}
        found |= {"identity": self.identity, "state": self.state}
        return {key: str(value) for key, value in found.items() if value is not None}

    @property
    def tables(self) -> dict[str, tuple[Path, type[Row]]]:
        """The tables that are there, by name."""
        files = {kind: self.path / name for kind, name in {**FILES, **OPTIONAL_FILES}.items()}
        if (devices := find_devices(self.path)) is not None:
            files[DeviceRow] = devices
        return {name: (files[kind], kind) for kind, name in TABLES.items() if kind in files and files[kind].exists()}

    @property
    def files(self) -> list[Path]:
        """The files of the run that are there, those that it is resumed from aside."""
        return [self.path / name for name in OWN_FILES if (self.path / name).exists()]

    def points(self) -> Iterator[tuple[int, float, dict[str, float]]]:
        """Yield the points of all curves: round, seconds since 1970 at its virtual time, and values by name.

        A round comes once for each table that knows it.

        Raises:
            DataNotFoundError: a table is damaged.
        """
        times: dict[int, float] = {}
        for path, kind in self.tables.values():
            if kind not in POINTS:
                continue
            for step, values in _by_round(scan_rows(path, kind), kind, times):
                yield step, self.started_s + times.get(step, max(times.values(), default=0.0)), values

    def audit(self) -> list[dict[str, Any]]:
        """Return the rows of the audit of its memory; none where it was not audited.

        Raises:
            DataNotFoundError: the file holds something else.
        """
        path = self.path / AUDIT
        if what_stands(path) is None:
            return []
        try:
            rows = json.loads(path.read_bytes())["submodels"]
            if all(isinstance(row, dict) for row in rows):
                return list(rows)
        except (ValueError, KeyError, TypeError, OSError):
            pass
        raise DataNotFoundError(f"{path}: holds no audit", hint="the file was changed; put it back, or remove it")


def _by_round(
    rows: Iterator[dict[str, Any]], kind: type[Row], times: dict[int, float]
) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the points of rows, those of one round together; note when a round was."""
    step, values = 0, dict[str, float]()
    for row in rows:
        if "virtual_time_s" in row:
            times.setdefault(row["round"], row["virtual_time_s"])
        if row["round"] != step and values:
            yield step, values
            values = {}
        step = row["round"]
        values |= POINTS[kind](row)
    if values:
        yield step, values


def read_origin(path: Path) -> Origin:
    """Return the run in a folder.

    Raises:
        DataNotFoundError: a file of the folder is missing or damaged.
    """
    run = read_run(path)
    require_kept(path, *(name for name in OWN_FILES if name != SUMS))
    there = [path / name for name in OWN_FILES if (path / name).exists()]
    made = provenance_of(path)
    return Origin(
        run=run,
        made=made,
        name=path.resolve().name,
        identity=_digest([path / SCENARIO, path / PROVENANCE]),
        state=_digest([file for file in there if file.name in (SUMMARY, AUDIT) or file.suffix in (".csv", ".parquet")]),
    )


def _digest(paths: list[Path]) -> str:
    found = hashlib.sha256()
    for path in paths:
        if path.exists():
            found.update(f"{path.name} {file_sha256(path, follows_links=False)}\n".encode())
    return found.hexdigest()


def parameters(scenario: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """Return what a scenario says by dotted keys, without what is not given; lists are JSON, cut where long."""
    return dict(_flat(scenario, ""))


def _flat(value: Any, key: str) -> Iterator[tuple[str, str | int | float | bool]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, bool | int | float):
        yield key, value
    elif value is not None:
        text = value if isinstance(value, str) else json.dumps(value)
        size = f"... ({len(value)} items)" if isinstance(value, list) else "..."
        yield key, text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - len(size)] + size
