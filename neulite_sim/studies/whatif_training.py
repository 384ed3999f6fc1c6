"""Accuracy at each budget from real runs: a scenario file and a run folder per budget and entrant, as a sweep has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neulite_sim.population.memory.distributions import ExplicitOptions
from neulite_sim.population.sampling import build_population
from neulite_sim.registry import Choice, component
from neulite_sim.results.places import COMPLETE
from neulite_sim.results.stored import read_run
from neulite_sim.scenario.schema import Scenario
from neulite_sim.studies.sweeps import PlannedRun, plan_written
from neulite_sim.studies.whatif import Budgets, Entrant
from neulite_sim.units import format_bytes

LEARNED = ("final_accuracy", "tail_accuracy", "time_to_accuracy_s")
OF_TOKENS = "final_perplexity"

Key = tuple[str, float]
"""A variant and a value of the budgets."""


def budgeted(scenario: Scenario, budgets: Budgets, value: float) -> Scenario:
    """Return a scenario whose devices have a budget of the study, one number each; `memory` stands still then."""
    population = scenario.population
    own_bytes = build_population(population, scenario.seed).available_memory_bytes
    values = tuple(budgets.memory_bytes(value, own_bytes).tolist())
    changes: dict[str, Any] = {
        "available_memory": Choice("explicit", ExplicitOptions(values=values)),
        "groups": tuple(group.model_copy(update={"available_memory": None}) for group in population.groups),
    }
    if budgets.kind == "memory":
        constant = component("memory_motion", "constant")
        changes["memory_motion"] = Choice("constant", constant.options())
    return scenario.model_copy(update={"population": population.model_copy(update=changes)})


def planned_runs(entrants: Sequence[Entrant], budgets: Budgets, *, out: Path) -> dict[Key, PlannedRun]:
    """Write the scenario of every entrant at every budget into a folder, and return the runs they are for.

    Raises:
        OutputError: the folder cannot be written, or holds runs of other scenarios.
    """
    runs: dict[Key, PlannedRun] = {}
    for entrant in entrants:
        for value in budgets.values:
            scenario = budgeted(entrant.scenario, budgets, value)
            name = f"{_slug(entrant.variant)}-{_budget_slug(budgets, value)}-{scenario.seed}"
            runs[entrant.variant, value] = plan_written(scenario, name, out=out)
    return runs


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")


def _budget_slug(budgets: Budgets, value: float) -> str:
    if budgets.kind == "scale":
        return f"scale-{value:g}"
    return f"{'cap-' if budgets.kind == 'cap' else ''}{_slug(format_bytes(value)).replace('-', '')}"


def with_learning(report: Mapping[str, Any], budgets: Budgets, runs: Mapping[Key, PlannedRun]) -> dict[str, Any]:
    """Return a study with what its runs learned in its rows; None where nobody could train, or the run failed."""
    found = [
        (row, runs[row["variant"], row["scale"] if budgets.kind == "scale" else row["budget_bytes"]])
        for row in report["rows"]
    ]
    summaries = [read_run(run.folder).summary if (run.folder / COMPLETE).exists() else {} for _, run in found]
    keys = (*LEARNED, *([OF_TOKENS] if any(OF_TOKENS in summary for summary in summaries) else []))
    rows = [
        {**row, **{key: summary.get(key) for key in keys}, "run_dir": str(run.folder)}
        for (row, run), summary in zip(found, summaries, strict=True)
    ]
    return {**report, "rows": rows}
