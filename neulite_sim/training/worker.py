"""A worker: takes on the identity of any device, keeps its memory promise, trains and tests.

Both backends that really train use it: `inprocess` owns one, each Ray actor owns one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from neulite_sim.data.batches import augment_crop_flip, normalise
from neulite_sim.errors import SimulationError
from neulite_sim.methods.contract import LocalTask, Update
from neulite_sim.models.trainee import LAYOUT, Trainee, lay_out, load_tensors
from neulite_sim.seeding import stream
from neulite_sim.training.contract import Payload, Workplace
from neulite_sim.training.evaluation import EvaluationResult, evaluate, recalibrate_batch_norm
from neulite_sim.training.local import train_locally
from neulite_sim.units import format_bytes


class Worker:
    """Trains and tests on one thread pool. Modules are built once per submodel and refilled for each task."""

    def __init__(self, workplace: Workplace) -> None:
        self._place = workplace
        self._trainees: dict[str, Trainee] = {}
        self._evaluation_models: dict[str, nn.Module] = {}
        torch.set_num_threads(workplace.threads)

    def train(self, task: LocalTask, payload: Payload, personal: Payload | None = None) -> Update:
        """Return the update of one device.

        Raises:
            SimulationError: the task breaks the memory promise.
        """
        _keep_promise(task)
        place = self._place
        trainee = self._trainee(task.submodel)
        load_tensors(trainee, {**payload, **(personal or {})})
        numbers = place.partition.of(task.device)
        images = torch.from_numpy(place.dataset.train_images[numbers])
        labels = torch.from_numpy(place.dataset.train_labels[numbers]).to(place.device)
        transform = self._augmented if place.dataset.augmentation == "crop-flip" else None
        seen = images.to(place.device) if transform else self._seen(images)
        trainee.meet(labels)
        result = train_locally(trainee, seen, labels, task=task, training=place.training, transform=transform)
        return Update(
            device=task.device,
            submodel=task.submodel,
            num_samples=len(labels),
            tensors=result.tensors,
            loss=result.loss,
            metrics=result.metrics,
            classes=tuple(torch.unique(labels).tolist()),
        )

    def _trainee(self, submodel: str) -> Trainee:
        if submodel not in self._trainees:
            built = self._place.method.trainee(submodel, self._place.blueprint)
            self._trainees[submodel] = built.to(self._place.device)
            lay_out(built)
        return self._trainees[submodel]

    def _seen(self, images_BCHW: Tensor) -> Tensor:
        """Return what a network sees of stored images, on the worker's accelerator."""
        dataset, stored = self._place.dataset, images_BCHW.to(self._place.device)
        seen = normalise(stored, mean=dataset.mean, std=dataset.std, pixel_scale=dataset.pixel_scale)
        return seen.contiguous(memory_format=LAYOUT)

    def _augmented(self, images_BCHW: Tensor, generator: torch.Generator) -> Tensor:
        """Return augmented images as a network sees them: cropped where black is zero, then normalised."""
        return self._seen(augment_crop_flip(images_BCHW, generator))

    def evaluate(self, name: str, tensors: Payload) -> EvaluationResult:
        """Return loss and accuracy of a global model on the test samples."""
        if name not in self._evaluation_models:
            built = self._place.method.evaluation_model(name, self._place.blueprint)
            self._evaluation_models[name] = built.to(self._place.device)
            lay_out(built)
        model = self._evaluation_models[name]
        load_tensors(model, tensors)
        if self._place.evaluation.batch_norm == "recalibrated":
            recalibrate_batch_norm(model, self._calibration_batches())
        return evaluate(model, self._test_batches())

    def _test_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        dataset = self._place.dataset
        for rows in np.array_split(np.arange(len(dataset.test_labels)), self._num_batches(len(dataset.test_labels))):
            labels = torch.from_numpy(dataset.test_labels[rows]).to(self._place.device)
            yield self._seen(torch.from_numpy(dataset.test_images[rows])), labels

    def _calibration_batches(self) -> Iterator[Tensor]:
        """Yield the same training samples in every round: the statistics change with the model alone."""
        dataset = self._place.dataset
        count = min(self._place.evaluation.recalibration_samples, len(dataset.train_labels))
        chosen = stream(self._place.seed, "recalibration").choice(len(dataset.train_labels), count, replace=False)
        for rows in np.array_split(chosen, self._num_batches(count)):
            yield self._seen(torch.from_numpy(dataset.train_images[rows]))

    def _num_batches(self, count: int) -> int:
        return -(-count // self._place.evaluation.batch_size)


def _keep_promise(task: LocalTask) -> None:
    available = task.available_memory_bytes
    if available is not None and task.peak_memory_bytes > available:
        raise SimulationError(
            f"flight {task.flight} would break the memory promise: {task.submodel} needs "
            f"{format_bytes(task.peak_memory_bytes)}, device {task.device} has {format_bytes(available)}"
        )
