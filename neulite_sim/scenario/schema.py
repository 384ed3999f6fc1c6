"""The scenario: one frozen value that holds everything needed to repeat a run.

`data`, `model` and `training` say what is studied. `workload` overrides them for what devices are charged, `proxy`
for what is really trained; without either, charged and trained are the same thing. Unknown keys are refused.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from neulite_sim.registry import BareKind, Choice, ComponentField, Options, refusal
from neulite_sim.units import BitsPerSecond, Seconds

Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class Sgd(Options):
    """Stochastic gradient descent; `momentum` stands in `training`."""

    kind: Literal["sgd"] = "sgd"


class Adam(Options):
    """Adam (Kingma and Ba, 2015)."""

    kind: Literal["adam"] = "adam"
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the running mean of gradients."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the running mean of squared gradients."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the denominator of a step."""


class Constant(Options):
    """The same learning rate in every round."""

    kind: Literal["constant"] = "constant"


class Step(Options):
    """The learning rate is multiplied by `factor` at each of the `milestones` (round numbers)."""

    kind: Literal["step"] = "step"
    milestones: tuple[Count, ...] = Field(min_length=1)
    """Rounds, rising, from which on the learning rate is smaller."""
    factor: float = Field(default=0.1, gt=0, le=1)
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
    final: float = Field(default=0.0, ge=0)
    """Learning rate at the end of the fall and after it."""
    rounds: Count | None = None
    """Length of the fall; `stop.rounds` where it is not given."""


