"""What a run folder tells of one device: its row, its flights, and round by round why it was denied work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from neulite_sim.engine.denial_columns import DENIALS
from neulite_sim.engine.views import IN_FLIGHT, NO_DATA, OFFLINE
from neulite_sim.errors import DataNotFoundError, Problem, ScenarioError
from neulite_sim.methods.offering import OUT_OF_MEMORY
from neulite_sim.reports.device_presence import Drawn, Span, drawn_again
from neulite_sim.results.cells import DEVICES_CSV, DEVICES_PARQUET, FILES, scan_rows
from neulite_sim.results.device_rows import JOIN, device_row, find_devices
from neulite_sim.results.places import COMPLETE, SCENARIO
from neulite_sim.results.rows import DenialRow, FlightRow, RoundRow
from neulite_sim.results.stored import find_runs, kept_of, read_scenario, require_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A round in which a device was denied work; `submodel` and `shortfall_bytes` where it lacked memory for it."""

    round: int
    reason: str
    submodel: str = ""
    shortfall_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One device of a run.

    `row` is that of `devices.csv`; None in folders without one. `refusals` and `online` are None where the files do not
    tell; `drawn` is the device as the scenario draws it today, None where it does not. `missing` says what is not
    known, a sentence each. `end_s` is the virtual time that the rows reach.
    """

    run_dir: Path
    device: int
    scenario: Mapping[str, Any]
    is_complete: bool
    num_rounds: int
    end_s: float
    row: Mapping[str, Any] | None
    flights: tuple[FlightRow, ...]
    refusals: tuple[Refusal, ...] | None
    online: tuple[Span, ...] | None
    drawn: Drawn | None
    missing: tuple[str, ...]

    @property
    def num_devices(self) -> int:
        """Size of the fleet."""
        return int(self.scenario["population"]["devices"])

    @property
    def is_counted(self) -> bool:
        """Whether the row holds what was counted in the course of the run."""
        return self.row is not None and self.row["flights"] is not None

    @property
    def needed_bytes(self) -> Mapping[str, int]:
        """The peak of each submodel on this device."""
        return {} if self.row is None else needed_of(self.row)


def needed_of(row: Mapping[str, Any]) -> Mapping[str, int]:
    """Return the peak memory of each submodel that a row of a device names.

    Raises:
        DataNotFoundError: the cell is not what a run writes.
    """
    try:
        pairs = [pair.rpartition("=") for pair in row["needed_memory_bytes"].split(JOIN) if pair]
        return {name: int(num_bytes) for name, _, num_bytes in pairs}
    except ValueError:
        found = row["needed_memory_bytes"]
        raise DataNotFoundError(f"needed_memory_bytes is {found!r}; the file was changed") from None


def read_history(run_dir: Path, device: int) -> History:
    """Return the history of a device.

    Raises:
        ScenarioError: the fleet has no such device.
        DataNotFoundError: the folder is none of a run, or one of its files is missing or damaged.
    """
    if not (run_dir / SCENARIO).is_file():
        find_runs(run_dir)  # Says what is wrong with the path, if anything is.
        raise DataNotFoundError(f"{run_dir}: holds several runs", hint="name the folder of one")
    require_whole(run_dir, *FILES.values(), *kept_of(run_dir, DEVICES_CSV, DEVICES_PARQUET))
    devices = find_devices(run_dir)
    scenario = read_scenario(run_dir / SCENARIO)
    _require_device(scenario, device, run_dir)
    row = device_row(devices, device) if devices else None
    rounds = list(scan_rows(run_dir / FILES[RoundRow], RoundRow, names=("round", "virtual_time_s")))
    cells = scan_rows(run_dir / FILES[FlightRow], FlightRow, having={"device": device})
    flights = tuple(sorted((FlightRow(**each) for each in cells), key=lambda flight: flight.flight))
    looks_s = _looks_s(run_dir / FILES[FlightRow])
    end_s = max([0.0, *(each["virtual_time_s"] for each in rounds[-1:]), *(flight.ended_s for flight in flights)])
    is_complete = (run_dir / COMPLETE).exists()
    drawn = drawn_again(run_dir / SCENARIO, device, end_s)
    if isinstance(drawn, Drawn) and row and row["available_memory_bytes"] != drawn.available_memory_bytes:
        drawn = "its scenario gives another fleet today"
    online = drawn.spans if isinstance(drawn, Drawn) else None
    refusals = _refusals(run_dir / FILES[DenialRow], row, flights, looks_s, online) if row else None
    return History(
        run_dir=run_dir,
        device=device,
        scenario=scenario,
        is_complete=is_complete,
        num_rounds=len(rounds),
        end_s=end_s,
        row=row,
        flights=flights,
        refusals=refusals,
        online=online,
        drawn=drawn if isinstance(drawn, Drawn) else None,
        missing=(*_missing(row, is_complete=is_complete), *_missing_times(drawn)),
    )


def _require_device(scenario: Mapping[str, Any], device: int, run_dir: Path) -> None:
    try:
        count = int(scenario["population"]["devices"])
    except (KeyError, TypeError, ValueError):
        raise DataNotFoundError(f"{run_dir / SCENARIO}: lacks what a resolved scenario has") from None
    if not 0 <= device < count:
        finding = f"{device} is no device of {run_dir}, which has {count}"
        raise ScenarioError([Problem.advising(key="DEVICE", found=finding, hint=f"name one from 0 to {count - 1}")])


def _missing(row: Mapping[str, Any] | None, *, is_complete: bool) -> list[str]:
    if row is None:
        why = "an older version made it" if is_complete else "it was made by an older version, or is very large"
        return [f"The folder has no devices.csv ({why}): what fits it, and when it was denied work, is not known."]
    if row["flights"] is None:
        return ["The run still goes on or was killed: rounds in which it was denied work are counted when a run ends."]
    if not is_complete:
        return ["The run was cut off: all is as it was then."]
    return []


def _missing_times(drawn: Drawn | str) -> list[str]:
    if isinstance(drawn, str):
        return [f"When it was online is not known: {drawn}."]
    return ["When it was online is not shown: it came and went too often."] if drawn.spans is None else []


def _looks_s(path: Path) -> Sequence[float]:
    """Return by number of aggregations before it when the latest dispatch was: what round r saw is at r - 1."""
    latest: dict[int, float] = {}
    for cells in scan_rows(path, FlightRow, names=("version", "dispatched_s")):
        version, at_s = cells["version"], cells["dispatched_s"]
        latest[version] = max(at_s, latest.get(version, at_s))
    return list(accumulate((latest.get(version, 0.0) for version in range(max(latest, default=-1) + 1)), max))


def _refusals(
    path: Path,
    row: Mapping[str, Any],
    flights: Sequence[FlightRow],
    looks_s: Sequence[float],
    online: Sequence[Span] | None,
) -> tuple[Refusal, ...] | None:
    """Return the rounds in which a device was denied work, told from when the server looked.

    None where they do not come to what was counted: memory that moves, or reasons of a method of others.
    """
    if row["denied_rounds"] is None or row["lowest_memory_bytes"] is not None:
        return None
    needed, found, seen = needed_of(row), list[Refusal](), dict[int, dict[str, str]]()
    for denial in scan_rows(path, DenialRow, names=("round", "reason", "submodel")):
        seen.setdefault(denial["round"], {})[denial["reason"]] = denial["submodel"]
    for number, reasons in seen.items():
        if not looks_s:
            return None
        look_s = looks_s[min(number, len(looks_s)) - 1]
        reason = _reason(row, flights, look_s, online)
        submodel = reasons.get(OUT_OF_MEMORY, "")
        lacks = needed.get(submodel, 0) - row["available_memory_bytes"]
        if not reason and lacks > 0:
            found.append(Refusal(round=number, reason=OUT_OF_MEMORY, submodel=submodel, shortfall_bytes=lacks))
        elif reason in reasons:
            found.append(Refusal(round=number, reason=reason))
    counted = {reason: row[column] for reason, column in DENIALS.items() if row[column]}
    return tuple(found) if Counter(each.reason for each in found) == counted and not row["denied_other"] else None


def _reason(row: Mapping[str, Any], flights: Sequence[FlightRow], look_s: float, online: Sequence[Span] | None) -> str:
    """Return why a device could not even be asked at a moment; an empty text where it could."""
    if not row["samples"]:
        return NO_DATA
    if online is not None and not any(start_s <= look_s < end_s for start_s, end_s in online):
        return OFFLINE
    return IN_FLIGHT if any(flight.dispatched_s < look_s < flight.ended_s for flight in flights) else ""
