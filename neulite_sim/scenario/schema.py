"""The scenario: one frozen value that holds everything needed to repeat a run.

`data`, `model` and `training` say what is studied. `workload` overrides them for what devices are charged, `proxy`
for what is really trained; without either, charged and trained are the same thing. Unknown keys are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from neulite_sim.bounds import (
    MOST_BATCH,
    MOST_ITEMS,
    MOST_PATH,
    BatchSize,
    ChannelCount,
    ClassCount,
    DeviceCount,
    Duration,
    EpochCount,
    Factor,
    Name,
    ResampledSide,
    RoundCount,
    SampleCount,
    Seed,
    Share,
    Side,
    Weight,
)
from neulite_sim.registry import BareKind, Choice, ComponentField, Options, refusal, refuse_inert
from neulite_sim.scenario.churn import Churn
from neulite_sim.scenario.inputs import InputFile
from neulite_sim.scenario.local_training import Adam, Constant, Cosine, Precision, Sgd, ShrinkBatch, Step, Training
from neulite_sim.units import DAY_S, BitsPerSecond, Bytes, Seconds

# What other modules find here, wherever it is written.
__all__ = [
    "Adam",
    "CachingAllocator",
    "Checkpoint",
    "Constant",
    "Cosine",
    "Evaluation",
    "Group",
    "Individuals",
    "Link",
    "NAME_PATTERN",
    "NoAllocator",
    "PopulationSection",
    "Precision",
    "Proxy",
    "Rate",
    "RateTrace",
    "Scenario",
    "ServerLink",
    "Sgd",
    "ShrinkBatch",
    "Step",
    "Stop",
    "Training",
    "Workload",
    "scenario_json_schema",
]

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class RateTrace(Options):
    """A rate of a link that follows a trace, one trace of a file per device."""

    trace: InputFile
    """File with the header `trace,t_s,bits_per_second`, beside the scenario's file or in the current folder."""
    scale: Factor = 1.0
    """What the rates of the file are multiplied by: 0.3 for an uplink that follows a downlink, for example."""
    repeat: bool = True
    """Whether a trace starts over when it ends; without it, the link carries nothing from then on."""
    start: Literal["random", "beginning"] = "random"
    """Where in its trace each device is at virtual time 0: at a moment drawn from the seed, or at the beginning."""


def _form_of_rate(given: object) -> str:
    return "from a file" if isinstance(given, Mapping | RateTrace) else "a number"


# Pydantic puts a tag into the place of an error; these can be no key of a scenario.
Rate = Annotated[
    Annotated[BitsPerSecond, Tag("a number")] | Annotated[RateTrace, Tag("from a file")], Discriminator(_form_of_rate)
]


class Link(Options):
    """A network link of a device."""

    downlink: Rate
    """Rate towards the device, such as 20Mbps, or {trace: FILE} for one that changes over time."""
    uplink: Rate
    """Rate from the device, such as 5Mbps, or {trace: FILE}; what names the same file follows the same trace."""
    latency: Annotated[Seconds, Field(le=DAY_S)] = 0.02
    """Delay of each transfer before its first byte, such as 20ms."""


class Individuals(Options):
    """A table of real devices: each device of a group is one of its rows."""

    path: InputFile
    """File with the column `model` and any of `memory_bytes`, `speed_factor`, rates and `weight`."""


class Group(Options):
    """A share of the fleet that is one kind of hardware."""

    device: Name
    """Name of a device of the hardware catalogue, or of the file that population.hardware names."""
    share: Weight
    """Weight of this group; the shares of all groups are scaled to add up to one."""
    available_memory: Annotated[Choice, ComponentField("available_memory")] | None = None
    """Where it differs from the population's."""
    link: Link | None = None
    """Where it differs from the population's."""
    individuals: Individuals | None = None
    """Installed memory, speed and nominal link per device, drawn together from a table; all alike without it."""


class PopulationSection(Options):
    """The fleet."""

    devices: DeviceCount
    """Number of devices."""
    groups: tuple[Group, ...] = Field(min_length=1, max_length=MOST_ITEMS)
    """Which hardware the fleet is made of."""
    hardware: InputFile | None = None
    """File (TOML) with hardware of your own, as `neulite-sim calibrate` prints it, that groups name by its names."""
    available_memory: Annotated[Choice, ComponentField("available_memory")]
    """Memory that training may use on each device."""
    memory_motion: Annotated[Choice, ComponentField("memory_motion")] = Field(default="constant", validate_default=True)
    """How that memory changes in time, as other programs take and free theirs."""
    availability: Annotated[Choice, ComponentField("availability")] = Field(default="always", validate_default=True)
    """When devices are online."""
    link: Link | None = None
    """The link of every device; the catalogue's nominal link where it is not given."""
    speed_jitter: float = Field(default=0.1, ge=0, le=2)
    """Sigma of a lognormal factor of mean one on the compute time of each flight."""


