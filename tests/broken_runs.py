"""Runs that are broken off, as a killed process is."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from neulite_sim.engine.resuming import find_cut_off, resume
from neulite_sim.engine.simulation import simulate
from neulite_sim.results.cells import FILES
from neulite_sim.results.rows import RoundRow
from neulite_sim.scenario.schema import Scenario


class Broken(BaseException):
    """The end of a process, as far as a test in the same process can have it."""


class BreakAfter:
    """An observer that ends the run when the row of a round, or of a later one, has been written."""

    def __init__(self, rounds: int = 3) -> None:
        self.rounds = rounds

    def notify(self, event: object) -> None:
        if isinstance(event, RoundRow) and event.round >= self.rounds:
            raise Broken


def broken_off(folder: Path, given: Scenario, *rounds: int) -> None:
    """Break a run off after each of `rounds`, taking it up again in between."""
    for number, last in enumerate(rounds):
        observers = [BreakAfter(last)]
        if number:
            run = find_cut_off(folder)
            with pytest.raises(Broken):
                resume(run, observers=observers)
            continue
        with pytest.raises(Broken):
            simulate(given, out=folder, observers=observers)
    assert not (folder / "COMPLETE").exists()


def tables(folder: Path) -> dict[str, Any]:
    """Return the rows of a run folder without what depends on the clock on the wall."""
    found: dict[str, Any] = {}
    for file in FILES.values():
        with (folder / file).open() as lines:
            rows = list(csv.DictReader(lines))
        found[file] = [{k: v for k, v in row.items() if k not in ("wall_time_s", "workers_replaced")} for row in rows]
    return {**found, "devices.csv": (folder / "devices.csv").read_bytes()}
