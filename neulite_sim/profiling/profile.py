"""Profile: what one submodel's local training costs, with no device in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from neulite_sim.arrays import Integers
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.models.fakes.mode import FakeMode
from neulite_sim.models.noise import noise, taking_turns
from neulite_sim.models.step import FIRST_LOSS_SCALE, Stepper, stepper_of
from neulite_sim.models.stored_weights import store_frozen
from neulite_sim.models.trainee import Trainee, lay_out
from neulite_sim.profiling.allocations import AllocationLog, AllocationRecorder
from neulite_sim.profiling.keeping import TracedStep, TracedSteps, largest, trace_training
from neulite_sim.profiling.micro_batches import MicroBatches
from neulite_sim.profiling.process import process_peaks
from neulite_sim.profiling.roofline import Kinds
from neulite_sim.profiling.tracer import MemoryBytes
from neulite_sim.samples import ImageShape, InputSpec, spec_of
from neulite_sim.scenario.schema import CachingAllocator, GlibcAllocator, NoAllocator, Training
from neulite_sim.user_code.drawing import seeded

NO_ALLOCATOR = NoAllocator()
PLAIN_PROCESS = GlibcAllocator()
AnyAllocator = NoAllocator | CachingAllocator | GlibcAllocator
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
    framework's context, None where no caching allocator is modelled. `process_bytes` is the predicted peak of the whole
    process on a processor, its runtime included; None in a profile that was made without it.

    Where devices keep the features of a frozen prefix, the operators are those of a step of the first epoch, which
    makes them, and `later_operator_...` those of any other, which reads them; `kept_bytes_per_sample` comes on top of
    the peak for each sample of a device.

    Of a local training in several parts, the peak is that of the largest, and the operators are those of one step of
    each: as many steps of one part follow those of another. `part_peaks_bytes` and `part_kept_bytes_per_sample` are
    the peak and the kept bytes of each part; empty where there is one part. `memory_bytes` goes by them.
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
    part_peaks_bytes: tuple[int, ...] = ()
    part_kept_bytes_per_sample: tuple[int, ...] = ()
    process_bytes: int | None = None
    loaded_bytes: int = 0
    """Bytes of the samples of a step as a network reads them: what loading is charged for, in the first epoch."""
    compared_with_memory: str = "tensor_bytes"
    """The name of the peak that is compared with the memory of devices."""

    @property
    def tensor_bytes(self) -> int:
        """Highest total of live tensor bytes during a training step."""
        return self.memory.total

    @property
    def peak_memory_bytes(self) -> int:
        """What is compared with the memory of devices: the peak that `compared_with_memory` names.

        Where features are kept, a device needs the bytes of these on top: `memory_bytes`.
        """
        return int(getattr(self, self.compared_with_memory))

    def memory_bytes(self, num_samples: Integers) -> Integers:
        """Return what devices with so many samples need: the peak, and what they keep of each sample in that part."""
        parts = zip(self.part_peaks_bytes, self.part_kept_bytes_per_sample, strict=True)
        needed = [peak + kept * num_samples for peak, kept in parts]
        return np.max(needed, axis=0) if needed else self.peak_memory_bytes + self.kept_bytes_per_sample * num_samples

    @property
    def flops_per_step(self) -> int:
        """Floating-point operations of one step (the first epoch's), forward, backward and optimizer.

        Matrix products only.
        """
        return int(
            (self.operator_flops if self.operator_counts is None else self.operator_flops * self.operator_counts).sum()
        )


# A network that draws in its forward is charged for the same step in every process.
@seeded(0)
def profile(
    submodel: str,
    build: Callable[[], Trainee],
    *,
    batch_size: int,
    training: Training,
    spec: InputSpec | None = None,
    input_shape: ImageShape | None = None,
    allocator: AnyAllocator = NO_ALLOCATOR,
) -> Profile:
    """Return the predicted cost of a submodel: two training steps (of each part) on fake tensors, without arithmetic.

    `build` makes the trainee; it is called under a fake mode and must not read the values of tensors. It steps on
    noise of `spec`, or on images of `input_shape` where that is given in its place. With an `allocator` the profile
    also says, and is compared with devices by, what that allocator would hold, or the process around it. With
    `training.prefix_cache` device, and more than one epoch, three steps are taken, see `keeping`. The peak is that of
    `Trainee.at_worst` where it has one.

    Raises:
        ScenarioError: nothing of the trainee is trained; or checkpointing is asked for, and the trainee applies none of
            its blocks with `Trainee.through`.
    """
    spec = spec_of(spec, input_shape, FEWEST_CLASSES if spec is None else None)
    log = AllocationLog()
    with FakeMode():
        with AllocationRecorder(log):
            trainee = build()
        _require_parameters(submodel, trainee)
        tracing = _Tracing(spec=spec, training=training, batch_size=batch_size, allocator=allocator)
        parts, peaks = tracing.traced(trainee, log)
        heaviest, log = parts, AllocationLog()
        with AllocationRecorder(log):
            worst = trainee.at_worst(training)
        if worst is not None:
            heaviest, peaks = tracing.traced(worst, log)
    _require_blocks(submodel, trainee, training)
    travelling = dict(trainee.travelling())
    changes = any(part.later is not None for part in parts)
    kept = tuple(part.kept_bytes_per_sample for part in parts)
    compared = peaks[allocator.compared_with_memory]
    return Profile(
        submodel=submodel,
        batch_size=batch_size,
        parameters=sum(tensor.numel() for tensor in (*trainee.parameters(), *trainee.stored_away.values())),
        trainable_parameters=sum(p.numel() for p in trainee.parameters() if p.requires_grad),
        memory=largest(heaviest),
        bytes_down=sum(_num_bytes(travelling[name]) for name in trainee.download_names()),
        bytes_up=sum(_num_bytes(travelling[name]) for name in trainee.sent_names()),
        micro_batch_sizes=tracing.micro_batches.sizes,
        allocator_bytes=max(peaks["allocator_bytes"]) if "allocator_bytes" in peaks else None,
        kept_bytes_per_sample=max(kept),
        part_peaks_bytes=compared if len(parts) > 1 else (),
        part_kept_bytes_per_sample=kept if len(parts) > 1 else (),
        compares_samples=trainee.compares_samples,
        process_bytes=max(peaks["process_bytes"]),
        loaded_bytes=spec.num_bytes * batch_size * len(parts),
        compared_with_memory=allocator.compared_with_memory,
        **_columns([part.first for part in parts]),
        **(_columns([part.later or part.first for part in parts], "later_") if changes else {}),
    )


def _require_parameters(submodel: str, trainee: Trainee) -> None:
    if not any(parameter.requires_grad for parameter in trainee.parameters()):
        finding = f"submodel {submodel} has no parameter to train on this model"
        hint = "choose a model with more blocks, or another method"
        raise ScenarioError([Problem.advising(key="method", found=finding, hint=hint)])


def _require_blocks(submodel: str, trainee: Trainee, training: Training) -> None:
    """Refuse to checkpoint what has just been traced and applied no block."""
    if training.checkpointing and not trainee.num_blocks_applied:
        finding = f"true has no effect on {submodel}: its trainee applies no block with Trainee.through"
        hint = "set it to false, or use another method"
        raise ScenarioError([Problem.advising(key=CHECKPOINTING, found=finding, hint=hint)])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tracing:
    """How a submodel is traced; its trainee may be traced in several states."""

    spec: InputSpec
    training: Training
    batch_size: int
    allocator: AnyAllocator

    @property
    def micro_batches(self) -> MicroBatches:
        """The micro-batches of a step."""
        return MicroBatches.of(self.batch_size, self.training.micro_batch_size)

    def traced(
        self, trainee: Trainee, log: AllocationLog
    ) -> tuple[tuple[TracedSteps, ...], Mapping[str, tuple[int, ...]]]:
        """Return the steps of each part, and the peaks of each part by name; `log` knows how the trainee was built."""
        micro_batches, allocator = self.micro_batches, self.allocator
        round_bytes = allocator.round_bytes if isinstance(allocator, CachingAllocator) else 1
        with AllocationRecorder(log):
            stepper, batch = ready(trainee, self.spec, micro_batches.num_traced, self.training)
        parts = trace_training(
            trainee, stepper, batch, self.training, round_bytes=round_bytes, micro_batches=micro_batches, log=log
        )
        left_out_bytes = sum(map(_num_bytes, batch)) // micro_batches.num_traced * micro_batches.num_left_out
        process = allocator if isinstance(allocator, GlibcAllocator) else PLAIN_PROCESS
        tables = (part.table_bytes for part in parts)
        found = process_peaks(log, process, more_bytes=left_out_bytes)
        peaks = {
            "tensor_bytes": tuple(part.peak.total for part in parts),
            "process_bytes": tuple(peak - table for peak, table in zip(found, tables, strict=True)),
        }
        if isinstance(allocator, CachingAllocator):
            peaks["allocator_bytes"] = tuple(part.rounded_peak_bytes + allocator.context for part in parts)
        return parts, peaks


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
    trainee.stored_away = store_frozen(trainee, training.frozen_weights)
    trainee.prepare()
    stepper = stepper_of(trainee, training, learning_rate=training.learning_rate, loss_scale=loss_scale)
    device = next(trainee.parameters()).device
    inputs = noise(spec, batch_size, device=device)
    return stepper, (inputs, taking_turns(spec, batch_size, num_classes=FEWEST_CLASSES, device=device))


def _columns(steps: Sequence[TracedStep], prefix: str = "") -> dict[str, Any]:
    """Return the columns of a step of each part, one after the other."""
    operators = [operator for step in steps for operator in step.operators]

    def column(name: str) -> NDArray[np.float64]:
        return np.array([getattr(operator, name) for operator in operators], dtype=np.float64)

    counts = [count for step in steps for count in step.counts or [1] * len(step.operators)]
    return {
        f"{prefix}operator_flops": column("flops"),
        f"{prefix}operator_bytes": column("bytes_moved"),
        f"{prefix}operator_kinds": column("kind").astype(np.int8),
        f"{prefix}operator_counts": np.array(counts, dtype=np.float64) if any(step.counts for step in steps) else None,
    }


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