class Evaluation(Options):
    """When and how the global model is tested."""

    every_rounds: RoundCount = 1
    """The model is tested after each so many rounds, and after the last."""
    batch_size: BatchSize = 256
    """Test samples per forward pass."""
    batch_norm: Literal["running", "recalibrated"] = "running"
    """`recalibrated` rebuilds BatchNorm statistics from training samples before each test."""
    recalibration_samples: int = Field(default=512, ge=2, le=MOST_BATCH)
    """Number of training samples that `recalibrated` uses."""
    diagnostics: Annotated[tuple[Literal["nhsic_plane"], ...], Field(max_length=MOST_ITEMS)] = ()
    """What each test measures beside loss and accuracy, into diagnostics.csv. `nhsic_plane`: nHSIC(X; Z) and
    nHSIC(Y; Z) of every block, at the price of one more forward pass of `diagnostic_samples` images, all at once."""
    diagnostic_samples: int = Field(default=256, ge=3, le=4096)
    """Number of training samples for diagnostics, the same at every test; all where there are fewer."""
    targets: Annotated[tuple[Share, ...], Field(max_length=MOST_ITEMS)] = (0.5, 0.6, 0.7, 0.8, 0.9)
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

    @model_validator(mode="after")
    def _diagnostics_act(self) -> Self:
        if len(set(self.diagnostics)) < len(self.diagnostics):
            twice = next(name for name in self.diagnostics if self.diagnostics.count(name) > 1)
            raise refusal(f"names {twice} twice; name each once", "diagnostics", given=self.diagnostics)
        if not self.diagnostics:
            refuse_inert(self, {"diagnostic_samples": "evaluation.diagnostics"})
        return self


class Stop(Options):
    """The run ends at the first of these."""

    rounds: RoundCount
    """Number of rounds after which the run ends at the latest."""
    target_accuracy: Share | None = None
    """Test accuracy at which the run ends."""
    virtual_time: Duration | None = None
    """Virtual time at which the run ends, such as 48h."""


class NoAllocator(Options):
    """Tensor bytes alone are compared with the memory of devices."""

    kind: Literal["none"] = "none"


class CachingAllocator(Options):
    """Blocks are rounded up and the framework has a context; both count when devices are compared with a peak.

    512 bytes is the rounding of PyTorch's CUDA allocator. Blocks that an allocator keeps for later are not modelled.
    """

    kind: Literal["caching"] = "caching"
    round_bytes: Annotated[int, Field(ge=1, le=2**40)] = 512
    """Each block takes a multiple of as many bytes."""
    context: Bytes = 0
    """What the framework holds beside tensors, such as 300MB for a CUDA context."""


class Workload(Options):
    """What devices are charged for, where it differs from what is studied."""

    model: Annotated[Choice, ComponentField("model")] | None = None
    """Architecture that devices are charged for."""
    input_shape: tuple[ChannelCount, Side, Side] | None = None
    """Channels, height and width of an input."""
    classes: ClassCount | None = None
    """Number of classes."""
    samples_per_device: SampleCount | None = None
    """Number of samples of each device."""
    batch_size: BatchSize | None = None
    """Samples per optimizer step."""
    epochs: EpochCount | None = None
    """Passes over a device's own samples in each participation."""
    precision: Precision | None = None
    """Numbers of forward pass and loss: fp32, bf16 or fp16."""
    micro_batch_size: BatchSize | None = None
    """Samples per forward and backward pass; the batch size for whole batches."""
    checkpointing: bool | None = None
    """Whether only the input of each block is kept for the backward pass."""


class Proxy(Options):
    """What is really trained, where it differs from what is studied; always named as such in results."""

    width: Share | None = None
    """Share of the channels of each layer that is really trained."""
    image_size: ResampledSide | None = None
    """Side of the images that are really trained on."""
    batch_size: BatchSize | None = None
    """Samples per optimizer step."""
    epochs: EpochCount | None = None
    """Passes over a device's own samples in each participation."""
    precision: Precision | None = None
    """Numbers of forward pass and loss: fp32, bf16 or fp16."""
    micro_batch_size: BatchSize | None = None
    """Samples per forward and backward pass; the batch size for whole batches."""
    checkpointing: bool | None = None
    """Whether only the input of each block is kept for the backward pass."""


