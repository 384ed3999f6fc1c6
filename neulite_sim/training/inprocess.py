"""Backend `inprocess`: one worker in the driver itself, each task run when it is collected.

Nothing waits in memory but the payloads in use, so it is the backend of small machines, debuggers and single GPUs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from neulite_sim.arrays import Integers
from neulite_sim.errors import BackendUnavailableError, SimulationError
from neulite_sim.later import torch
from neulite_sim.methods.contract import LocalTask, Update
from neulite_sim.registry import Component
from neulite_sim.training.allocator import give_back_freed_memory
from neulite_sim.training.contract import Backend, Payload, WorkerOptions, Workplace

if TYPE_CHECKING:
    from neulite_sim.training.evaluation import EvaluationResult
    from neulite_sim.training.worker import Worker


class InProcessOptions(WorkerOptions):
    """Options of `inprocess`."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where PyTorch computes. Only the CPU promises the same bits again."""


class InProcess:
    """Runs each task in the calling thread when its result is asked for."""

    trains = True

    def __init__(self) -> None:
        self._threads_before = torch.get_num_threads()
        self._worker: Worker | None = None
        self._tickets = 0
        self._tasks: dict[int, tuple[LocalTask, Payload, Payload]] = {}
        self._evaluations: dict[int, tuple[str, Payload, Integers | None]] = {}

    def equip(self, workplace: Workplace) -> None:
        """Set up the worker."""
        from neulite_sim.training.worker import Worker

        self._worker = Worker(workplace)

    def submit_training(self, task: LocalTask, payload: Payload, personal: Payload) -> int:
        """Keep the task until it is collected."""
        self._tickets += 1
        self._tasks[self._tickets] = (task, payload, personal)
        return self._tickets

    def submit_evaluation(self, name: str, tensors: Payload, devices: Integers | None = None) -> int:
        """Keep the model until its evaluation is collected."""
        self._tickets += 1
        self._evaluations[self._tickets] = (name, tensors, devices)
        return self._tickets

    def collect_update(self, ticket: int) -> Update:
        """Train now."""
        assert self._worker is not None, "equip comes before the first task"
        task, payload, personal = self._tasks.pop(ticket)
        try:
            return self._worker.train(task, payload, personal)
        except (RuntimeError, ValueError) as cause:
            raise SimulationError(
                f"local training failed in flight {task.flight} (device {task.device}, {task.submodel}): {cause}"
            ) from cause

    def collect_evaluation(self, ticket: int) -> EvaluationResult:
        """Test now."""
        assert self._worker is not None, "equip comes before the first task"
        name, tensors, devices = self._evaluations.pop(ticket)
        try:
            return self._worker.evaluate(name, tensors, devices)
        except (RuntimeError, ValueError) as cause:
            raise SimulationError(f"evaluation of the global model ({name}) failed: {cause}") from cause

    def discard(self, ticket: int) -> None:
        """Forget the task."""
        self._tasks.pop(ticket, None)

    def is_done(self, ticket: int) -> bool:
        """Return True: work happens when it is collected, so nothing is gained by waiting."""
        del ticket
        return True

    def notices(self) -> list[str]:
        """Nothing can happen to a worker in the same process."""
        return []

    def close(self) -> None:
        """Forget what was never collected, and give PyTorch its threads back."""
        self._tasks.clear()
        self._evaluations.clear()
        torch.set_num_threads(self._threads_before)
        self._worker = None
        give_back_freed_memory()


def _build(options: InProcessOptions) -> Backend:
    if options.device == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailableError(
            "backend.device is 'cuda' but PyTorch finds no CUDA device here",
            hint="use backend.device: cpu, or install a CUDA build of torch",
        )
    return InProcess()


COMPONENT = Component(
    kind="inprocess",
    summary="one worker in the driver process; no Ray",
    source="this project",
    options=InProcessOptions,
    build=_build,
)
