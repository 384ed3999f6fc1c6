"""Runs read back from their folders: what they were, how they ended, how their accuracy went."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from neulite_sim.errors import DataNotFoundError
from neulite_sim.outside import TEXT_BYTES, read_regular, what_stands
from neulite_sim.population.hardware.power import powers_in
from neulite_sim.results.cells import FILES, OPTIONAL_FILES, scan_columns, scan_rows
from neulite_sim.results.energy import PER_JOULE, EnergyTally, joules_of_cells, units_of
from neulite_sim.results.flight_rows import FlightRows
from neulite_sim.results.places import (
    COMPLETE,
    NEVER_BEGUN,
    PROVENANCE,
    SCENARIO,
    SUMMARY,
    SUMS,
    is_without_tables,
    require_own,
    was_never_begun,
)
from neulite_sim.results.rows import DiagnosticRow, FlightRow, RoundRow
from neulite_sim.results.seals import SEAL, is_sealed, sha256
from neulite_sim.results.study import Study, study_of
from neulite_sim.results.summary import Identity, Tally
from neulite_sim.results.sums import check_sums, names_with_sums
from neulite_sim.scenario.yaml_text import read_yaml

_UNKNOWN_WITHOUT_SUMMARY = ("participation_rate", "data_share", "proxy", "wall_time_s", "digest")
_WISH = "name a folder that `neulite-sim run` wrote"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run folder: its summary and its scenario as plain values.

    Of a run that was cut off, or still runs, the summary is added up from its rows; what those do not tell is None.
    """

    path: Path
    summary: Mapping[str, Any]
    scenario: Mapping[str, Any]
    is_complete: bool
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """What `provenance.json` holds; nothing of a run that has none."""

    @property
    def study(self) -> Study:
        """What the run was computed from, but for its seed."""
        return study_of(self.scenario, self.provenance)

    @property
    def not_applicable(self) -> str | None:
        """Why no device could train anything, where that is the result; None otherwise."""
        reason = self.summary.get("not_applicable")
        return None if reason is None else str(reason)

    def curve(self, column: str = "test_accuracy") -> list[tuple[int, float, float]]:
        """Return round, virtual second and accuracy (0 to 1) of every tested round; empty where none was tested.

        Another `column` of rounds.csv takes the place of accuracy; empty where the run has no such column.

        Raises:
            DataNotFoundError: rounds.csv is missing or damaged.
        """
        rows = scan_rows(self.path / FILES[RoundRow], RoundRow)
        return [(row["round"], row["virtual_time_s"], row[column]) for row in rows if row.get(column) is not None]

    def diagnostics(self) -> list[Mapping[str, Any]]:
        """Return the rows of diagnostics.csv; none where the run was not asked for diagnostics.

        Raises:
            DataNotFoundError: diagnostics.csv is damaged, or was there and is gone.
        """
        path = self.path / OPTIONAL_FILES[DiagnosticRow]
        require_kept(self.path, path.name)
        return list(scan_rows(path, DiagnosticRow)) if path.exists() else []


def find_runs(path: Path) -> list[Path]:
    """Return the run folder at `path`, or those directly inside it, by name.

    Raises:
        DataNotFoundError: there is no folder, or none that a run wrote.
    """
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise DataNotFoundError(f"{path}: {what}", hint=_WISH)
    if (path / SCENARIO).is_file():
        return [path]
    inside = sorted(item.parent for item in path.glob(f"*/{SCENARIO}"))
    if not inside:
        raise DataNotFoundError(f"{path}: is no run folder and holds none (no {SCENARIO} in it)", hint=_WISH)
    return inside


def deeper_runs(path: Path) -> list[Path]:
    """Return the run folders below those that `find_runs` returns of a folder: of sweeps inside it, say."""
    return [] if (path / SCENARIO).is_file() else sorted(item.parent for item in path.glob(f"*/*/{SCENARIO}"))


