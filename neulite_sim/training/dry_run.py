"""Backend `dry-run`: time, memory and bytes only. Nothing is trained, so losses and accuracies are unknown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from neulite_sim.arrays import Integers
from neulite_sim.errors import SimulationError
from neulite_sim.methods.contract import LocalTask, Update
from neulite_sim.registry import Component, Options
from neulite_sim.training.contract import Backend, Payload, Workplace

if TYPE_CHECKING:
    from neulite_sim.training.evaluation import EvaluationResult


class DryRunOptions(Options):
    """`dry-run` has no options."""


class DryRun:
    """Returns empty updates."""

    trains = False

    def __init__(self) -> None:
        self._sizes: Integers = np.zeros(0, dtype=np.int64)
        self._tickets = 0
        self._tasks: dict[int, LocalTask] = {}

    def equip(self, workplace: Workplace) -> None:
        """Note how many samples each device owns."""
        self._sizes = workplace.partition.sizes

    def submit_training(self, task: LocalTask, payload: Payload, personal: Payload) -> int:
        """Note the task."""
        del payload, personal
        self._tickets += 1
        self._tasks[self._tickets] = task
        return self._tickets

    def submit_evaluation(self, name: str, tensors: Payload, devices: Integers | None = None, number: int = 0) -> int:
        """Refuse: there is nothing to test."""
        raise SimulationError("backend dry-run trains nothing, so there is no model to evaluate")

    def collect_update(self, ticket: int) -> Update:
        """Return an update without tensors; its loss is not a number."""
        task = self._tasks.pop(ticket)
        return Update(
            device=task.device,
            submodel=task.submodel,
            num_samples=int(self._sizes[task.device]),
            tensors={},
            loss=math.nan,
            version=task.version,
        )

    def collect_evaluation(self, ticket: int) -> EvaluationResult:
        """Refuse: there is nothing to test."""
        raise SimulationError("backend dry-run trains nothing, so there is no evaluation to collect")

    def discard(self, ticket: int) -> None:
        """Forget the task."""
        self._tasks.pop(ticket, None)

    def is_done(self, ticket: int) -> bool:
        """Return True: there is nothing to wait for."""
        del ticket
        return True

    def notices(self) -> list[str]:
        """Nothing happens to a backend without workers."""
        return []

    def close(self) -> None:
        """Forget what was never collected."""
        self._tasks.clear()


def _build(options: DryRunOptions) -> Backend:
    del options
    return DryRun()


COMPONENT = Component(
    kind="dry-run",
    summary="time, memory and bytes only; nothing is trained",
    source="this project",
    options=DryRunOptions,
    build=_build,
)
