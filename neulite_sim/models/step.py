"""One optimizer step of a trainee: prediction, audit and real training run it, so that what is charged is what is done.

A step of `batch_size` samples may be cut into micro-batches whose gradients add up, and forward pass and loss may run
under autocast. fp16 gradients are kept from vanishing by a loss scale (Micikevicius et al., "Mixed Precision
Training", ICLR 2018, section 3.2), raised and lowered as PyTorch's `GradScaler` does by default.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.optim import Optimizer

from neulite_sim.errors import SimulationError
from neulite_sim.models.kernel_guard import KernelGuard, guarded
from neulite_sim.models.optimizer import make_optimizer, take_step
from neulite_sim.models.pointwise import holds_overrunning
from neulite_sim.models.prefix import Rows
from neulite_sim.models.together import Together, clip
from neulite_sim.models.trainee import Trainee
from neulite_sim.models.walk import parameters_of
from neulite_sim.scenario.schema import Precision, Training
from neulite_sim.user_code.origins import place_of

Note = Callable[[int, Tensor, Mapping[str, Tensor]], None]
"""Told of each micro-batch: its size, its loss and its scalars."""

FIRST_LOSS_SCALE = 2.0**16

_TYPES: Mapping[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def micro_batch_sizes(num_samples: int, largest: int | None) -> list[int]:
    """Return the sizes of a batch's micro-batches: `largest` each and what is left over; one if `largest` is None.

    A single sample that would be left over takes one from the part before, because it has no batch statistics; of two
    samples at most none can be spared. No part is larger than `largest`, whatever `num_samples`.
    """
    if largest is None or num_samples <= largest:
        return [num_samples]
    whole, rest = divmod(num_samples, largest)
    sizes = [largest] * whole + [rest] * (rest > 0)
    if rest == 1 and largest > 2:
        sizes[-2:] = [largest - 1, 2]
    return sizes


class Stepper:
    """Takes optimizer steps on a trainee whose tensors are loaded and whose `prepare` was called.

    It owns the optimizer and, for fp16, the loss scale: both begin anew with each local training. Its steps are those
    that devices are charged for, operator by operator, unless `is_charged` is false: then this machine may take the
    optimizer's in a quicker way.
    """

    def __init__(
        self,
        trainee: Trainee,
        training: Training,
        *,
        learning_rate: float,
        loss_scale: float = FIRST_LOSS_SCALE,
        is_charged: bool = True,
    ) -> None:
        self._trainee = trainee
        self._training = training
        trained = {name: parameter for name, parameter in parameters_of(trainee).items() if parameter.requires_grad}
        self._trainable = list(trained.values())
        if trainee.guard_known_for != (names := tuple(trained)):
            trainee.needs_guard, trainee.guard_known_for = None, names
        self._make = functools.partial(
            make_optimizer, training=training, learning_rate=learning_rate, is_charged=is_charged
        )
        # Of several parts each leaves the parameters of the others without a gradient.
        self._together = None if is_charged or trainee.num_parts > 1 else Together.of(self._trainable)
        self.optimizer = self._make(self._trainable if self._together is None else self._together.runs)
        self._scaler = LossScaler(loss_scale) if training.precision == "fp16" else None
        self.after_micro_batch: Callable[[], None] | None = None
        """Called after each micro-batch's backward pass, for whoever watches a step."""
        self.take_step: Callable[[Optimizer, Sequence[nn.Parameter]], None] = take_step
        """How the optimizer takes its step over the parameters, for whoever watches one."""
        trainee.checkpoints_blocks = training.checkpointing

    @property
    def trainable(self) -> Sequence[nn.Parameter]:
        """The parameters that it trains."""
        return self._trainable

    @property
    def num_skipped_steps(self) -> int:
        """Steps that fp16 left out so far because a gradient was not finite."""
        return self._scaler.num_skipped if self._scaler else 0

    def step(
        self, images_BCHW: Tensor, labels_B: Tensor, note: Note | None = None, *, rows: Rows | None = None
    ) -> None:
        """Take one step on a batch; the gradient is that of the mean over its samples.

        `rows` are their numbers among the samples of the flight, for the trainee's `keeper` where it has one. BatchNorm
        and terms that compare samples (NeuLite's nHSIC) see one micro-batch at a time. A micro-batch of a single sample
        uses BatchNorm's running statistics.
        """
        for parameter in self._trainable:
            parameter.grad = None
        sizes = micro_batch_sizes(len(labels_B), self._training.micro_batch_size)
        if len(sizes) == 1:
            self._announce(images_BCHW, rows)
            self._accumulate(images_BCHW, labels_B, 1.0, note)
        else:
            parts = zip(torch.split(images_BCHW, sizes), torch.split(labels_B, sizes), _split(rows, sizes), strict=True)
            for images, labels, numbers in parts:
                self._announce(images, numbers)
                self._accumulate(images, labels, len(labels) / len(labels_B), note)
        if self._scaler is not None and not self._scaler.unscale(self._trainable):
            return
        self._follow_gradient()

    def _follow_gradient(self) -> None:
        clip_norm = self._training.clip_norm
        if self._together is not None and not self._together.gather():
            self.optimizer = self._together.apart(self.optimizer, self._make)
            self._together = None
        if self._together is None:
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(self._trainable, clip_norm, foreach=False)
            self.take_step(self.optimizer, self._trainable)
            return
        if clip_norm is not None:
            clip(self._together.runs, clip_norm)
        self.take_step(self.optimizer, self._together.runs)

    def _announce(self, images_BCHW: Tensor, rows: Rows | None) -> None:
        if self._trainee.keeper is not None and rows is not None:
            self._trainee.keeper.announce(images_BCHW, rows)

    def _accumulate(self, images_BCHW: Tensor, labels_B: Tensor, weight: float, note: Note | None) -> None:
        is_lone = weight < 1 and len(labels_B) == 1
        if is_lone:
            self._trainee.use_batch_statistics(False)
        with autocast(self._training.precision, images_BCHW.device.type):
            found = self._trainee.loss(images_BCHW, labels_B)
        loss, scalars = _checked(self._trainee, found)
        del found
        if note is not None:
            note(len(labels_B), loss, scalars)
        del scalars
        if self._scaler is not None:
            weight *= self._scaler.scale
        self._backward(loss if weight == 1 else loss * weight)
        if is_lone:
            self._trainee.use_batch_statistics(True)
        if self.after_micro_batch is not None:
            self.after_micro_batch()

    def _backward(self, loss: Tensor) -> None:
        known = self._trainee.needs_guard
        with guarded(loss, is_needed=known is not False or self._may_overrun) as guard:
            loss.backward()  # type: ignore[no-untyped-call]
        if isinstance(guard, KernelGuard):
            self._trainee.needs_guard = bool(known) or guard.num_met > 0

    @functools.cached_property
    def _may_overrun(self) -> bool:
        """Whether the trainee holds a convolution that could overrun and that no step may have come to yet."""
        return holds_overrunning(self._trainee)


