"""Local training of one device: a function of its tensors, its samples and its seed, and of nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor

from neulite_sim.arrays import Integers
from neulite_sim.data.batches import batch_slices
from neulite_sim.methods.contract import LocalTask, Update
from neulite_sim.models.prefix import PrefixKeeper
from neulite_sim.models.step import require_precision, stepper_of
from neulite_sim.models.trainee import Trainee, in_layout
from neulite_sim.models.walk import state_of
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
    draws: bool = True,
    go_on: Callable[[], None] = lambda: None,
) -> Update:
    """Train in place and return the update; the trainee must hold the payload's tensors.

    `inputs` are what the network reads, unless `transform` makes that of each batch (augmentation). The order of
    samples, augmentation and dropout depend on (root seed, device, flight) alone. A last batch of one sample is
    merged into the one before: BatchNorm cannot train on one. A trainee of several parts trains one after the other,
    each for all epochs. Loss and metrics are sample-weighted means over the last epoch, of the last part; metrics named
    `num_...` are sums over all steps. What a frozen prefix makes of a sample is computed in the first epoch alone (of
    each part), unless `training.prefix_cache` is none or `transform` makes another sample of it in each. A task of so
    many steps goes through the samples as often as it takes, and its last epoch is cut short. Where nobody `draws`
    from PyTorch's own generator it is left alone. `go_on` is called before each step.

    Raises:
        SimulationError: this machine cannot train in `training.precision`.
    """
    if task.plan is not None:
        training = task.plan.applied(training)
    order = stream(task.seed, "batches", task.device, task.flight)
    generator = torch.Generator().manual_seed(integer_seed(task.seed, "augmentation", task.device, task.flight))
    require_precision(training.precision, labels_N.device)
    # A training that failed may have left its trainee within a part.
    trainee.enter(None)
    stepper = stepper_of(trainee, training, learning_rate=task.learning_rate, is_charged=False)
    means = _Means()
    epochs = task.epochs or training.epochs
    keeps = training.prefix_cache != "none" and epochs > 1 and transform is None
    with _drawing_for(task, labels_N.device) if draws else nullcontext():
        for _ in trainee.each_part(has_batch_statistics=min(len(labels_N), training.batch_size) > 1):
            trainee.keeper = PrefixKeeper(len(labels_N)) if keeps else None
            for batches in _epochs(len(labels_N), training.batch_size, order, epochs=epochs, steps=task.steps):
                means.next_epoch()
                for chosen in batches:
                    go_on()
                    rows = torch.from_numpy(chosen)
                    batch, labels_B = inputs[rows], labels_N[rows]
                    if transform is not None:
                        batch = transform(batch, generator)
                    stepper.step(in_layout(batch), labels_B, means.add, rows=chosen)
    trainee.keeper = None
    skipped = {"num_skipped_steps": float(stepper.num_skipped_steps)} if training.precision == "fp16" else {}
    return Update(
        device=task.device,
        submodel=task.submodel,
        num_samples=len(labels_N),
        tensors=_sent(trainee),
        loss=means.loss,
        metrics={**means.metrics, **skipped},
        classes=tuple(torch.unique(labels_N).tolist()),
        version=task.version,
    )


def _sent(trainee: Trainee) -> dict[str, Tensor]:
    """Return what a device sends back."""
    state = state_of(trainee)
    return {
        name: state[name].detach().cpu().clone(memory_format=torch.contiguous_format) for name in trainee.upload_names()
    }


def _epochs(
    num_samples: int, batch_size: int, order: np.random.Generator, *, epochs: int, steps: int | None
) -> Iterator[list[Integers]]:
    """Yield the batches of each epoch; with `steps` as many in all, the last epoch cut short, and all as one."""
    if steps is None:
        for _ in range(epochs):
            yield batch_slices(num_samples, batch_size, order)
        return
    batches: list[Integers] = []
    while num_samples and len(batches) < steps:
        batches += batch_slices(num_samples, batch_size, order)
    yield batches[:steps]


@contextmanager
def _drawing_for(task: LocalTask, device: torch.device) -> Iterator[None]:
    """Within, PyTorch's own generators begin at the flight's seed; afterwards the processor's goes on where it was.

    `torch.manual_seed` would tell every kind of accelerator as well, and where there is none keep a note of it, with
    the stack of calls, for each flight.
    """
    before, seed = torch.get_rng_state(), integer_seed(task.seed, "dropout", task.device, task.flight)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)


class _Means:
    """Scalars of the steps, kept as tensors until they are asked for, so that no step waits for a number."""

    def __init__(self) -> None:
        self._counts: dict[str, list[Tensor]] = {}
        self.next_epoch()

    def next_epoch(self) -> None:
        self._sizes: dict[str, list[int]] = {}
        self._terms: dict[str, list[Tensor]] = {}

    def add(self, samples: int, loss: Tensor, scalars: Mapping[str, Tensor]) -> None:
        for name, value in (("loss", loss), *scalars.items()):
            if name.startswith("num_"):
                self._counts.setdefault(name, []).append(value.detach())
            else:
                self._sizes.setdefault(name, []).append(samples)
                self._terms.setdefault(name, []).append(value.detach())

    @property
    def loss(self) -> float:
        return self._mean("loss")

    @property
    def metrics(self) -> dict[str, float]:
        means = {name: self._mean(name) for name in self._terms if name != "loss"}
        return {**means, **{name: sum(_numbers(terms)) for name, terms in self._counts.items()}}

    def _mean(self, name: str) -> float:
        """Return the mean over all samples of the epoch; a scalar that a step does not report counts as 0 there."""
        sizes = self._sizes[name]
        numbers = _numbers(self._terms[name])
        return sum(number * size for number, size in zip(numbers, sizes, strict=True)) / sum(self._sizes["loss"])


def _numbers(scalars: list[Tensor]) -> list[float]:
    numbers: list[float] = torch.stack(scalars).double().flatten().tolist()
    return numbers
