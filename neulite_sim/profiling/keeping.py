"""The steps of a local training as they are traced: all alike, or those of a device that keeps its prefix's features.

Such a device takes each batch of the first epoch through the frozen prefix and keeps what comes out, and reads it in
later epochs. The table for all of its samples is there from its first batch to its last.

A training of several parts is traced part by part, as it runs: what the optimizer holds of the parts before is there in
those after.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from neulite_sim.models.prefix import PrefixKeeper, Rows
from neulite_sim.models.step import Stepper
from neulite_sim.models.trainee import Trainee
from neulite_sim.profiling.tracer import MemoryBytes, OperatorCost, StepTracer, trace
from neulite_sim.scenario.schema import Training

NUM_BATCHES = 2
"""Batches of the device that is traced: the first one makes the table, the second one finds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedStep:
    """The peak of a step, split and with rounded blocks, and its operators."""

    peak: MemoryBytes
    rounded_peak_bytes: int
    operators: list[OperatorCost]


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedSteps:
    """A part's step of the first epoch, and one of a later epoch where that is another: where features are kept.

    Their table is left out of the peaks: it takes `kept_bytes_per_sample` on top, for each sample of the device.
    """

    first: TracedStep
    later: TracedStep | None = None
    kept_bytes_per_sample: int = 0

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
) -> tuple[TracedSteps, ...]:
    """Return the steps of a device that trains as `training` says, traced on one batch, of each part of the training.

    Call it as `trace`: under `FakeTensorMode` to predict, plainly to audit.
    """
    return tuple(_part(trainee, stepper, batch, training, round_bytes) for _ in trainee.each_part())


def largest(parts: Sequence[TracedSteps]) -> MemoryBytes:
    """Return the split at the highest peak of any part, the first of those that are equal."""
    return max((part.peak for part in parts), key=lambda peak: peak.total)


def _part(
    trainee: Trainee, stepper: Stepper, batch: tuple[Tensor, Tensor], training: Training, round_bytes: int
) -> TracedSteps:
    if training.prefix_cache == "device" and training.epochs > 1:
        found = _keeping(trainee, stepper, batch, round_bytes)
        if found is not None:
            return found
    tracer = trace(trainee, stepper.optimizer, stepper.step, batch, round_bytes=round_bytes)
    return TracedSteps(first=_step(tracer))


def _step(tracer: StepTracer, table_bytes: int = 0, rounded_table_bytes: int = 0) -> TracedStep:
    peak = tracer.peak
    return TracedStep(
        peak=replace(peak, inputs=peak.inputs - table_bytes),
        rounded_peak_bytes=tracer.rounded_peak_bytes - rounded_table_bytes,
        operators=tracer.operators,
    )


def _keeping(trainee: Trainee, stepper: Stepper, batch: tuple[Tensor, Tensor], round_bytes: int) -> TracedSteps | None:
    """Return the steps of a device that keeps features; None where the trainee has no frozen prefix."""
    batch_size = len(batch[1])
    keeper = PrefixKeeper(NUM_BATCHES * batch_size, most_bytes=sys.maxsize, within_layers=False)
    batches = _batches(batch_size)
    steps: list[TracedStep] = []

    def step(inputs: Tensor, labels_B: Tensor) -> None:
        stepper.step(inputs, labels_B, rows=next(batches))

    def after(tracer: StepTracer) -> None:
        table_bytes = keeper.bytes_per_sample * NUM_BATCHES * batch_size
        steps.append(_step(tracer, table_bytes, -(-table_bytes // round_bytes) * round_bytes))
        tracer.mark(keeper.tables, "inputs")

    trainee.keeper = keeper
    trace(trainee, stepper.optimizer, step, batch, round_bytes=round_bytes, num_steps=NUM_BATCHES + 1, after=after)
    trainee.keeper = None
    if not keeper.tables:
        return None
    *_, first, later = steps
    return TracedSteps(first=first, later=later, kept_bytes_per_sample=keeper.bytes_per_sample)


def _batches(batch_size: int) -> Iterator[Rows]:
    """Yield the samples of each batch of the first epoch, then those of its first batch again."""
    for number in (*range(NUM_BATCHES), 0):
        yield np.arange(number * batch_size, (number + 1) * batch_size)
