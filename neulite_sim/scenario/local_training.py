"""The section `training` of a scenario: local training on one device."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from neulite_sim.bounds import (
    MOST_ITEMS,
    BatchSize,
    Decay,
    EpochCount,
    LearningRate,
    LearningRateOrNone,
    Norm,
    Ridge,
    RoundCount,
    Share,
)
from neulite_sim.registry import Options, refusal
from neulite_sim.scenario.component_fields import BareKind

Precision = Literal["fp32", "bf16", "fp16"]
MOST_PLANS = 32
"""Micro-batch sizes to choose from: each is profiled with and without checkpointing, in each precision."""
FrozenWeights = Literal["fp32", "bf16", "int8", "nf4"]
PrefixCache = Literal["none", "simulator", "device"]
NormKind = Literal["batch", "group"]
CheckpointingChoice = Literal["allowed", "never", "always"]


class Sgd(Options):
    """Stochastic gradient descent; `momentum` stands in `training`."""

    kind: Literal["sgd"] = "sgd"


class Adam(Options):
    """Adam (Kingma and Ba, 2015)."""

    kind: Literal["adam"] = "adam"
    beta1: Decay = 0.9
    """Decay of the running mean of gradients."""
    beta2: Decay = 0.999
    """Decay of the running mean of squared gradients."""
    epsilon: Ridge = 1e-8
    """Added to the denominator of a step."""


class Constant(Options):
    """The same learning rate in every round."""

    kind: Literal["constant"] = "constant"


class Step(Options):
    """The learning rate is multiplied by `factor` after each of the `milestones` (round numbers)."""

    kind: Literal["step"] = "step"
    milestones: tuple[RoundCount, ...] = Field(min_length=1, max_length=MOST_ITEMS)
    """Rounds, rising, after which the learning rate is smaller: with 2 it is whole in rounds 1 and 2 (MultiStepLR)."""
    factor: Share = 0.1
    """What the learning rate is multiplied by at each milestone."""

    @field_validator("milestones")
    @classmethod
    def _rising(cls, milestones: tuple[int, ...]) -> tuple[int, ...]:
        for earlier, later in itertools.pairwise(milestones):
            if later <= earlier:
                raise ValueError(f"{later} follows {earlier}; write each round once, in rising order")
        return milestones


class Cosine(Options):
    """The learning rate falls along half a cosine from its start to `final` over `rounds` rounds."""

    kind: Literal["cosine"] = "cosine"
    final: LearningRateOrNone = 0.0
    """Learning rate at the end of the fall and after it."""
    rounds: RoundCount | None = None
    """Length of the fall; `stop.rounds` where it is not given."""


class ShrinkBatch(Options):
    """A device whose memory does not hold the peak of a whole batch trains with a smaller one, in more steps."""

    minimum: BatchSize
    """Smallest batch: the charged batch size is halved, as often as needed, down to this and not below."""


class NoFit(Options):
    """Every device takes its steps as `training` says, or not at all."""

    kind: Literal["none"] = "none"


class AutoFit(Options):
    """Each device takes its steps in the fastest way whose peak it has memory for: a plan of this list.

    The optimizer step stays the same: gradients of micro-batches add up. Who has no memory for any plan is denied.
    """

    kind: Literal["auto"] = "auto"
    micro_batch_sizes: tuple[BatchSize, ...] | None = Field(None, min_length=1, max_length=MOST_PLANS)
    """Micro-batches that a device may train in, beside the whole batch; where it is not given the batch halved down to
    2, since BatchNorm can do nothing with one sample."""
    checkpointing: CheckpointingChoice = "allowed"
    """Whether a device may, may not or must keep only the input of each block."""
    precisions: tuple[Precision, ...] | None = Field(None, min_length=1, max_length=3)
    """Numbers of forward pass and loss to choose from; `training.precision` alone where it is not given."""

    @field_validator("micro_batch_sizes", "precisions")
    @classmethod
    def _each_once(cls, given: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        for place, item in enumerate(given or ()):
            if item in (given or ())[:place]:
                raise ValueError(f"{item} stands there twice; write each once")
        return given


class Training(Options):
    """Local training on one device."""

    epochs: EpochCount = 5
    """Passes over a device's own samples in each participation."""
    batch_size: BatchSize = 64
    """Samples per optimizer step."""
    learning_rate: LearningRate = 0.01
    """Learning rate of the first round."""
    learning_rate_schedule: Annotated[Constant | Step | Cosine, Field(discriminator="kind"), BareKind()] = Constant()
    """How the learning rate changes from round to round: constant, step or cosine."""
    optimizer: Annotated[Sgd | Adam, Field(discriminator="kind"), BareKind()] = Sgd()
    """What turns gradients into steps: sgd or adam."""
    momentum: Decay = 0.9
    """Momentum of sgd; 0 with adam, which has `beta1` instead."""
    weight_decay: LearningRateOrNone = 5e-4
    """L2 penalty added to gradients."""
    clip_norm: Norm | None = None
    """Largest L2 norm of a step's gradient; no limit where it is not given."""
    precision: Precision = "fp32"
    """Numbers of forward pass and loss. bf16 and fp16 halve most activations, but keep a second, half-size copy of
    the weights; the weights that are trained and sent stay fp32. fp16 scales the loss and skips steps that overflow."""
    frozen_weights: FrozenWeights = "fp32"
    """How devices hold the matrices that they do not train: fp32, bf16, int8 (a byte a number) or nf4 (half a byte and
    a scale for each 64). They are made whole for one product at a time. What travels stays fp32. Acts where a method
    freezes linear layers or embeddings."""
    micro_batch_size: BatchSize | None = None
    """Samples per forward and backward pass: a step adds up the gradients of its micro-batches. Less activation
    memory for more operators; BatchNorm and nHSIC see a micro-batch. The whole batch where it is not given."""
    checkpointing: bool = False
    """Keep only the input of each block and compute its activations again in the backward pass: less memory for about
    a third more work. Does not change what is learned."""
    prefix_cache: PrefixCache = "simulator"
    """Who keeps, from the first epoch of a flight to its last, what frozen first layers make of each sample: none, so
    that each epoch computes it anew; the simulator, for its own speed; or the device, which is charged for that memory
    and computes less. Acts where these layers are in evaluation mode and read samples without augmentation."""
    fit: Annotated[NoFit | AutoFit, Field(discriminator="kind"), BareKind()] = NoFit()
    """auto: each device fits its steps into the memory that it has, with micro-batches and checkpointing, and is denied
    only where nothing fits. none: `micro_batch_size`, `checkpointing` and `precision` hold for all devices."""
    norm: NormKind = "batch"
    """What normalises in the models: batch, as the architectures have it, or group, which puts GroupNorm in the place
    of every BatchNorm; it looks at each sample by itself, so that micro-batches change nothing."""
    shrink_batch: ShrinkBatch | None = None
    """Let a device halve its batch until the peak fits its memory; every device trains whole batches without it."""

    @model_validator(mode="before")
    @classmethod
    def _adam_starts_without_momentum(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or "momentum" in given:
            return given
        optimizer = given.get("optimizer")
        kind = optimizer.get("kind") if isinstance(optimizer, Mapping) else getattr(optimizer, "kind", optimizer)
        return {**given, "momentum": 0.0} if kind == "adam" else given

    @model_validator(mode="after")
    def _micro_batches_are_parts_of_a_batch(self) -> Self:
        if self.micro_batch_size is not None and self.micro_batch_size > self.batch_size:
            raise refusal(
                f"is {self.micro_batch_size}, above batch_size {self.batch_size}; use 1 to {self.batch_size}",
                "micro_batch_size",
                given=self.micro_batch_size,
            )
        return self

    @model_validator(mode="after")
    def _plans_decide_how_steps_are_taken(self) -> Self:
        if not isinstance(self.fit, AutoFit):
            return self
        if self.micro_batch_size is not None:
            raise refusal(
                f"is {self.micro_batch_size}, but with fit auto each device has its own; remove it, or give "
                "fit.micro_batch_sizes to choose from",
                "micro_batch_size", given=self.micro_batch_size,
            )  # fmt: skip
        if self.checkpointing:
            raise refusal(
                "is true, but with fit auto each device decides; remove it, or set fit.checkpointing: always",
                "checkpointing", given=True,
            )  # fmt: skip
        # A run's own scenario.yaml names every value: one at its default is nobody's wish.
        if self.fit.precisions is not None and self.precision != type(self).model_fields["precision"].default:
            raise refusal(
                f"is {self.precision}, but fit.precisions says what to choose from; remove one of them",
                "precision", given=self.precision,
            )  # fmt: skip
        return self

    @model_validator(mode="after")
    def _momentum_belongs_to_sgd(self) -> Self:
        if isinstance(self.optimizer, Adam) and self.momentum > 0:
            raise refusal(
                f"acts only with optimizer sgd, found {self.momentum:g} with adam; remove it, or set optimizer.beta1",
                "momentum",
                given=self.momentum,
            )
        return self
