"""The scenario: one frozen value that holds everything needed to repeat a run.

`data`, `model` and `training` say what is studied. `workload` overrides them for what devices are charged, `proxy`
for what is really trained; without either, charged and trained are the same thing. Unknown keys are refused.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, PrivateAttr, field_validator, model_validator

from neulite_sim.bounds import MOST_PATH, Seed
from neulite_sim.registry import GROUPS, Choice, JsonSchemas, Options, load_all, refusal
from neulite_sim.scenario.brief import brief_values
from neulite_sim.scenario.churn import Churn
from neulite_sim.scenario.component_fields import BareKind, ComponentField
from neulite_sim.scenario.course import Checkpoint, Evaluation, Stop
from neulite_sim.scenario.energy import DevicePower, Energy
from neulite_sim.scenario.fleet import Group, Individuals, PopulationSection
from neulite_sim.scenario.ledgers import CachingAllocator, GlibcAllocator, NoAllocator, Proxy, Workload
from neulite_sim.scenario.links import Link, Rate, RateTrace, ServerLink
from neulite_sim.scenario.local_training import (
    Adam,
    AutoFit,
    Constant,
    Cosine,
    Precision,
    Sgd,
    ShrinkBatch,
    Step,
    Training,
)
from neulite_sim.scenario.written import Written
from neulite_sim.scenario.yaml_writing import as_yaml

# What other modules find here, wherever it is written.
__all__ = [
    "Adam",
    "AutoFit",
    "CachingAllocator",
    "Checkpoint",
    "Constant",
    "Cosine",
    "DevicePower",
    "Energy",
    "Evaluation",
    "GlibcAllocator",
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
    allocator: Annotated[NoAllocator | CachingAllocator | GlibcAllocator, Field(discriminator="kind"), BareKind()] = (
        NoAllocator()
    )
    """Which memory is compared with a device's: that of tensors (none), with rounded blocks (caching), or the whole
    process's (glibc)."""
    backend: Annotated[Choice, ComponentField("backend")] = Field(default="ray", validate_default=True)
    """Where the local training runs."""
    energy: Energy | None = None
    """Joules in the rows, and the watts of devices; without it the summary has joules by the table of devices."""
    _written: Written = PrivateAttr(default_factory=Written)

    @property
    def written(self) -> Written:
        """Where its values stand."""
        return self._written

    @property
    def brought(self) -> tuple[str, ...]:
        """The fields whose code, which takes part in every round, is not this project's."""
        return tuple(name for name in ("data", "model", "method", "selection", "protocol")
                     if getattr(self, name).is_brought)  # fmt: skip

    def written_in(self, written: Written) -> Scenario:
        """Return the scenario, which was read from there."""
        copy = self.model_copy()
        copy._written = written
        return copy

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
    def _plans_are_of_the_charged_batch(self) -> Self:
        fit, workload = self.training.fit, self.workload
        if not isinstance(fit, AutoFit):
            return self
        charged = workload.batch_size or self.training.batch_size
        for place, size in enumerate(fit.micro_batch_sizes or ()):
            if size > charged:
                raise refusal(
                    f"is {size}, but devices are charged for batches of {charged}; use 1 to {charged}",
                    "training", "fit", "micro_batch_sizes", place, given=size,
                )  # fmt: skip
        wishes = {
            "micro_batch_size": "give training.fit.micro_batch_sizes to choose from",
            "checkpointing": "set training.fit.checkpointing: always or never",
            **({"precision": "leave it to training.fit.precisions"} if fit.precisions else {}),
        }
        for name, wish in wishes.items():
            given = getattr(workload, name)
            if given is not None:
                raise refusal(
                    f"is {str(given).lower()}, but with training.fit auto each device has its own; remove it, "
                    f"and {wish}",
                    "workload", name, given=given,
                )  # fmt: skip
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
        stays = stays and (self.energy is None or self.energy.battery is None)
        if churn.offline == "pause" and stays:
            raise refusal(
                "pause acts only where devices go offline, and population.availability is always; remove it, or set "
                "population.availability, churn.outages, churn.battery or energy.battery",
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
    def _there_is_one_battery(self) -> Self:
        if self.energy is not None and self.energy.battery is not None and self.churn.battery is not None:
            raise refusal(
                "a device has one battery, and churn.battery is set too, which forgets each flight; remove one of them",
                "energy", "battery",
            )  # fmt: skip
        return self

    @model_validator(mode="after")
    def _components_go_together(self) -> Self:
        for choice in (self.data, self.model, self.method, self.selection, self.protocol, self.backend):
            choice.options.check_beside(self)
        return self

    def dump(self) -> dict[str, Any]:
        """Return plain values that load back into an equal scenario."""
        plain = self.model_dump(mode="json")
        # Who does not ask for it has the file, and the hash, of before there was such a section.
        if plain["energy"] is None:
            del plain["energy"]
        return plain

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yield what a scenario is in one line; `dump` has all of it."""
        yield from (("name", self.name), ("seed", self.seed))
        yield from (
            (field, getattr(self, field).kind) for field in ("method", "model", "data", "selection", "protocol")
        )
        yield from (("devices", self.population.devices), ("rounds", self.stop.rounds))

    def brief(self) -> str:
        """Return the YAML of a scenario without what is as it is by default, long lists cut."""
        return as_yaml(brief_values(self), width=80)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Show the scenario as short YAML at IPython's prompt."""
        del cycle
        printer.text(self.brief().rstrip())

    def _repr_html_(self) -> str:
        """Show the scenario as short YAML in a notebook."""
        return f"<pre>{html.escape(self.brief())}</pre>"


def scenario_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a scenario file, options of every installed component that can be loaded included.

    A file that `extends` another may leave out top-level keys; everything else is checked as in a complete file.
    """
    try:
        schema = Scenario.model_json_schema(schema_generator=JsonSchemas)
    except Exception:
        # To describe each by itself takes as long as all together, and is needed only to find who cannot be.
        for group in GROUPS:
            load_all(group)
        schema = Scenario.model_json_schema(schema_generator=JsonSchemas)
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
