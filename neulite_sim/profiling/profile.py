"""Profile: what one submodel's local training costs, with no device in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from neulite_sim.models.optimizer import make_optimizer
from neulite_sim.models.trainee import LAYOUT, Trainee, lay_out
from neulite_sim.profiling.tracer import MemoryBytes, OperatorCost, StepTracer, trace_steps
from neulite_sim.scenario.schema import Training


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Cost of training one submodel at one batch size.

    `memory` is split at the moment of the peak. `operator_flops[i]` and `operator_bytes[i]` belong to the i-th
    operator of a step. Bytes down and up are what travels per flight; a parameter's size is asked of its dtype.
    """

    submodel: str
    batch_size: int
    parameters: int
    trainable_parameters: int
    memory: MemoryBytes
    operator_flops: NDArray[np.float64]
    operator_bytes: NDArray[np.float64]
    bytes_down: int
    bytes_up: int

    @property
    def peak_memory_bytes(self) -> int:
        """Highest total of live tensor bytes during a training step."""
        return self.memory.total

    @property
    def flops_per_step(self) -> int:
        """Floating-point operations of one step, forward, backward and optimizer (matrix products only)."""
        return int(self.operator_flops.sum())


def profile(
    submodel: str,
    build: Callable[[], Trainee],
    *,
    input_shape: tuple[int, int, int],
    batch_size: int,
    training: Training,
) -> Profile:
    """Return the predicted cost of a submodel: two training steps on fake tensors, no memory, no arithmetic.

    `build` makes the trainee; it is called under a fake mode and must not read the values of tensors.
    """
    with FakeTensorMode():
        trainee = build()
        tracer = _trace(trainee, input_shape, batch_size, training)
    sent = set(trainee.upload_names())
    travelling = dict(trainee.travelling())
    return Profile(
        submodel=submodel,
        batch_size=batch_size,
        parameters=sum(parameter.numel() for parameter in trainee.parameters()),
        trainable_parameters=sum(p.numel() for p in trainee.parameters() if p.requires_grad),
        memory=tracer.peak,
        operator_flops=_column(tracer.operators, "flops"),
        operator_bytes=_column(tracer.operators, "bytes_moved"),
        bytes_down=sum(map(_num_bytes, travelling.values())),
        bytes_up=sum(_num_bytes(tensor) for name, tensor in travelling.items() if name in sent),
    )


def audit(
    build: Callable[[], Trainee],
    *,
    input_shape: tuple[int, int, int],
    batch_size: int,
    training: Training,
) -> MemoryBytes:
    """Return the tracked peak of the same two steps on real tensors: what `profile` predicted, measured."""
    return _trace(build(), input_shape, batch_size, training).peak


def _trace(trainee: Trainee, input_shape: tuple[int, int, int], batch_size: int, training: Training) -> StepTracer:
    lay_out(trainee)
    trainee.prepare()
    optimizer = make_optimizer(trainee.parameters(), training, training.learning_rate)
    images = torch.randn(batch_size, *input_shape).contiguous(memory_format=LAYOUT)
    # Labels of one class would make the curriculum term vanish; two classes are valid for any problem.
    labels = torch.arange(batch_size) % 2
    return trace_steps(trainee, optimizer, lambda x, y: trainee.loss(x, y)[0], (images, labels))


def _column(operators: list[OperatorCost], name: str) -> NDArray[np.float64]:
    return np.array([getattr(operator, name) for operator in operators], dtype=np.float64)


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
