"""A run folder, read once from start to end and added up for a page: who flew, why others did not, where time went.

Rows are streamed: what is kept grows with the rounds and with a byte or two per device, never with the flights.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from neulite_sim.arrays import Floats, Integers
from neulite_sim.errors import DataNotFoundError, NeuliteError
from neulite_sim.outside import what_stands
from neulite_sim.reports.html.wording import count
from neulite_sim.reports.measures import MEASURES, Measure
from neulite_sim.reports.timeline_table import PHASES
from neulite_sim.results.cells import FILES, scan_rows
from neulite_sim.results.places import PROVENANCE
from neulite_sim.results.provenance import read_provenance
from neulite_sim.results.rows import DenialRow, RoundRow
from neulite_sim.results.stored import StoredRun, read_run, require_whole, scan_flights, with_energy

ARRIVED = "arrived"
SPENT = (*PHASES, "idle")
MOST_BINS = 40
_COUNTS = ("online", "offered", "selected", "arrived", "dropped", "denied", "bytes_down", "bytes_up")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """The rounds of a run as columns, and of every test its round, second, bytes so far and what it found."""

    number: Integers
    end_s: Floats
    stages: Sequence[str]
    counts: Mapping[str, Integers]
    tests: Mapping[Measure, Sequence[tuple[int, float, int, float]]]

    def bins(self) -> list[slice]:
        """Return at most `MOST_BINS` runs of consecutive rounds, equally many in each but the last."""
        step = max(1, -(-len(self.number) // MOST_BINS))
        return [slice(first, min(first + step, len(self.number))) for first in range(0, len(self.number), step)]


@dataclass(slots=True, kw_only=True)
class Flown:
    """What flights add up to."""

    num_rounds: int
    new_devices: Integers
    """Per round, devices of which a flight arrived for the first time."""
    new_samples: Integers
    spent_by_round: Floats
    """Per round and part of `SPENT`, seconds of the flights that ended in it."""
    took_part: Any
    spent_by_class: dict[str, Floats] = field(default_factory=dict)
    """Of the flights of rounds, seconds of each part of `SPENT`."""
    flights_by_class: Counter[str] = field(default_factory=Counter)
    num_beyond: int = 0
    """Flights of no round, as the run ended before theirs."""
    classes: set[str] = field(default_factory=set)
    """Of all flights."""
    reasons: Counter[str] = field(default_factory=Counter)
    peaks: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of each submodel that flew, the smallest and the largest peak in bytes."""
    flights_by_submodel: Counter[str] = field(default_factory=Counter)
    seen_memory: dict[int, int] = field(default_factory=dict)
    """Available bytes of some devices at a dispatch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStory:
    """All of a run that a page says."""

    run: StoredRun
    rounds: Rounds
    flown: Flown
    denials: Mapping[str, Integers]
    """Per reason, devices in each round."""
    shortfalls: Mapping[str, tuple[int, int]]
    """Per submodel that was denied for memory, the smallest and the largest number of missing bytes."""
    provenance: Mapping[str, Any]

    def beyond(self, what: str) -> str:
        """Return in words how many flights are of no round, and what of it, to follow a caption; "" without any."""
        number = self.flown.num_beyond
        return f" When the run ended, {count(number, 'flight')} had not come to a round. {what}" if number else ""


def read_story(path: Path) -> RunStory:
    """Return the story of the run in a folder.

    Raises:
        DataNotFoundError: a file of the folder is missing or damaged, or the run has no round yet.
    """
    require_whole(path, *FILES.values())
    run = with_energy(read_run(path))
    rounds = read_rounds(path)
    if not len(rounds.number) and not run.is_complete:
        raise DataNotFoundError(
            f"{path}: no round was aggregated (yet), so there is nothing to report",
            hint="wait for the first round, or go on with `neulite-sim resume`",
        )
    flown = _flown(path, rounds, num_devices=num_devices_of(run))
    denials, shortfalls = _denials(path, rounds)
    return RunStory(
        run=run, rounds=rounds, flown=flown, denials=denials, shortfalls=shortfalls, provenance=_provenance(path)
    )


def _provenance(path: Path) -> Mapping[str, Any]:
    """Return where a run comes from; nothing where it does not say."""
    if what_stands(path / PROVENANCE) is None:
        return {}
    try:
        return read_provenance(path, takes_older=True)
    except NeuliteError as error:
        raise DataNotFoundError(error.what, hint=error.hint) from None


def num_devices_of(run: StoredRun) -> int:
    """Return how many devices the scenario of a run has; 0 where it does not say."""
    try:
        return int(run.scenario["population"]["devices"])
    except (KeyError, TypeError, ValueError):
        return 0


def read_rounds(path: Path) -> Rounds:
    """Return the rounds of a run.

    Raises:
        DataNotFoundError: rounds.csv is missing or damaged.
    """
    numbers, ends_s, stages = [], [], []
    counts: dict[str, list[int]] = {name: [] for name in _COUNTS}
    tests: dict[Measure, list[tuple[int, float, int, float]]] = {measure: [] for measure in MEASURES}
    moved = 0
    for row in scan_rows(path / FILES[RoundRow], RoundRow):
        numbers.append(row["round"])
        ends_s.append(row["virtual_time_s"])
        stages.append(row["stage"])
        for name, cells in counts.items():
            cells.append(row[name])
        moved += row["bytes_down"] + row["bytes_up"]
        for measure, found in tests.items():
            value = row.get(measure.column)
            if value is not None and math.isfinite(value):
                found.append((row["round"], row["virtual_time_s"], moved, value))
    return Rounds(
        number=np.array(numbers, np.int64),
        end_s=np.array(ends_s, np.float64),
        stages=stages,
        counts={name: np.array(cells, np.int64) for name, cells in counts.items()},
        tests=tests,
    )


def _flown(path: Path, rounds: Rounds, *, num_devices: int) -> Flown:
    place_of = {int(number): place for place, number in enumerate(rounds.number)}
    num_rounds = len(rounds.number)
    found = Flown(
        num_rounds=num_rounds,
        new_devices=np.zeros(num_rounds, np.int64),
        new_samples=np.zeros(num_rounds, np.int64),
        spent_by_round=np.zeros((num_rounds, len(SPENT))),
        took_part=np.zeros(num_devices, np.bool_),
    )
    for row in scan_flights(path, num_devices=num_devices):
        place = place_of.get(row["round"])
        _add(found, row, place, None if place is None else float(rounds.end_s[place]))
    return found


def _add(found: Flown, row: Mapping[str, Any], place: int | None, end_s: float | None) -> None:
    """Add a flight that ended in the round at `place`; one that was cut at the end of a run has none."""
    found.classes.add(row["device_class"])
    submodel, peak = row["submodel"], row["peak_memory_bytes"]
    least, most = found.peaks.get(submodel, (peak, peak))
    found.peaks[submodel] = min(least, peak), max(most, peak)
    found.flights_by_submodel[submodel] += 1
    if len(found.seen_memory) < 1000:
        found.seen_memory.setdefault(row["device"], row["available_memory_bytes"])
    if row["outcome"] != ARRIVED:
        found.reasons[row["reason"] or row["outcome"]] += 1
    if place is None or end_s is None:
        found.num_beyond += 1
        return
    if row["outcome"] == ARRIVED and not found.took_part[row["device"]]:
        found.took_part[row["device"]] = True
        found.new_devices[place] += 1
        found.new_samples[place] += row["samples"]
    spent = np.array([*(row[f"{phase}_s"] for phase in PHASES), max(0.0, end_s - row["ended_s"])])
    found.spent_by_round[place] += spent
    kind = row["device_class"]
    found.spent_by_class[kind] = found.spent_by_class.get(kind, 0.0) + spent
    found.flights_by_class[kind] += 1


def _denials(path: Path, rounds: Rounds) -> tuple[dict[str, Integers], dict[str, tuple[int, int]]]:
    place_of = {int(number): place for place, number in enumerate(rounds.number)}
    found: dict[str, Integers] = {}
    shortfalls: dict[str, tuple[int, int]] = {}
    for row in scan_rows(path / FILES[DenialRow], DenialRow):
        place = place_of.get(row["round"])
        if place is None:
            continue
        if row["reason"] not in found:
            found[row["reason"]] = np.zeros(len(rounds.number), np.int64)
        found[row["reason"]][place] += row["devices"]
        low, high = row["shortfall_bytes_min"], row["shortfall_bytes_max"]
        if row["submodel"] and low is not None and high is not None:
            least, most = shortfalls.get(row["submodel"], (low, high))
            shortfalls[row["submodel"]] = min(least, low), max(most, high)
    return found, shortfalls
