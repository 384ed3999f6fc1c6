"""Run folders with a timeline that a test writes down: rounds and flights, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neulite_sim.results.cells import column_types
from neulite_sim.results.folder import RunFolder
from neulite_sim.results.rows import FlightRow, RoundRow

_USUAL: dict[type, Any] = {int: 1, float: 0.5, str: ""}


def flight(
    number: int, round_number: int, device: int, start_s: float, phases: tuple[float, float, float], **cells: Any
) -> FlightRow:
    """Return a flight of device class `a` that arrived, but for what `cells` say."""
    names = dict(zip(("download_s", "compute_s", "upload_s"), phases, strict=True))
    given = {
        "device_class": "a",
        "outcome": "arrived",
        "waiting_s": 0.0,
        "ended_s": start_s + sum(phases) + cells.get("waiting_s", 0.0),
    }
    usual = {name: _USUAL[kind] for name, (kind, _) in column_types(FlightRow).items()}
    own = {"flight": number, "round": round_number, "device": device, "dispatched_s": start_s}
    return FlightRow(**{**usual, **own, **names, **given, **cells})


def aggregation(number: int, second: float, stage: str = "full") -> RoundRow:
    """Return the row of a round that was aggregated at a second."""
    usual = {name: _USUAL[kind] for name, (kind, _) in column_types(RoundRow).items()}
    return RoundRow(**{**usual, "round": number, "virtual_time_s": second, "stage": stage})


def write_rows(
    path: Path, flights: Sequence[FlightRow], rounds: Sequence[RoundRow], *, is_complete: bool = True
) -> Path:
    """Write a run folder with these rows and return its path."""
    with RunFolder.create(path, name="rows", seed=1, scenario_yaml="name: rows\n", provenance={}) as folder:
        for row in (*flights, *rounds):
            folder.write(row)
        if is_complete:
            folder.finish({"digest": "d"}, None)
    return path


def two_rounds(path: Path, *, is_complete: bool = True) -> Path:
    """Write two rounds of three devices of two classes; the second round waits for device 7, which paused.

    Round 1 (0 to 10 s): device 2 of class b takes 4 s, device 7 of class a 10 s, device 3 of class b drops at 1 s.
    Round 2 (10 to 34 s): device 7 takes 10 s and waits for 14 s from 15 s on; device 2 takes 4 s.
    """
    reason = {"outcome": "dropped", "reason": "went offline during download"}
    flights = [
        flight(3, 1, 3, 0.0, (1.0, 0.0, 0.0), device_class="b", **reason),
        flight(1, 1, 2, 0.0, (1.0, 2.0, 1.0), device_class="b"),
        flight(2, 1, 7, 0.0, (2.0, 6.0, 2.0)),
        flight(5, 2, 2, 10.0, (1.0, 2.0, 1.0), device_class="b"),
        flight(4, 2, 7, 10.0, (2.0, 6.0, 2.0), waiting_s=14.0, pauses="15.0-29.0"),
    ]
    rounds = [aggregation(1, 10.0, "stage-1"), aggregation(2, 34.0, "stage-2")]
    return write_rows(path, flights, rounds, is_complete=is_complete)