def stepper_of(trainee: Trainee, training: Training, **how: Any) -> Stepper:
    """Return what takes a trainee's steps: its own stepper where it has one; `how` as `Stepper` takes it."""
    own: Stepper | None = trainee.stepper(training, **how)
    return Stepper(trainee, training, **how) if own is None else own


def _checked(trainee: Trainee, found: Any) -> tuple[Tensor, Mapping[str, Any]]:
    """Return a loss and scalars.

    Raises:
        SimulationError: a trainee's `loss` returns something else, or nothing that depends on what it trains.
    """
    if isinstance(found, tuple) and len(found) == 2:
        loss, scalars = found
        if isinstance(loss, Tensor) and isinstance(scalars, Mapping) and loss.numel() == 1 and loss.requires_grad:
            return loss, scalars
        if isinstance(loss, Tensor) and isinstance(scalars, Mapping):
            what = f"a loss of shape {tuple(loss.shape)}" if loss.numel() != 1 else "a loss that has no gradient"
        else:
            what = f"a {type(loss).__name__} and a {type(scalars).__name__}"
    else:
        what = (
            "None" if found is None else f"a {Tensor.__name__ if isinstance(found, Tensor) else type(found).__name__}"
        )
    kind = type(trainee)
    raise SimulationError(
        f"{kind.__name__}.loss{place_of(kind)} returns {what}",
        hint="return a tensor of one number that gradients flow through, and a mapping of scalars: loss, {}",
    )


def _split(rows: Rows | None, sizes: Sequence[int]) -> Sequence[Rows | None]:
    return [None] * len(sizes) if rows is None else np.split(rows, np.cumsum(sizes)[:-1])


class LossScaler:
    """The factor on an fp16 loss: 2^16 at first, halved when a gradient overflows, doubled after 2000 good steps."""

    def __init__(self, scale: float = FIRST_LOSS_SCALE, *, growth_interval: int = 2000) -> None:
        self.scale = scale
        self.num_skipped = 0
        self._growth_interval = growth_interval
        self._num_good = 0

    def unscale(self, parameters: Iterable[nn.Parameter]) -> bool:
        """Divide the gradients by the scale in place and adapt it; return whether the step may be taken."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for gradient in gradients:
            gradient.div_(self.scale)
        largest = torch.stack([torch.linalg.vector_norm(gradient, torch.inf) for gradient in gradients]).max()
        # A fake tensor has no value: the step that is charged is one that is taken.
        if isinstance(largest, FakeTensor) or bool(largest.isfinite()):
            self._num_good += 1
            if self._num_good == self._growth_interval:
                self.scale, self._num_good = self.scale * 2, 0
            return True
        self.scale, self._num_good = self.scale / 2, 0
        self.num_skipped += 1
        return False


def autocast(precision: Precision, device_type: str) -> AbstractContextManager[object]:
    """Return the context of a forward pass and its loss: autocast, or nothing at all for fp32."""
    return nullcontext() if precision == "fp32" else torch.autocast(device_type, dtype=_TYPES[precision])


def require_precision(precision: Precision, device: torch.device) -> None:
    """Refuse a precision in which this machine's `device` cannot really train.

    Raises:
        SimulationError: with what PyTorch says and what to do.
    """
    problem = _problem(precision, device.type) if precision != "fp32" else ""
    if problem:
        raise SimulationError(
            f"training.precision is {precision}, but PyTorch cannot train with it on this {device.type} ({problem})",
            hint=f"set proxy.precision: fp32 and keep {precision} for what devices are charged, or use another machine",
        )


@functools.cache
def _problem(precision: Precision, device_type: str) -> str:
    """Return why a convolution cannot be trained in this precision, "" where it can."""
    layer = nn.Conv2d(1, 1, 3, device=device_type)
    try:
        with autocast(precision, device_type):
            loss = layer(torch.zeros(2, 1, 4, 4, device=device_type)).float().sum()
        loss.backward()
    except RuntimeError as failure:
        return str(failure).splitlines()[0]
    return ""