class Training(Options):
    """Local training on one device."""

    epochs: Count = 5
    """Passes over a device's own samples in each participation."""
    batch_size: Count = 64
    """Samples per optimizer step."""
    learning_rate: float = Field(default=0.01, gt=0)
    """Learning rate of the first round."""
    learning_rate_schedule: Annotated[Constant | Step | Cosine, Field(discriminator="kind"), BareKind()] = Constant()
    """How the learning rate changes from round to round: constant, step or cosine."""
    optimizer: Annotated[Sgd | Adam, Field(discriminator="kind"), BareKind()] = Sgd()
    """What turns gradients into steps: sgd or adam."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of sgd; 0 with adam, which has `beta1` instead."""
    weight_decay: float = Field(default=5e-4, ge=0)
    """L2 penalty added to gradients."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Largest L2 norm of a step's gradient; no limit where it is not given."""

    @model_validator(mode="before")
    @classmethod
    def _adam_starts_without_momentum(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or "momentum" in given:
            return given
        optimizer = given.get("optimizer")
        kind = optimizer.get("kind") if isinstance(optimizer, Mapping) else getattr(optimizer, "kind", optimizer)
        return {**given, "momentum": 0.0} if kind == "adam" else given

    @model_validator(mode="after")
    def _momentum_belongs_to_sgd(self) -> Self:
        if isinstance(self.optimizer, Adam) and self.momentum > 0:
            raise refusal(
                f"acts only with optimizer sgd, found {self.momentum:g} with adam; remove it, or set optimizer.beta1",
                "momentum",
                given=self.momentum,
            )
        return self


class Link(Options):
    """A network link of a device."""

    downlink: BitsPerSecond
    """Rate towards the device, such as 20Mbps."""
    uplink: BitsPerSecond
    """Rate from the device, such as 5Mbps."""
    latency: Seconds = 0.02
    """Delay of each transfer before its first byte, such as 20ms."""


class Group(Options):
    """A share of the fleet that is one kind of hardware."""

    device: str
    """Name of a device of the hardware catalogue."""
    share: float = Field(gt=0)
    """Weight of this group; the shares of all groups are scaled to add up to one."""
    available_memory: Annotated[Choice, ComponentField("available_memory")] | None = None
    """Where it differs from the population's."""
    link: Link | None = None
    """Where it differs from the population's."""


class PopulationSection(Options):
    """The fleet."""

    devices: Count
    """Number of devices."""
    groups: tuple[Group, ...] = Field(min_length=1)
    """Which hardware the fleet is made of."""
    available_memory: Annotated[Choice, ComponentField("available_memory")]
    """Memory that training may use on each device."""
    availability: Annotated[Choice, ComponentField("availability")] = Field(default="always", validate_default=True)
    """When devices are online."""
    link: Link | None = None
    """The link of every device; the catalogue's nominal link where it is not given."""
    speed_jitter: float = Field(default=0.1, ge=0, le=2)
    """Sigma of a lognormal factor of mean one on the compute time of each flight."""


class Evaluation(Options):
    """When and how the global model is tested."""

    every_rounds: Count = 1
    """The model is tested after each so many rounds, and after the last."""
    batch_size: Count = 256
    """Test samples per forward pass."""
    batch_norm: Literal["running", "recalibrated"] = "running"
    """`recalibrated` rebuilds BatchNorm statistics from training samples before each test."""
    recalibration_samples: int = Field(default=512, ge=2)
    """Number of training samples that `recalibrated` uses."""
    targets: tuple[Share, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)
    """Accuracies whose first virtual time is reported."""

    @model_validator(mode="after")
    def _samples_belong_to_recalibration(self) -> Self:
        usual = type(self).model_fields["recalibration_samples"].default
        if self.batch_norm == "running" and self.recalibration_samples != usual:
            raise refusal(
                f"acts only with batch_norm recalibrated, found {self.recalibration_samples} with running; "
                f"remove it, or set evaluation.batch_norm",
                "recalibration_samples",
                given=self.recalibration_samples,
            )
        return self


class Stop(Options):
    """The run ends at the first of these."""

    rounds: Count
    """Number of rounds after which the run ends at the latest."""
    target_accuracy: Share | None = None
    """Test accuracy at which the run ends."""
    virtual_time: Annotated[Seconds, Field(gt=0)] | None = None
    """Virtual time at which the run ends, such as 48h."""


class Workload(Options):
    """What devices are charged for, where it differs from what is studied."""

    model: Annotated[Choice, ComponentField("model")] | None = None
    """Architecture that devices are charged for."""
    input_shape: tuple[Count, Count, Count] | None = None
    """Channels, height and width of an input."""
    classes: int | None = Field(default=None, ge=2)
    """Number of classes."""
    samples_per_device: Count | None = None
    """Number of samples of each device."""
    batch_size: Count | None = None
    """Samples per optimizer step."""
    epochs: Count | None = None
    """Passes over a device's own samples in each participation."""


class Proxy(Options):
    """What is really trained, where it differs from what is studied; always named as such in results."""

    width: Share | None = None
    """Share of the channels of each layer that is really trained."""
    image_size: int | None = Field(default=None, ge=4)
    """Side of the images that are really trained on."""
    batch_size: Count | None = None
    """Samples per optimizer step."""
    epochs: Count | None = None
    """Passes over a device's own samples in each participation."""


class Scenario(Options):
    """Everything needed to repeat a run."""

    model_config = ConfigDict(title="neulite-sim scenario")

    name: str = Field(max_length=100, json_schema_extra={"pattern": NAME_PATTERN})
    """Names the run and its folder: letters, digits, '.', '_' and '-'."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Root of everything random; equal seeds give equal runs."""
    data: Annotated[Choice, ComponentField("data")]
    """Dataset, and how its samples are dealt to devices."""
    model: Annotated[Choice, ComponentField("model")]
    """Architecture of the global model."""
    training: Training = Training()
    """Local training on one device."""
    population: PopulationSection
    """The fleet of devices."""
    method: Annotated[Choice, ComponentField("method")]
    """Federated-learning method."""
    selection: Annotated[Choice, ComponentField("selection")] = Field(default="uniform", validate_default=True)
    """How devices are chosen among those that could take part."""
    protocol: Annotated[Choice, ComponentField("protocol")] = Field(default="synchronous", validate_default=True)
    """When work is dispatched and when updates are digested."""
    evaluation: Evaluation = Evaluation()
    """When and how the global model is tested."""
    stop: Stop
    """When the run ends."""
    workload: Workload = Workload()
    """What devices are charged for, where it differs from what is studied."""
    proxy: Proxy = Proxy()
    """What is really trained, where it differs from what is studied."""
    backend: Annotated[Choice, ComponentField("backend")] = Field(default="ray", validate_default=True)
    """Where the local training runs."""

    @field_validator("name")
    @classmethod
    def _fit_for_a_folder(cls, name: str) -> str:
        if not re.fullmatch(NAME_PATTERN, name):
            raise ValueError(
                f"{name!r} must start with a letter or a digit and hold only letters, digits, '.', '_' and '-'"
            )
        return name

    def dump(self) -> dict[str, Any]:
        """Return plain values that load back into an equal scenario."""
        return self.model_dump(mode="json")


def scenario_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a scenario file, options of every installed component included.

    A file that `extends` another may leave out top-level keys; everything else is checked as in a complete file.

    Raises:
        UnknownComponentError: an installed component cannot be loaded.
    """
    schema = Scenario.model_json_schema()
    extends = {"type": "string", "description": "Scenario file to start from, relative to this file."}
    required = schema.pop("required")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "properties": {"extends": extends, **schema["properties"]},
        "anyOf": [{"required": ["extends"]}, {"required": required}],
    }
