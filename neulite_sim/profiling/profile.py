"""Profile: what one submodel's local training costs, with no device in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.models.noise import noise, taking_turns
from neulite_sim.models.step import FIRST_LOSS_SCALE, Stepper
from neulite_sim.models.trainee import Trainee, lay_out
from neulite_sim.profiling.keeping import TracedStep, trace_training
from neulite_sim.profiling.micro_batches import MicroBatches
from neulite_sim.profiling.roofline import Kinds
from neulite_sim.profiling.tracer import MemoryBytes
from neulite_sim.samples import ImageShape, InputSpec, spec_of
from neulite_sim.scenario.schema import CachingAllocator, NoAllocator, Training

NO_ALLOCATOR = NoAllocator()
CHECKPOINTING = "training.checkpointing"

FEWEST_CLASSES = 2
"""Targets of one class would make the curriculum term vanish; two classes are valid for any problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Cost of training one submodel at one batch size.

    `memory` is split at the moment of the peak. `operator_flops[i]` and `operator_bytes[i]` belong to the i-th
    operator of an optimizer step: all micro-batches, what checkpointing computes again, gradient clipping and the
    optimizer. Those of micro-batches that are alike stand there once and happen `operator_counts[i]` times. Bytes down
    and up are what travels per flight; a parameter's size is asked of its dtype.
    `micro_batch_sizes` adds up to `batch_size`. `allocator_bytes` is the highest total of rounded blocks and the
    framework's context, None where no allocator is modelled.

    Where devices keep the features of a frozen prefix, the operators are those of a step of the first epoch, which
    makes them, and `later_operator_...` those of any other, which reads them; `kept_bytes_per_sample` comes on top of
    the peak for each sample of a device.
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
    operator_kinds: Kinds | None = None
    """`OperatorKind` of each operator; all `OTHER` where it is None."""
    micro_batch_sizes: tuple[int, ...] = ()
    allocator_bytes: int | None = None
    kept_bytes_per_sample: int = 0
    later_operator_flops: NDArray[np.float64] | None = None
    later_operator_bytes: NDArray[np.float64] | None = None
    later_operator_kinds: Kinds | None = None
    operator_counts: NDArray[np.float64] | None = None
    """How often each operator happens in a step; once each where it is None."""
    later_operator_counts: NDArray[np.float64] | None = None
    compares_samples: bool = False
    """Whether the work grows faster than the batch, as `Trainee.compares_samples` says."""

    @property
    def tensor_bytes(self) -> int:
        """Highest total of live tensor bytes during a training step."""
        return self.memory.total

    @property
    def peak_memory_bytes(self) -> int:
        """What is compared with the memory of devices: `allocator_bytes` where modelled, else `tensor_bytes`.

        Where features are kept, a device needs the bytes of these on top.
        """
        return self.tensor_bytes if self.allocator_bytes is None else self.allocator_bytes

    @property
    def flops_per_step(self) -> int:
        """Floating-point operations of one step (the first epoch's), forward, backward and optimizer.

        Matrix products only.
        """
        return int(
            (self.operator_flops if self.operator_counts is None else self.operator_flops * self.operator_counts).sum()
        )


def profile(
    submodel: str,
    build: Callable[[], Trainee],
    *,
    batch_size: int,
    training: Training,
    spec: InputSpec | None = None,
    input_shape: ImageShape | None = None,
    allocator: NoAllocator | CachingAllocator = NO_ALLOCATOR,
) -> Profile:
    """Return the predicted cost of a submodel: two training steps on fake tensors, no memory, no arithmetic.

    `build` makes the trainee; it is called under a fake mode and must not read the values of tensors. It steps on
    noise of `spec`, or on images of `input_shape` where that is given in its place. With an `allocator` the profile
    also says, and is compared with devices by, what that allocator would hold. With `training.prefix_cache` device, and
    more than one epoch, three steps are taken, see `keeping`. The peak is that of `Trainee.at_worst` where it has one.

    Raises:
        ScenarioError: nothing of the trainee is trained; or checkpointing is asked for, and the trainee applies none of
            its blocks with `Trainee.through`.
    """
    spec = spec_of(spec, input_shape, FEWEST_CLASSES if spec is None else None)
    with FakeTensorMode():
        trainee = build()
        if not any(parameter.requires_grad for parameter in trainee.parameters()):
            finding = f"submodel {submodel} has no parameter to train on this model"
            hint = "choose a model with more blocks, or another method"
            raise ScenarioError([Problem.advising(key="method", found=finding, hint=hint)])
        parts = MicroBatches.of(batch_size, training.micro_batch_size)
        stepper, batch = ready(trainee, spec, parts.num_traced, training)
        round_bytes = allocator.round_bytes if isinstance(allocator, CachingAllocator) else 1
        steps = trace_training(trainee, stepper, batch, training, round_bytes=round_bytes, parts=parts)
        heaviest, worst = steps, trainee.at_worst(training)
        if worst is not None:
            stepper, batch = ready(worst, spec, parts.num_traced, training)
            heaviest = trace_training(worst, stepper, batch, training, round_bytes=round_bytes, parts=parts)
    if training.checkpointing and not trainee.num_blocks_applied:
        finding = f"true has no effect on {submodel}: its trainee applies no block with Trainee.through"
        hint = "set it to false, or use another method"
        raise ScenarioError([Problem.advising(key=CHECKPOINTING, found=finding, hint=hint)])
    sent = set(trainee.upload_names())
    travelling = dict(trainee.travelling())
    return Profile(
        submodel=submodel,
        batch_size=batch_size,
        parameters=sum(parameter.numel() for parameter in trainee.parameters()),
        trainable_parameters=sum(p.numel() for p in trainee.parameters() if p.requires_grad),
        memory=heaviest.peak,
        bytes_down=sum(map(_num_bytes, travelling.values())),
        bytes_up=sum(_num_bytes(tensor) for name, tensor in travelling.items() if name in sent),
        micro_batch_sizes=parts.sizes,
        allocator_bytes=(
            heaviest.rounded_peak_bytes + allocator.context if isinstance(allocator, CachingAllocator) else None
        ),
        kept_bytes_per_sample=steps.kept_bytes_per_sample,
        compares_samples=trainee.compares_samples,
        **_columns(steps.first),
        **({} if steps.later is None else _columns(steps.later, "later_")),
    )


def ready(
    trainee: Trainee,
    spec: InputSpec,
    batch_size: int,
    training: Training,
    *,
    loss_scale: float = FIRST_LOSS_SCALE,
) -> tuple[Stepper, tuple[Tensor, Tensor]]:
    """Return what takes the trainee's steps, and a batch of noise on the trainee's device for it to step on."""
    lay_out(trainee)
    trainee.prepare()
    stepper = Stepper(trainee, training, learning_rate=training.learning_rate, loss_scale=loss_scale)
    device = next(trainee.parameters()).device
    inputs = noise(spec, batch_size, device=device)
    return stepper, (inputs, taking_turns(spec, batch_size, num_classes=FEWEST_CLASSES, device=device))


def _columns(step: TracedStep, prefix: str = "") -> dict[str, Any]:
    def column(name: str) -> NDArray[np.float64]:
        return np.array([getattr(operator, name) for operator in step.operators], dtype=np.float64)

    return {
        f"{prefix}operator_flops": column("flops"),
        f"{prefix}operator_bytes": column("bytes_moved"),
        f"{prefix}operator_kinds": column("kind").astype(np.int8),
        f"{prefix}operator_counts": None if step.counts is None else np.array(step.counts, dtype=np.float64),
    }


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