def read_run(path: Path) -> StoredRun:
    """Return the run in a folder.

    Raises:
        DataNotFoundError: a file of the folder is missing or damaged.
    """
    if is_without_tables(path):
        raise _not_begun(path)
    require_whole(path, FILES[RoundRow])
    is_complete = (path / COMPLETE).exists()
    scenario = read_scenario(path / SCENARIO)
    summary = _summary(path / SUMMARY) if is_complete else _summary_of_rows(path, scenario)
    made = provenance_of(path)
    return StoredRun(path=path, summary=summary, scenario=scenario, is_complete=is_complete, provenance=made)


def _not_begun(path: Path) -> DataNotFoundError:
    """Return what is said of a run that was cut off before it had done a thing."""
    if was_never_begun(item.name for item in path.iterdir()):
        return DataNotFoundError(f"{path}: holds {NEVER_BEGUN}", hint="remove the folder and run it anew")
    what = "was cut off before its first round, so there is nothing to read"
    return DataNotFoundError(f"{path}: {what}", hint="go on with `neulite-sim resume`")


def with_energy(run: StoredRun) -> StoredRun:
    """Return the run with the joules of its flights in its summary: those of older versions have none in theirs.

    They are None where the watts of a device are not known, and of a run without sums that has no flights any more.

    Raises:
        DataNotFoundError: flights.csv is damaged, or was there and is gone.
    """
    if "energy_j" in run.summary:
        return run
    found, powers = EnergyTally(), powers_in(run.scenario)
    require_kept(run.path, FILES[FlightRow])
    if not (run.path / FILES[FlightRow]).exists():
        found = EnergyTally.unknown()
    else:
        for cells in scan_columns(run.path / FILES[FlightRow], FlightRow):
            found.add_rows(FlightRows(cells), powers)
    energy = {"energy_j": found.energy_j, "wasted_energy_j": found.wasted_energy_j}
    return replace(run, summary={**run.summary, **energy})


def energy_until(run: StoredRun) -> Mapping[int, float] | None:
    """Return the joules of the flights of a run up to and with each round that had any.

    None where the watts of a device are not known, and of a run without sums that has no flights any more.

    Raises:
        DataNotFoundError: flights.csv is damaged, or was there and is gone.
    """
    require_kept(run.path, FILES[FlightRow])
    if not (run.path / FILES[FlightRow]).exists():
        return None
    powers, units = powers_in(run.scenario), Counter[int]()
    for cells in scan_columns(run.path / FILES[FlightRow], FlightRow):
        joules = joules_of_cells(cells, powers)
        if joules is None:
            return None
        # Whole numbers of units: sums of them are exact.
        rounds, first = np.unique(np.array(cells["round"], np.int64), return_inverse=True)
        for place, number in enumerate(rounds.tolist()):
            units[number] += units_of(joules[first == place])
    total, found = 0, {}
    for number in sorted(units):
        total += units[number]
        found[number] = total / PER_JOULE
    return found


def require_whole(path: Path, *names: str) -> None:
    """Check files of a run folder before they are read: those of a complete run against its sums.

    What says which run it is and what came of it is checked whatever is read. Of a run that was cut off, or still goes
    on, the scenario is checked alone: rows are still to come. Runs of older versions, which kept no sums, pass.

    Raises:
        DataNotFoundError: a file is gone or was changed, or something else stands in the place of one.
    """
    require_own(path)
    is_complete = (path / COMPLETE).exists()
    if is_complete and (path / SUMS).exists():
        check_sums(path, COMPLETE, PROVENANCE, SCENARIO, SUMMARY, *names)
        return
    made = provenance_of(path)
    if is_complete and SEAL in made:
        raise _damaged(path / SUMS, "is gone")
    wanted = made.get("scenario_sha256")
    if wanted is not None and wanted != sha256(_text(path / SCENARIO).encode()):
        raise _damaged(path / SCENARIO, "is not as it was written")


def require_kept(path: Path, *names: str) -> None:
    """Check files that not every run has: each must be whole where it stands, or where the run had it.

    Raises:
        DataNotFoundError: as `require_whole`.
    """
    require_whole(path, *kept_of(path, *names))


