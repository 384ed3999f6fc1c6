"""Predicted and measured peaks of a scenario's submodels, side by side: what `--audit` prints and keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neulite_sim.engine.charging import build_trainee, own_training
from neulite_sim.engine.parts import Costing, trained_plan
from neulite_sim.machine import free_memory_bytes
from neulite_sim.models.contract import Blueprint
from neulite_sim.profiling.audit import audited
from neulite_sim.profiling.plans import Plan, plan_of
from neulite_sim.profiling.profile import profile
from neulite_sim.results.places import AUDIT
from neulite_sim.results.rows import Event, RunStarted
from neulite_sim.results.writing import write_whole
from neulite_sim.scenario.schema import Training
from neulite_sim.training.pinning import pinned_torch

HEADROOM = 2.0
"""A real step takes the tensors twice over: operators have workspaces, allocators keep what was freed."""

AuditRow = Mapping[str, Any]


@pinned_torch()
def audit_run(costing: Costing) -> list[AuditRow]:
    """Return a row per submodel of the method: of what is really trained, and of what is charged where it differs.

    With `training.fit: auto` there is a row for each plan by which somebody trains. Keys: `ledger` ("trained" or
    "charged"), `model`, `submodel`, `batch_size`, `plan` (empty where nobody chooses), `predicted_bytes`,
    `measured_bytes`, `relative_error` (measured over predicted, less one), `cuda_allocated_bytes` on a machine with
    CUDA, and `skipped`: why there is no measurement, else an empty text.

    Raises:
        SimulationError: this machine cannot train in the scenario's precision.
    """
    taken = [(submodel, plan) for submodel in costing.method.submodels for plan in _plans_of(costing, submodel)]
    trained = [(submodel, trained_plan(costing, plan)) for submodel, plan in taken]
    rows = _rows(costing, "trained", costing.trained, costing.trained_training, trained)
    if (costing.charged, costing.charged_training) != (costing.trained, costing.trained_training):
        rows += _rows(costing, "charged", costing.charged, costing.charged_training, taken)
    return rows


def _plans_of(costing: Costing, submodel: str) -> list[Plan]:
    """Return the plans by which somebody trains a submodel; the first of all where nobody does, or nobody chooses."""
    ledger = costing.ledger
    if not costing.chooses_plans:
        return [ledger.plans[0]]
    chosen = np.unique(ledger.chosen(submodel)[ledger.fits(submodel)])
    return [ledger.plans[index] for index in chosen.tolist()] or [ledger.plans[0]]


def _rows(
    costing: Costing, ledger: str, blueprint: Blueprint, training: Training, steps: Sequence[tuple[str, Plan]]
) -> list[AuditRow]:
    return [
        _row(costing, ledger, submodel, blueprint, own_training(costing.method, submodel, plan.applied(training)))
        for submodel, plan in dict.fromkeys(steps)
    ]


def _row(costing: Costing, ledger: str, submodel: str, blueprint: Blueprint, training: Training) -> AuditRow:
    how: dict[str, Any] = {
        "spec": blueprint.spec,
        "batch_size": training.batch_size,
        "training": training,
    }

    def build() -> Any:
        return build_trainee(costing.method, submodel, blueprint)

    predicted = profile(submodel, build, **how).memory.total
    row = {
        "ledger": ledger,
        "model": blueprint.name,
        "submodel": submodel,
        "batch_size": training.batch_size,
        "plan": plan_of(training).label if costing.chooses_plans else "",
        "predicted_bytes": predicted,
        "measured_bytes": None,
        "relative_error": None,
        "skipped": "",
    }
    free = free_memory_bytes()
    if free is not None and predicted * HEADROOM > free:
        return {**row, "skipped": f"this machine has {free} bytes free, and a real step may take {HEADROOM:g} times"}
    found = audited(build, **how)
    cuda = {} if found.cuda_allocated_bytes is None else {"cuda_allocated_bytes": found.cuda_allocated_bytes}
    error = found.tracked.total / predicted - 1
    return {**row, "measured_bytes": found.tracked.total, "relative_error": error, **cuda}


class AuditKeeper:
    """An observer that puts `audit.json` into the run folder as soon as there is one."""

    may_be_told_late = True

    def __init__(self, rows: Sequence[AuditRow]) -> None:
        self._rows = rows

    def notify(self, event: Event) -> None:
        """Write the file when the run starts; other events are passed over."""
        if isinstance(event, RunStarted) and event.run_dir is not None:
            text = json.dumps({"submodels": list(self._rows)}, indent=2) + "\n"
            write_whole(Path(event.run_dir) / AUDIT, text)
