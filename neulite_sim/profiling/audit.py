"""The audit: real training steps of a submodel, so that what `profile` predicts stands beside what happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from neulite_sim.models.step import require_precision
from neulite_sim.models.trainee import Trainee
from neulite_sim.profiling.keeping import largest, trace_training
from neulite_sim.profiling.profile import ready
from neulite_sim.profiling.tracer import MemoryBytes
from neulite_sim.samples import InputSpec
from neulite_sim.scenario.schema import Training

LOW_LOSS_SCALE = 2.0
"""No fp16 gradient of noise overflows at it: a step that is skipped would make no optimizer state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Peaks of a real step: tensor bytes that were tracked, and on a CUDA device what its allocator says, else None."""

    tracked: MemoryBytes
    cuda_allocated_bytes: int | None = None


def audit(
    build: Callable[[], Trainee],
    *,
    spec: InputSpec,
    batch_size: int,
    training: Training,
) -> MemoryBytes:
    """Return the tracked peak of the steps that `profile` predicts, taken on real tensors of the processor.

    What a device keeps of a frozen prefix is held meanwhile and left out, as in a profile.

    Raises:
        SimulationError: this machine cannot train in `training.precision`.
    """
    require_precision(training.precision, torch.device("cpu"))
    trainee = _heaviest(build(), training)
    stepper, batch = ready(trainee, spec, batch_size, training, loss_scale=LOW_LOSS_SCALE)
    return largest(trace_training(trainee, stepper, batch, training))


def cuda_peak_bytes(
    build: Callable[[], Trainee],
    *,
    spec: InputSpec,
    batch_size: int,
    training: Training,
) -> int:
    """Return `torch.cuda.max_memory_allocated` of the second of two real steps, less what was allocated before.

    Of several parts it is the highest. It holds the rounding of blocks and the workspaces of operators, but neither
    cached blocks nor the CUDA context. Needs a CUDA device.
    """
    require_precision(training.precision, torch.device("cuda"))
    before = torch.cuda.memory_allocated()
    trainee = _heaviest(build(), training).to("cuda")
    stepper, batch = ready(trainee, spec, batch_size, training, loss_scale=LOW_LOSS_SCALE)
    highest = 0
    for _ in trainee.each_part():
        stepper.step(*batch)
        stepper.optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        stepper.step(*batch)
        torch.cuda.synchronize()
        highest = max(highest, int(torch.cuda.max_memory_allocated()))
    return highest - int(before)


def audited(
    build: Callable[[], Trainee],
    *,
    spec: InputSpec,
    batch_size: int,
    training: Training,
) -> Audit:
    """Return the tracked peak, and that of the CUDA allocator where this machine has one. Raises what `audit` does."""
    has_cuda = torch.cuda.is_available()
    measured = cuda_peak_bytes(build, spec=spec, batch_size=batch_size, training=training) if has_cuda else None
    tracked = audit(build, spec=spec, batch_size=batch_size, training=training)
    return Audit(tracked=tracked, cuda_allocated_bytes=measured)


def _heaviest(trainee: Trainee, training: Training) -> Trainee:
    worst = trainee.at_worst(training)
    return trainee if worst is None else worst
