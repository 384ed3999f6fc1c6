"""Runs on sequences of tokens come out alike on Ray and in process, taken up again or not, perplexity included."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from broken_runs import broken_off, tables
from ray_pools import cluster, lent_pools

from neulite_sim.engine.resuming import find_cut_off, resume
from neulite_sim.engine.simulation import simulate
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.scenario.schema import Scenario

pytestmark = pytest.mark.slow

TEXT: Mapping[str, Any] = {
    "name": "text",
    "seed": 3,
    "data": {"kind": "synthetic-text", "samples": 60, "test_samples": 12, "sequence_length": 12, "authors": 6,
             "partition": {"kind": "natural"}},
    "model": {"kind": "gpt", "dim": 16, "heads": 2, "depth": 2},
    "training": {"epochs": 1, "batch_size": 4, "learning_rate": 0.1},
    "population": {"devices": 6, "groups": [{"device": "raspberry-pi-4-2gb", "share": 1}], "speed_jitter": 0.2,
                   "available_memory": {"kind": "explicit", "values": ["50kB", *["9MB"] * 5]}},
    "method": {"kind": "lora", "ranks": [2]},
    "selection": {"kind": "uniform", "devices_per_round": 3},
    "checkpoint": {"every_rounds": 2},
    "evaluation": {"every_rounds": 1},
    "stop": {"rounds": 5},
}  # fmt: skip


def text(backend: str) -> Scenario:
    return parse_scenario(TEXT, [f"backend={backend}"])


@pytest.fixture(scope="module", autouse=True)
def _actors() -> Iterator[None]:
    with cluster(), lent_pools():
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, Any]]:
    """The folder and the summary of the run in process."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, simulate(text("inprocess"), out=folder).summary


def test_two_actors_give_the_text_run_of_this_process(tmp_path: Path, whole: tuple[Path, Mapping[str, Any]]) -> None:
    folder, summary = whole
    found = simulate(text("{kind: ray, workers: 2}"), out=tmp_path / "run")
    assert found.summary["digest"] == summary["digest"]
    assert tables(tmp_path / "run") == tables(folder)
    rounds = found.rounds
    assert [row["test_perplexity"] for row in rounds] == [math.exp(row["test_loss"]) for row in rounds]
    assert found.summary["final_perplexity"] == summary["final_perplexity"] == rounds[-1]["test_perplexity"]


@pytest.mark.parametrize("backend", ["{kind: ray, workers: 2}", "inprocess"])
def test_a_text_run_that_was_cut_off_ends_as_an_unbroken_one(
    tmp_path: Path, whole: tuple[Path, Mapping[str, Any]], backend: str
) -> None:
    folder, summary = whole
    broken_off(tmp_path / "run", text(backend), 3)
    found = resume(find_cut_off(tmp_path / "run")).summary
    assert found["digest"] == summary["digest"]
    assert tables(tmp_path / "run") == tables(folder)
    for name in ("final_perplexity", "best_perplexity"):
        assert found[name] == summary[name]
