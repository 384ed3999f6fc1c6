"""The steps of a local training as they are traced: all alike, or those of a device that keeps its prefix's features.

Such a device takes each batch of the first epoch through the frozen prefix and keeps what comes out, and reads it in
later epochs. The table for all of its samples is there from its first batch to its last.

A training of several parts is traced part by part, as it runs: what the optimizer holds of the parts before is there in
those after.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from neulite_sim.models.prefix import PrefixKeeper, Rows
from neulite_sim.models.step import Stepper
from neulite_sim.models.trainee import Trainee
from neulite_sim.profiling.alike import give_states, is_worthwhile, take_alike_steps
from neulite_sim.profiling.allocations import AllocationLog
from neulite_sim.profiling.micro_batches import MicroBatches
from neulite_sim.profiling.tracer import MemoryBytes, OperatorCost, StepTracer, trace
from neulite_sim.scenario.schema import Training

NUM_BATCHES = 2
"""Batches of the device that is traced: the first one makes the table, the second one finds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedStep:
    """The peak of a step, split and with rounded blocks, its operators, and how often each happens; None: once."""

    peak: MemoryBytes
    rounded_peak_bytes: int
    operators: list[OperatorCost]
    counts: list[int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedSteps:
    """A part's step of the first epoch, and one of a later epoch where that is another: where features are kept.

    Their table is left out of the peaks: it takes `kept_bytes_per_sample` on top, for each sample of the device.
    """

    first: TracedStep
    later: TracedStep | None = None
    kept_bytes_per_sample: int = 0
    table_bytes: int = 0
    """Size of the table while the steps were traced."""

    @property
    def peak(self) -> MemoryBytes:
        """The split at the highest peak."""
        return max(self._steps, key=lambda step: step.peak.total).peak

    @property
    def rounded_peak_bytes(self) -> int:
        """The highest peak with rounded blocks."""
        return max(step.rounded_peak_bytes for step in self._steps)

    @property
    def _steps(self) -> tuple[TracedStep, ...]:
        return (self.first,) if self.later is None else (self.first, self.later)


def trace_training(
    trainee: Trainee,
    stepper: Stepper,
    batch: tuple[Tensor, Tensor],
    training: Training,
    *,
    round_bytes: int = 1,
    micro_batches: MicroBatches | None = None,
    log: AllocationLog | None = None,
) -> tuple[TracedSteps, ...]:
    """Return the steps of a device that trains as `training` says, traced on one batch, of each part of the training.

    Call it as `trace`: under `FakeTensorMode` to predict, plainly to audit. With `micro_batches` the batch is
    that of those which stand for all of them. A `log` is told of all blocks, and when each part ends.
    """
    tracing = _Tracing(batch=batch, round_bytes=round_bytes, micro_batches=micro_batches, log=log)
    return tuple(_part(trainee, stepper, tracing, training) for _ in trainee.each_part())


def largest(parts: Sequence[TracedSteps]) -> MemoryBytes:
    """Return the split at the highest peak of any part, the first of those that are equal."""
    return max((part.peak for part in parts), key=lambda peak: peak.total)


def _part(trainee: Trainee, stepper: Stepper, tracing: _Tracing, training: Training) -> TracedSteps:
    found = None
    if training.prefix_cache == "device" and training.epochs > 1:
        found = _keeping(trainee, stepper, tracing)
    if found is None:
        tracer = tracing.trace(trainee, stepper, stepper.step)
        found = TracedSteps(first=tracing.step(tracer))
    if tracing.log is not None:
        tracing.log.end_part()
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tracing:
    """How steps are traced, and made the steps of whole batches."""

    batch: tuple[Tensor, Tensor]
    round_bytes: int
    micro_batches: MicroBatches | None
    log: AllocationLog | None

    def trace(
        self, trainee: Trainee, stepper: Stepper, step: Callable[[Tensor, Tensor], None], **how: Any
    ) -> StepTracer:
        """Return the tracer after the last step; it knows where micro-batches ended."""

        def begun(tracer: StepTracer) -> None:
            stepper.after_micro_batch = tracer.note_end
            if self._is_long(trainee, stepper):
                stepper.take_step = functools.partial(take_alike_steps, tracer)

        if how.get("num_steps", 2) == 2 and self._is_long(trainee, stepper):
            how["first"] = functools.partial(give_states, optimizer=stepper.optimizer, parameters=stepper.trainable)

        how |= {"round_bytes": self.round_bytes, "begun": begun, "log": self.log}
        tracer = trace(trainee, stepper.optimizer, step, self.batch, **how)
        stepper.after_micro_batch = None
        return tracer

    def _is_long(self, trainee: Trainee, stepper: Stepper) -> bool:
        """Return whether a step takes so long that what is alike in it is traced once: of networks that read tokens."""
        return not self.batch[0].is_floating_point() and is_worthwhile(trainee, stepper.trainable)

    def step(self, tracer: StepTracer, table_bytes: int = 0) -> TracedStep:
        """Return the last traced step, with the whole batch's inputs and without the table of kept features."""
        peak = tracer.peak
        whole_bytes, rounded_bytes = self._left_out_bytes()
        return TracedStep(
            peak=replace(peak, inputs=peak.inputs + whole_bytes - table_bytes),
            rounded_peak_bytes=tracer.rounded_peak_bytes + rounded_bytes - self._rounded(table_bytes),
            operators=tracer.operators,
            counts=None
            if self.micro_batches is None
            else self.micro_batches.counts(tracer.ends, len(tracer.operators)),
        )

    def _left_out_bytes(self) -> tuple[int, int]:
        """Return the bytes of the samples that are not traced, plain and as blocks; they are there all the time."""
        if self.micro_batches is None or not self.micro_batches.num_left_out:
            return 0, 0
        whole, rounded = 0, 0
        for tensor in self.batch:
            traced_bytes = tensor.numel() * tensor.element_size()
            all_bytes = traced_bytes // self.micro_batches.num_traced * sum(self.micro_batches.sizes)
            whole += all_bytes - traced_bytes
            rounded += self._rounded(all_bytes) - self._rounded(traced_bytes)
        return whole, rounded

    def _rounded(self, num_bytes: int) -> int:
        return -(-num_bytes // self.round_bytes) * self.round_bytes


def _keeping(trainee: Trainee, stepper: Stepper, tracing: _Tracing) -> TracedSteps | None:
    """Return the steps of a device that keeps features; None where the trainee has no frozen prefix."""
    batch = tracing.batch
    batch_size = len(batch[1])
    num_samples = NUM_BATCHES * batch_size
    # What is tried out in other company is work of the simulator's, not of a device.
    keeper = PrefixKeeper(num_samples, most_bytes=sys.maxsize, within_layers=False, tries_company=False)
    batches = _batches(batch_size)
    steps: list[TracedStep] = []

    def step(inputs: Tensor, labels_B: Tensor) -> None:
        stepper.step(inputs, labels_B, rows=next(batches))

    def after(tracer: StepTracer) -> None:
        steps.append(tracing.step(tracer, keeper.bytes_per_sample * NUM_BATCHES * batch_size))
        tracer.mark(keeper.tables, "inputs")

    trainee.keeper = keeper
    tracing.trace(trainee, stepper, step, num_steps=NUM_BATCHES + 1, after=after)
    trainee.keeper = None
    if not keeper.tables:
        return None
    *_, first, later = steps
    return TracedSteps(
        first=first,
        later=later,
        kept_bytes_per_sample=keeper.bytes_per_sample,
        table_bytes=keeper.bytes_per_sample * NUM_BATCHES * batch_size,
    )


def _batches(batch_size: int) -> Iterator[Rows]:
    """Yield the samples of each batch of the first epoch, then those of its first batch again."""
    for number in (*range(NUM_BATCHES), 0):
        yield np.arange(number * batch_size, (number + 1) * batch_size)
