"""Run folders as a run leaves them, with numbers that a test writes down."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from tiny_scenarios import tiny

from neulite_sim.results.folder import RunFolder
from neulite_sim.results.provenance import provenance
from neulite_sim.results.rows import NOTHING, PERPLEXITY, Asked, FlightRow, RoundRow, Row
from neulite_sim.results.seals import sealed
from neulite_sim.results.stored import StoredRun, read_run
from neulite_sim.results.summary import Identity, Tally
from neulite_sim.results.writing import as_json
from neulite_sim.scenario.loading import dump_scenario
from neulite_sim.scenario.schema import Scenario


def resealed(path: Path, **changes: Any) -> None:
    """Change a sealed file of a run folder as somebody who knows the seal would."""
    path.write_text(as_json(sealed({**json.loads(path.read_text()), **changes})))


def round_row(number: int, second: float, accuracy: float | None, **changes: Any) -> RoundRow:
    usual = RoundRow(
        round=number, virtual_time_s=second, stage="full", online=6, offered=6, selected=1, arrived=1, dropped=0,
        discarded=0, denied=0, staleness_mean=0.0, train_loss=1.0, test_loss=None, test_accuracy=accuracy, learning_rate=0.1, bytes_down=100,
        bytes_up=50, peak_memory_bytes=2_000_000, skipped_terms=0, workers_replaced=0, wall_time_s=0.1,
    )  # fmt: skip
    return replace(usual, **changes)


def flight_row(number: int, second: float, device: int = 0, **changes: Any) -> FlightRow:
    usual = FlightRow(
        flight=number, round=number, device=device, device_class="x", submodel="full", version=number - 1,
        dispatched_s=0.0, download_s=1.0, compute_s=1.0, upload_s=1.0, waiting_s=0.0, ended_s=second, outcome="arrived",
        reason="", pauses="", staleness=0, peak_memory_bytes=2_000_000,
        batch_size=5, available_memory_bytes=3_000_000, samples=10, bytes_down=100, bytes_up=50, loss=1.0,
    )  # fmt: skip
    return replace(usual, **changes)


def write_run(
    path: Path,
    curve: Sequence[tuple[float, float | None]] = ((10.0, 0.4), (20.0, 0.6), (30.0, 0.8)),
    *overrides: str,
    rate: float = 1.0,
    proxy: str | None = None,
    is_complete: bool = True,
    perplexities: Sequence[float | None] = (),
) -> StoredRun:
    """Write a run of the tiny scenario with a round and a flight per pair of second and accuracy, and read it back.

    With `perplexities`, one a round, it is one whose rounds have a column of them.
    """
    rows = [
        row
        for number, ((second, accuracy), perplexity) in enumerate(zip_longest(curve, perplexities), start=1)
        for row in (
            flight_row(number, second),
            round_row(number, second, accuracy, test_perplexity=perplexity),
        )
    ]
    asked = frozenset({PERPLEXITY}) if perplexities else NOTHING
    return write_rows(path, rows, *overrides, rate=rate, proxy=proxy, is_complete=is_complete, asked=asked)


def write_rows(
    path: Path,
    rows: Iterable[Row],
    *overrides: str,
    rate: float = 1.0,
    proxy: str | None = None,
    is_complete: bool = True,
    files: Mapping[str, str] | None = None,
    asked: Asked = NOTHING,
    **made: Any,
) -> StoredRun:
    """Write a run of the tiny scenario with these rows and files, and with this in its provenance; read it back."""
    scenario = tiny(*overrides)
    folder = RunFolder.create(path, name="tiny", seed=scenario.seed, scenario_yaml=dump_scenario(scenario),
                              provenance={**provenance(scenario, []), **made}, asked=asked)  # fmt: skip
    tally = Tally([10] * scenario.population.devices, targets=scenario.evaluation.targets)
    for name, text in (files or {}).items():
        (path / name).write_text(text, encoding="utf-8")
    with folder:
        for row in rows:
            folder.write(row)
            tally.add(row)
        if is_complete:
            summary = tally.summary(_identity(scenario), participation_rate=rate, proxy=proxy, wall_time_s=1.0,
                                    digest="d" * 64)  # fmt: skip
            folder.finish(summary, {"weight": torch.zeros(1)})
    return read_run(path)


def _identity(scenario: Scenario) -> Identity:
    kinds: dict[str, Any] = {name: getattr(scenario, name).kind for name in ("method", "selection", "model", "backend")}
    return Identity(name=scenario.name, seed=scenario.seed, dataset=scenario.data.kind, **kinds)
