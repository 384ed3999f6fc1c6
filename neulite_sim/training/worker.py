"""A worker: takes on the identity of any device, keeps its memory promise, trains and tests.

Both backends that really train use it: `inprocess` owns one, each Ray actor owns one.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neulite_sim.arrays import Integers
from neulite_sim.errors import SimulationError
from neulite_sim.methods.contract import LocalTask, Update
from neulite_sim.models.shortcuts import take_shortcuts
from neulite_sim.models.stored_weights import round_frozen
from neulite_sim.models.together import pack
from neulite_sim.models.trainee import Trainee, in_layout, lay_out, load_tensors
from neulite_sim.models.unsent import Unsent
from neulite_sim.seeding import stream
from neulite_sim.training.allocator import keep_freed_memory
from neulite_sim.training.contract import Payload, Workplace
from neulite_sim.training.diagnostics import nhsic_plane
from neulite_sim.training.evaluation import EvaluationResult, evaluate, recalibrate_batch_norm
from neulite_sim.training.local import train_locally
from neulite_sim.units import format_bytes
from neulite_sim.user_code.drawing import drawing_where, key_of, seeded
from neulite_sim.user_code.origins import telling_lines


class Abandoned(BaseException):
    """What a worker was at is no longer wanted; no error, so that nobody takes it for one."""


class Worker:
    """Trains and tests on one thread pool. Modules are built once per submodel and refilled for each task.

    `go_on` is called before each batch; what it raises ends the work.
    """

    def __init__(self, workplace: Workplace, *, go_on: Callable[[], None] | None = None) -> None:
        self._place = workplace
        self._go_on = go_on or _goes_on
        self._trainees: dict[str, Trainee] = {}
        self._evaluation_models: dict[str, nn.Module] = {}
        self._unsent: dict[nn.Module, Unsent] = {}
        # Code of others takes turns, for it may draw from generators that a process has once.
        self._drawing = functools.partial(drawing_where, workplace.takes_turns, workplace.seed)
        torch.set_num_threads(workplace.threads)
        keep_freed_memory()

    @telling_lines()
    def train(
        self, task: LocalTask, payload: Payload, personal: Payload | None = None, *, alone: bool = True
    ) -> Update:
        """Return the update of one device; where it is not `alone` in its process it draws nothing from it.

        Raises:
            SimulationError: the task breaks the memory promise.
        """
        _keep_promise(task)
        with self._drawing("training", task.device, task.flight):
            return self._trained(task, payload, personal, alone=alone)

    def _trained(self, task: LocalTask, payload: Payload, personal: Payload | None, *, alone: bool) -> Update:
        place = self._place
        trainee = self.trainee(task.submodel)
        self._unsent[trainee].restore()
        load_tensors(trainee, {**payload, **(personal or {})})
        round_frozen(trainee, place.training.frozen_weights)
        numbers = place.partition.of(task.device)
        inputs = _taken(place.dataset.train_inputs, numbers)
        labels = self._targets(place.dataset.train_labels[numbers])
        transform = functools.partial(self._augmented, device=task.device) if place.dataset.augments else None
        seen = inputs.to(place.device) if transform else self._seen_by(task.device, inputs)
        trainee.see_labels(labels)
        return train_locally(
            trainee,
            seen,
            labels,
            task=task,
            training=place.training,
            transform=transform,
            draws=alone,
            go_on=self._go_on,
        )

    def _targets(self, labels: NDArray[Any]) -> Tensor:
        """Return targets as a loss reads them; those that are tokens are kept in a smaller type."""
        return torch.from_numpy(labels).to(self._place.device, torch.int64)

    def trainee(self, submodel: str) -> Trainee:
        """Return the network of a submodel, with whatever weights it holds."""
        if submodel not in self._trainees:
            with self._drawing_first_weights():
                built = self._place.method.trainee(submodel, self._place.blueprint)
            built.reports_squared_loss = True
            built.takes_shortcuts = True
            self._trainees[submodel] = built.to(self._place.device)
            lay_out(built)
            pack(built)
            take_shortcuts(built)
            self._unsent[built] = Unsent(built)
        return self._trainees[submodel]

    def _seen(self, inputs: Tensor) -> Tensor:
        """Return what a network reads of kept inputs, on the worker's accelerator."""
        return in_layout(self._place.dataset.seen(inputs.to(self._place.device)))

    def _seen_by(self, device: int, inputs: Tensor) -> Tensor:
        """Return what a network reads of all inputs that a device owns, as that device sees them."""
        seen, view = self._seen(inputs), self._place.partition.view
        return seen if view is None else in_layout(view.own(seen, device))

    def _augmented(self, inputs: Tensor, generator: torch.Generator, *, device: int) -> Tensor:
        """Return augmented inputs as a network reads them, as a device sees them."""
        seen, view = self._seen(self._place.dataset.augmented(inputs, generator)), self._place.partition.view
        return seen if view is None else in_layout(view.augmented(seen, device, generator))

    @telling_lines()
    def evaluate(
        self, name: str, tensors: Payload, devices: Integers | None = None, number: int = 0
    ) -> EvaluationResult:
        """Return loss and accuracy of a global model on the test samples, or on the training samples of `devices`.

        Diagnostics come with the test samples only. `number` is that of the test, for what code of others draws in it.
        """
        group = 0 if devices is None else key_of(devices.tobytes())
        with self._drawing("evaluation", number, group):
            return self._tested(name, tensors, devices)

    def _tested(self, name: str, tensors: Payload, devices: Integers | None) -> EvaluationResult:
        model = self.evaluation_model(name)
        self._unsent[model].restore()
        load_tensors(model, tensors)
        if self._place.evaluation.batch_norm == "recalibrated":
            recalibrate_batch_norm(model, self._calibration_batches())
        if devices is None:
            return self._diagnosed(model, evaluate(model, self._test_batches()))
        dataset, partition = self._place.dataset, self._place.partition
        if partition.view is not None:
            return evaluate(model, self._viewed_batches(devices))
        owned = np.concatenate([partition.of(int(device)) for device in devices])
        return evaluate(model, self._batches(dataset.train_inputs[owned], dataset.train_labels[owned]))

    def evaluation_model(self, name: str) -> nn.Module:
        """Return the network of a global model, with whatever weights it holds."""
        if name not in self._evaluation_models:
            with self._drawing_first_weights():
                built = self._place.method.evaluation_model(name, self._place.blueprint)
            self._evaluation_models[name] = built.to(self._place.device)
            lay_out(built)
            self._unsent[built] = Unsent(built)
        return self._evaluation_models[name]

    def _drawing_first_weights(self) -> contextlib.AbstractContextManager[None]:
        """Leave the generators as they were: who builds how many networks in which process must not be seen in them.

        What a network of others draws for itself, and nobody sends, is the same in each process.
        """
        if self._place.takes_turns:
            return seeded(self._place.seed)
        found: contextlib.AbstractContextManager[None] = torch.random.fork_rng(devices=[])
        return found

    def _diagnosed(self, model: nn.Module, result: EvaluationResult) -> EvaluationResult:
        """Return the result with the diagnostics that the scenario asks for, all over the same training samples."""
        place = self._place
        if "nhsic_plane" not in place.evaluation.diagnostics:
            return result
        rows = self._same_samples("diagnostics", place.evaluation.diagnostic_samples)
        inputs = self._seen(_taken(place.dataset.train_inputs, rows))
        labels = self._targets(place.dataset.train_labels[rows])
        plane = nhsic_plane(model, inputs, labels, spec=place.dataset.spec)
        return replace(result, diagnostics=tuple(plane))

    def _same_samples(self, purpose: str, wanted: int) -> Integers:
        """Return the numbers of training samples drawn for a purpose: the same ones at every test."""
        owned = len(self._place.dataset.train_labels)
        return stream(self._place.seed, purpose).choice(owned, min(wanted, owned), replace=False)

    def _batches(self, inputs: NDArray[Any], labels_N: NDArray[Any]) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in np.array_split(np.arange(len(labels_N)), self._num_batches(len(labels_N))):
            self._go_on()
            yield (
                self._seen(_taken(inputs, rows)),
                self._targets(labels_N[rows]),
            )

    def _test_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        dataset, view = self._place.dataset, self._place.partition.view
        batches = self._batches(dataset.test_inputs, dataset.test_labels)
        if view is None:
            yield from batches
            return
        start = 0
        for seen, labels in batches:
            yield in_layout(view.tested(seen, np.arange(start, start + len(labels)))), labels
            start += len(labels)

    def _viewed_batches(self, devices: Integers) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the training samples of devices as each of them sees its own."""
        dataset = self._place.dataset
        for device in devices.tolist():
            owned = self._place.partition.of(device)
            seen = self._seen_by(device, _taken(dataset.train_inputs, owned))
            labels = self._targets(dataset.train_labels[owned])
            count = self._num_batches(len(owned))
            yield from zip(seen.tensor_split(count), labels.tensor_split(count), strict=True)

    def _calibration_batches(self) -> Iterator[Tensor]:
        """Yield the same training samples in every round: the statistics change with the model alone."""
        dataset = self._place.dataset
        chosen = self._same_samples("recalibration", self._place.evaluation.recalibration_samples)
        for rows in np.array_split(chosen, self._num_batches(len(chosen))):
            yield self._seen(_taken(dataset.train_inputs, rows))

    def _num_batches(self, count: int) -> int:
        return -(-count // self._place.evaluation.batch_size)


def _taken(inputs: NDArray[Any], rows: Integers) -> Tensor:
    """Return some of a dataset's samples, in an order of memory that depends on their shape alone."""
    taken = inputs[rows]
    # A dimension of one may have any stride: PyTorch chooses kernels by it, and pickling to another process changes it.
    fresh = np.empty(taken.shape, taken.dtype)
    fresh[...] = taken
    return torch.from_numpy(fresh)


def _goes_on() -> None:
    """Nobody stops it."""


def _keep_promise(task: LocalTask) -> None:
    cost = task.cost
    if task.enforces_memory and cost.shortfall_bytes:
        raise SimulationError(
            f"flight {task.flight} would break the memory promise: {task.submodel} needs "
            f"{format_bytes(cost.peak_memory_bytes)}, device {task.device} has "
            f"{format_bytes(cost.available_memory_bytes)}"
        )