def kept_of(path: Path, *names: str) -> list[str]:
    """Return which of these files stand in a run folder, and which a complete run had, so that they should.

    Raises:
        DataNotFoundError: the sums of the run cannot be read.
    """
    had = names_with_sums(path) if (path / COMPLETE).exists() else frozenset[str]()
    return [name for name in names if name in had or what_stands(path / name) is not None]


def provenance_of(run_dir: Path) -> Mapping[str, Any]:
    """Return what the provenance of a run folder holds, whatever version wrote it; nothing where there is none.

    Raises:
        DataNotFoundError: it was changed, or cannot be read.
    """
    path = run_dir / PROVENANCE
    if not path.exists():
        return {}
    try:
        made = json.loads(_text(path))
    except (ValueError, RecursionError):
        made = None
    if not isinstance(made, dict) or (SEAL in made and not is_sealed(made)):
        raise _damaged(path, "is not as it was written")
    return made


def _damaged(path: Path, why: str) -> DataNotFoundError:
    return DataNotFoundError(f"{path}: {why}", hint="the file was changed or cut, so run the scenario again")


def _text(path: Path) -> str:
    try:
        return read_regular(path, most_bytes=TEXT_BYTES, follows_links=False).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None


def read_scenario(path: Path) -> Mapping[str, Any]:
    """Return the scenario of a run folder as plain values, whatever version wrote it.

    Raises:
        DataNotFoundError: the file is missing or damaged.
    """
    node, problems = read_yaml(_text(path), str(path))
    if node is None or problems or not isinstance(node.content, dict):
        raise _damaged(path, "holds no scenario")
    scenario: Mapping[str, Any] = node.plain()
    return scenario


def _summary(path: Path) -> Mapping[str, Any]:
    try:
        summary = json.loads(_text(path))
    except ValueError:
        summary = None
    if not isinstance(summary, dict):
        raise _damaged(path, "holds no summary")
    return summary


def _summary_of_rows(path: Path, scenario: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        kinds = {key: _kind(scenario[key]) for key in ("method", "selection", "model", "backend")}
        identity = Identity(name=scenario["name"], seed=scenario["seed"], dataset=_kind(scenario["data"]), **kinds)
        targets = [*scenario["evaluation"]["targets"], scenario["stop"]["target_accuracy"]]
        devices = int(scenario["population"]["devices"])
    except (KeyError, TypeError, ValueError):
        raise _damaged(path / SCENARIO, "lacks what a resolved scenario has") from None
    tally = Tally(np.zeros(devices, dtype=np.int64), targets=_ordered(targets), powers=powers_in(scenario))
    for row in scan_rows(path / FILES[RoundRow], RoundRow):
        tally.add(RoundRow(**row))
    for cells in scan_columns(path / FILES[FlightRow], FlightRow):
        _require_devices(path, cells["device"], devices)
        tally.add_flights(FlightRows(cells))
    summary = tally.summary(identity, participation_rate=0.0, proxy=None, wall_time_s=0.0, digest="")
    return summary | dict.fromkeys(_UNKNOWN_WITHOUT_SUMMARY)


def scan_flights(path: Path, *, num_devices: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of flights.csv of the run folder at `path`, each of one of so many devices.

    Raises:
        DataNotFoundError: the file is missing or damaged, or names another device.
    """
    for row in scan_rows(path / FILES[FlightRow], FlightRow):
        _require_devices(path, [row["device"]], num_devices)
        yield row


def _require_devices(path: Path, devices: Sequence[int], num_devices: int) -> None:
    for device in (min(devices), max(devices)):
        if not 0 <= device < num_devices:
            raise _damaged(path / FILES[FlightRow], f"names device {device}, but the scenario has {num_devices}")


def _kind(section: Any) -> str:
    return str(section["kind"] if isinstance(section, dict) else section)


def _ordered(targets: Sequence[float | None]) -> tuple[float, ...]:
    return tuple(sorted({target for target in targets if target is not None}))
