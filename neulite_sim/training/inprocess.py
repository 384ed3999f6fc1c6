"""Backend `inprocess`: workers in the driver itself, one unless more are asked for.

One worker does each task when it is collected. Nothing waits in memory but the payloads in use, so it is the backend of
small machines, debuggers and single GPUs. Several are threads (`crew.py`) that train ahead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from neulite_sim.arrays import Integers
from neulite_sim.bounds import ThreadCount
from neulite_sim.errors import BackendUnavailableError, SimulationError
from neulite_sim.later import torch
from neulite_sim.machine import usable_processors
from neulite_sim.methods.contract import LocalTask, Update
from neulite_sim.registry import Component, refusal
from neulite_sim.training.allocator import give_back_freed_memory
from neulite_sim.training.contract import Backend, Payload, WorkerOptions, Workplace

if TYPE_CHECKING:
    from neulite_sim.training.crew import Crew, Single
    from neulite_sim.training.evaluation import EvaluationResult


class InProcessOptions(WorkerOptions):
    """Options of `inprocess`."""

    workers: ThreadCount | Literal["auto"] = 1
    """Threads that train beside each other, each with `threads_per_worker` threads of PyTorch; `auto` is as many as the
    processors hold. Results are the same for any number."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where PyTorch computes. Only the CPU promises the same bits again."""

    @model_validator(mode="after")
    def _one_worker_computes_on_a_gpu(self) -> InProcessOptions:
        if self.device == "cuda" and self.workers != 1:
            raise refusal("acts only with device cpu: one worker fills a GPU; remove it", "workers", given=self.workers)
        return self

    @property
    def num_workers(self) -> int:
        """How many workers there are on this machine."""
        if self.workers != "auto":
            return self.workers
        return max(1, usable_processors() // self.threads_per_worker)


class InProcess:
    """Runs tasks in this process."""

    trains = True

    def __init__(self, num_workers: int = 1) -> None:
        self._num_workers = num_workers
        self._threads_before = torch.get_num_threads()
        self._workers: Crew | Single | None = None
        self._tickets = 0
        self._tasks: dict[int, LocalTask] = {}
        self._tested: dict[int, str] = {}
        self._latest_version = 0

    def equip(self, workplace: Workplace) -> None:
        """Set up the workers."""
        from neulite_sim.training.crew import Crew, Single

        if self._workers is not None:
            self._workers.close()
        self._workers = Single(workplace) if self._num_workers == 1 else Crew(workplace, self._num_workers)

    @property
    def _equipped(self) -> Crew | Single:
        assert self._workers is not None, "equip comes before the first task"
        return self._workers

    def submit_training(self, task: LocalTask, payload: Payload, personal: Payload) -> int:
        """Take a task."""
        from neulite_sim.training.crew import Job

        self._tickets += 1
        self._tasks[self._tickets] = task
        self._latest_version = max(self._latest_version, task.version)
        job = Job(
            model=("training", task.submodel),
            # As a digest asks for them: the devices of a version in their order.
            place=(task.version, 0, task.cost.device),
            build=lambda worker: worker.trainee(task.submodel),
            work=lambda worker, alone: worker.train(task, payload, personal, alone=alone),
        )
        self._equipped.submit(self._tickets, job)
        return self._tickets

    def submit_evaluation(self, name: str, tensors: Payload, devices: Integers | None = None, number: int = 0) -> int:
        """Take a model to be tested."""
        from neulite_sim.training.crew import Job

        self._tickets += 1
        self._tested[self._tickets] = name
        job = Job(
            model=("test", name),
            place=(self._latest_version, 1, self._tickets),
            build=lambda worker: worker.evaluation_model(name),
            work=lambda worker, _: worker.evaluate(name, tensors, devices, number),
        )
        self._equipped.submit(self._tickets, job)
        return self._tickets

    def collect_update(self, ticket: int) -> Update:
        """Return the update of a task."""
        task = self._tasks.pop(ticket)
        try:
            update: Update = self._equipped.collect(ticket)
        except (RuntimeError, ValueError) as cause:
            raise SimulationError(
                f"local training failed in flight {task.flight} (device {task.device}, {task.submodel}): {cause}"
            ) from cause
        return update

    def collect_evaluation(self, ticket: int) -> EvaluationResult:
        """Return what a test came to."""
        name = self._tested.pop(ticket)
        try:
            found: EvaluationResult = self._equipped.collect(ticket)
        except (RuntimeError, ValueError) as cause:
            raise SimulationError(f"evaluation of the global model ({name}) failed: {cause}") from cause
        return found

    def discard(self, ticket: int) -> None:
        """Forget the task."""
        self._tasks.pop(ticket, None)
        self._equipped.discard(ticket)

    def is_done(self, ticket: int) -> bool:
        """Return whether nothing is gained by waiting."""
        return self._equipped.is_done(ticket)

    def notices(self) -> list[str]:
        """Nothing can happen to a worker in the same process."""
        return []

    def close(self) -> None:
        """Forget what was never collected, and give PyTorch its threads back."""
        if self._workers is not None:
            self._workers.close()
        self._tasks.clear()
        self._tested.clear()
        torch.set_num_threads(self._threads_before)
        self._workers = None
        give_back_freed_memory()


def _build(options: InProcessOptions) -> Backend:
    if options.device == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailableError(
            "backend.device is 'cuda' but PyTorch finds no CUDA device here",
            hint="use backend.device: cpu, or install a CUDA build of torch",
        )
    return InProcess(options.num_workers)


COMPONENT = Component(
    kind="inprocess",
    summary="workers in the driver process; no Ray",
    source="this project",
    options=InProcessOptions,
    build=_build,
)
