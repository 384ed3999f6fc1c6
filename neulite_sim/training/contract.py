"""The contract of a backend: where local training and evaluation run.

The engine submits a task when its flight is dispatched and collects the update when the virtual clock reaches the
arrival; in between the work may run anywhere. Results depend on the task alone, never on where or when it ran.
`training.conformance.check_backend` tests all of this for a backend of your own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from neulite_sim.arrays import Integers
from neulite_sim.bounds import ThreadCount
from neulite_sim.data.contract import AnyDataset, Partition
from neulite_sim.later import Tensor
from neulite_sim.methods.contract import LocalTask, Method, Update
from neulite_sim.registry import Options
from neulite_sim.scenario.schema import Evaluation, Training

if TYPE_CHECKING:
    from neulite_sim.models.contract import Blueprint
    from neulite_sim.training.evaluation import EvaluationResult

Payload: TypeAlias = "Mapping[str, Tensor]"


class WorkerOptions(Options):
    """Options of backends that really train."""

    threads_per_worker: ThreadCount = 1
    """Threads that PyTorch uses in a worker. Part of the result: other thread counts give other last bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """All that a worker needs beside its tasks, the same for every worker of a run; travels to other processes."""

    dataset: AnyDataset
    partition: Partition
    method: Method
    blueprint: Blueprint
    training: Training
    evaluation: Evaluation
    seed: int
    threads: int
    device: str = "cpu"
    takes_turns: bool = False
    """Whether tasks in one process run one after the other: code that is not this project's may use what a process has
    once, such as PyTorch's own generator."""


class Backend(Protocol):
    """Runs tasks. Tickets are collected once each, in any order.

    `Component.build(options)` returns it. The engine builds it before anything else, so that workers that take long to
    start do so while data is read and models are profiled, and equips it before the first task; a backend that turns
    out to be unavailable may say so as late as that task.

    A backend that adds up updates where they arise has `collect_fold(number)` as well. Updates of tasks with a `fold`
    then come without tensors, and when all of them are collected, that returns the `methods.folding.Fold`s that they
    went into. Discarding one of them gives up the whole fold.

    A backend that computes in several places may say by `nodes()` what each of them did: a list of plain mappings, for
    the summary of a run.
    """

    trains: bool
    """False where nothing is really trained: losses and accuracies are then unknown."""

    def equip(self, workplace: Workplace) -> None:
        """Give the workers what they need beside their tasks, before the first; a later call sets them up anew."""
        ...

    def submit_training(self, task: LocalTask, payload: Payload, personal: Payload) -> int:
        """Take a task and return its ticket. Tasks of one version and submodel come with equal payloads.

        `personal` is what only this task's device is sent.
        """
        ...

    def submit_evaluation(self, name: str, tensors: Payload, devices: Integers | None = None, number: int = 0) -> int:
        """Take a global model to test and return its ticket. It yields to training that was submitted before.

        It is tested on the test samples, or on the training samples of `devices`, which own some, where they are
        given. `number` is the round after which it is tested: what code of others draws in a test depends on it. A
        backend without it is not told.
        """
        ...

    def collect_update(self, ticket: int) -> Update:
        """Return the update of a training ticket, waiting for it where needed.

        Raises:
            SimulationError: the task failed; the message names the device, the flight and the cause.
        """
        ...

    def collect_evaluation(self, ticket: int) -> EvaluationResult:
        """Return the result of an evaluation ticket, waiting for it where needed."""
        ...

    def discard(self, ticket: int) -> None:
        """Forget a training ticket that will not be collected; what has not started need not."""
        ...

    def is_done(self, ticket: int) -> bool:
        """Whether nothing is gained by collecting a ticket later."""
        ...

    def notices(self) -> list[str]:
        """Return and forget what a user should know: replaced workers, retried tasks."""
        ...

    def close(self) -> None:
        """Stop all work and free what the backend holds."""
        ...


def nodes_of(backend: Backend) -> list[dict[str, Any]]:
    """Return what each of a backend's places did in this run; nothing where it has only one, or does not say."""
    tell: Callable[[], list[dict[str, Any]]] = getattr(backend, "nodes", list)
    return tell()