class ServerLink(Options):
    """The server's own link, which all transfers share fairly; no bottleneck where it is not given."""

    downlink: BitsPerSecond | None = None
    """Rate at which all devices together download, such as 100Mbps; no limit without it."""
    uplink: BitsPerSecond | None = None
    """Rate at which all devices together upload; no limit without it."""


class Checkpoint(Options):
    """How often a run keeps what `neulite-sim resume` needs beside the journal: the weights."""

    every_rounds: RoundCount = 10
    """A checkpoint is written after each so many rounds; a run that is killed loses what came after the last."""


class Scenario(Options):
    """Everything needed to repeat a run."""

    model_config = ConfigDict(title="neulite-sim scenario")

    name: str = Field(max_length=100, json_schema_extra={"pattern": NAME_PATTERN})
    """Names the run and its folder: letters, digits, '.', '_' and '-'."""
    seed: Seed = 0
    """Root of everything random; equal seeds give equal runs."""
    data: Annotated[Choice, ComponentField("data")]
    """Dataset, and how its samples are dealt to devices."""
    model: Annotated[Choice, ComponentField("model")]
    """Architecture of the global model."""
    training: Training = Training()
    """Local training on one device."""
    population: PopulationSection
    """The fleet of devices."""
    churn: Churn = Churn()
    """What interrupts or ends flights."""
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
    server: ServerLink = ServerLink()
    """What limits the server: the rate of its link."""
    checkpoint: Checkpoint = Checkpoint()
    """How often the run can be taken up again."""
    workload: Workload = Workload()
    """What devices are charged for, where it differs from what is studied."""
    proxy: Proxy = Proxy()
    """What is really trained, where it differs from what is studied."""
    allocator: Annotated[NoAllocator | CachingAllocator, Field(discriminator="kind"), BareKind()] = NoAllocator()
    """What is added to tensor bytes before they are compared with a device's memory: none or caching."""
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

    @model_validator(mode="after")
    def _overridden_micro_batches_are_parts_of_a_batch(self) -> Self:
        for name, section in (("workload", self.workload), ("proxy", self.proxy)):
            batch_size = section.batch_size or self.training.batch_size
            micro_batch_size = section.micro_batch_size or self.training.micro_batch_size
            if micro_batch_size is not None and micro_batch_size > batch_size:
                raise refusal(
                    f"micro-batches of {micro_batch_size} are larger than the batch of {batch_size} that {name} comes "
                    f"to; set {name}.micro_batch_size to 1 to {batch_size}",
                    name,
                    "micro_batch_size",
                    given=micro_batch_size,
                )
        return self

    @model_validator(mode="after")
    def _a_batch_can_shrink(self) -> Self:
        shrink, charged = self.training.shrink_batch, self.workload.batch_size or self.training.batch_size
        if shrink is not None and (half := charged // 2) < shrink.minimum:
            wish = f"use 1 to {half}, or remove training.shrink_batch" if half else "remove training.shrink_batch"
            raise refusal(
                f"is {shrink.minimum}, but half of the batch of {charged} that devices are charged for is less: no "
                f"device could shrink its batch; {wish}",
                "training", "shrink_batch", "minimum", given=shrink.minimum,
            )  # fmt: skip
        return self

    @model_validator(mode="after")
    def _churn_acts(self) -> Self:
        churn, population = self.churn, self.population
        stays = population.availability.kind == "always" and churn.outages is None and churn.battery is None
        if churn.offline == "pause" and stays:
            raise refusal(
                "pause acts only where devices go offline, and population.availability is always; remove it, or set "
                "population.availability, churn.outages or churn.battery",
                "churn", "offline", given=churn.offline,
            )  # fmt: skip
        groups = None if churn.outages is None else churn.outages.groups
        if isinstance(groups, int) and groups > population.devices:
            raise refusal(
                f"is {groups}, and there are {population.devices} devices; use 1 to {population.devices}",
                "churn", "outages", "groups", given=groups,
            )  # fmt: skip
        return self

    @model_validator(mode="after")
    def _components_go_together(self) -> Self:
        for choice in (self.data, self.model, self.method, self.selection, self.protocol, self.backend):
            choice.options.check_beside(self)
        return self

    def dump(self) -> dict[str, Any]:
        """Return plain values that load back into an equal scenario."""
        return self.model_dump(mode="json")


def scenario_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a scenario file, options of every installed component that can be loaded included.

    A file that `extends` another may leave out top-level keys; everything else is checked as in a complete file.
    """
    schema = Scenario.model_json_schema()
    extends = {
        "type": "string",
        "maxLength": MOST_PATH,
        "description": "Scenario file to start from, relative to this file.",
    }
    required = schema.pop("required")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "properties": {"extends": extends, **schema["properties"]},
        "anyOf": [{"required": ["extends"]}, {"required": required}],
    }
