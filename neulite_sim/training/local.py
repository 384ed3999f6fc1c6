"""Local training of one device: a function of its tensors, its samples and its seed, and of nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from neulite_sim.data.batches import batch_slices
from neulite_sim.methods.contract import LocalTask, Update
from neulite_sim.models.prefix import PrefixKeeper
from neulite_sim.models.step import Stepper, require_precision
from neulite_sim.models.trainee import Trainee, in_layout
from neulite_sim.scenario.schema import Training
from neulite_sim.seeding import integer_seed, stream

Transform = Callable[[Tensor, torch.Generator], Tensor]


def train_locally(
    trainee: Trainee,
    inputs: Tensor,
    labels_N: Tensor,
    *,
    task: LocalTask,
    training: Training,
    transform: Transform | None = None,
) -> Update:
    """Train in place and return the update; the trainee must hold the payload's tensors.

    `inputs` are what the network reads, unless `transform` makes that of each batch (augmentation). The order of
    samples, augmentation and dropout depend on (root seed, device, flight) alone. A last batch of one sample is
    merged into the one before: BatchNorm cannot train on one. Loss and metrics are sample-weighted means over the last
    epoch; metrics named `num_...` are sums over all steps. What a frozen prefix makes of a sample is computed in the
    first epoch alone, unless `training.prefix_cache` is none or `transform` makes another sample of it in each.

    Raises:
        SimulationError: this machine cannot train in `training.precision`.
    """
    order = stream(task.seed, "batches", task.device, task.flight)
    generator = torch.Generator().manual_seed(integer_seed(task.seed, "augmentation", task.device, task.flight))
    require_precision(training.precision, labels_N.device)
    stepper = Stepper(trainee, training, learning_rate=task.learning_rate)
    means = _Means()
    batch_size = task.batch_size or training.batch_size
    trainee.prepare(has_batch_statistics=min(len(labels_N), batch_size) > 1)
    keeps = training.prefix_cache != "none" and training.epochs > 1 and transform is None
    trainee.keeper = PrefixKeeper(len(labels_N)) if keeps else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(integer_seed(task.seed, "dropout", task.device, task.flight))
        for _ in range(training.epochs):
            means.next_epoch()
            for chosen in batch_slices(len(labels_N), batch_size, order):
                rows = torch.from_numpy(chosen)
                batch, labels_B = inputs[rows], labels_N[rows]
                if transform is not None:
                    batch = transform(batch, generator)
                stepper.step(in_layout(batch), labels_B, means.add, rows=chosen)
    trainee.keeper = None
    state = trainee.state_dict()
    tensors = {
        name: state[name].detach().cpu().clone(memory_format=torch.contiguous_format) for name in trainee.upload_names()
    }
    skipped = {"num_skipped_steps": float(stepper.num_skipped_steps)} if training.precision == "fp16" else {}
    return Update(
        device=task.device,
        submodel=task.submodel,
        num_samples=len(labels_N),
        tensors=tensors,
        loss=means.loss,
        metrics={**means.metrics, **skipped},
        classes=tuple(torch.unique(labels_N).tolist()),
        version=task.version,
    )


class _Means:
    """Running sums kept as tensors, so that no step waits for a number."""

    def __init__(self) -> None:
        self._counts: dict[str, Tensor] = {}
        self.next_epoch()

    def next_epoch(self) -> None:
        self._samples = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, samples: int, loss: Tensor, scalars: Mapping[str, Tensor]) -> None:
        self._samples += samples
        for name, value in (("loss", loss), *scalars.items()):
            term = value.detach().double()
            if name.startswith("num_"):
                self._counts[name] = self._counts.get(name, torch.zeros_like(term)) + term
            else:
                self._sums[name] = self._sums.get(name, torch.zeros_like(term)) + term * samples

    @property
    def loss(self) -> float:
        return float(self._sums["loss"]) / self._samples

    @property
    def metrics(self) -> dict[str, float]:
        means = {name: float(total) / self._samples for name, total in self._sums.items() if name != "loss"}
        return {**means, **{name: float(total) for name, total in self._counts.items()}}
