"""The section `population` of a scenario: which hardware the fleet is made of, and what it has left for training."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from neulite_sim.bounds import MOST_ITEMS, DeviceCount, Name, Weight
from neulite_sim.registry import Choice, Options
from neulite_sim.scenario.component_fields import ComponentField
from neulite_sim.scenario.inputs import InputFile
from neulite_sim.scenario.links import Link


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
