"""The fleet of a scenario as a table: who is which hardware, with how much memory, on which link, online when.

Counts per group follow the shares by largest remainders; which device belongs to which group is a seeded shuffle, so
that device ids carry no information. Memory, links and availability are drawn for all devices at once, each from
streams of its own: changing one never shifts another.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from neulite_sim.arrays import Floats, Integers
from neulite_sim.contracts import is_own
from neulite_sim.errors import Problem, ScenarioError, UnknownComponentError
from neulite_sim.outside import user_path
from neulite_sim.population.availability.asked import asked
from neulite_sim.population.availability.contract import AvailabilityFactory
from neulite_sim.population.hardware.catalogue import device_class
from neulite_sim.population.hardware.contract import DeviceClass
from neulite_sim.population.hardware.own import KEY as HARDWARE_KEY
from neulite_sim.population.hardware.own import read_hardware
from neulite_sim.population.link.network import LinkColumns, link_columns
from neulite_sim.population.memory.asked import AskedMotion
from neulite_sim.population.memory.contract import FleetMemory, MotionFactory
from neulite_sim.population.memory.distributions import ExplicitOptions, draw_memory
from neulite_sim.population.table import Population
from neulite_sim.registry import Choice, component
from neulite_sim.room import require_room
from neulite_sim.scenario.schema import Link, PopulationSection
from neulite_sim.seeding import stream
from neulite_sim.traces.individuals import read_individuals
from neulite_sim.user_code.drawing import drawing_where

DEVICE_BYTES = 300
"""What a device takes in the columns of the fleet, its costs and what the protocols know of it; measured."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DrawnFleet:
    """A fleet that may be handed on, with what it was drawn from: nobody takes it for that of another scenario."""

    section: PopulationSection
    seed: int
    population: Population

    def is_of(self, section: PopulationSection, seed: int) -> bool:
        """Return whether `build_population` of the same arguments would return this fleet."""
        return seed == self.seed and section == self.section


def apportion(total: int, shares: Sequence[float]) -> tuple[int, ...]:
    """Return how many of `total` each share gets, by largest remainders; the sum is `total`.

    Shares are positive weights, taken as the decimals they are written as. Each gets its quota rounded down; what is
    left goes to the largest remainders, at equal remainders to the earlier share.
    """
    exact = [Fraction(repr(float(share))) for share in shares]
    quotas = [total * share / sum(exact) for share in exact]
    counts = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda place: counts[place] - quotas[place])
    for place in by_remainder[: total - sum(counts)]:
        counts[place] += 1
    return tuple(counts)


def group_link(device: DeviceClass, *, population: Link | None, group: Link | None) -> Link:
    """Return the link of a group: its own, else the population's, else the catalogue's at the default latency."""
    nominal = Link(downlink=device.downlink_bits_per_second, uplink=device.uplink_bits_per_second)
    return group or population or nominal


def build_population(section: PopulationSection, seed: int) -> Population:
    """Return the fleet that a scenario's `population` describes.

    Its `notes` name groups that got no device and how many devices were drawn above their usable memory.

    Raises:
        ScenarioError: an unknown device, an `explicit` list of another length, or a trace or table that is wrong.
        DataNotFoundError: a trace, or a table of devices, is not where the scenario says.
    """
    chosen = (section.available_memory, section.memory_motion, section.availability)
    with drawing_where(any(choice.is_brought for choice in chosen), seed, "building.population"):
        return _drawn_population(section, seed)


def _drawn_population(section: PopulationSection, seed: int) -> Population:
    group_classes = _classes_of(section)
    require_room(
        DEVICE_BYTES * section.devices,
        f"the table of {section.devices} devices",
        key="population.devices",
        advice="lower it",
    )
    counts = apportion(section.devices, [group.share for group in section.groups])
    ordered = np.repeat(np.arange(len(counts)), counts)
    group_of_device = stream(seed, "population-groups").permutation(ordered)
    # Groups of the same hardware share a class; hardware that no device has is left out.
    classes = tuple(dict.fromkeys(group_classes[place] for place, count in enumerate(counts) if count))
    class_of_group = [classes.index(found) if found in classes else -1 for found in group_classes]
    individuals = _individuals(section, group_of_device, seed)
    memory, memory_notes = _memory(
        section, classes=group_classes, group_of_device=group_of_device, individuals=individuals, seed=seed
    )
    links = _links(section, classes=group_classes, group_of_device=group_of_device, individuals=individuals, seed=seed)
    factory: AvailabilityFactory = component("availability", section.availability.kind).build(
        section.availability.options
    )
    availability = factory(section.devices, seed)
    if not is_own(availability):
        availability = asked(availability, section.availability.label, section.devices)
    motion_factory: MotionFactory = component("memory_motion", section.memory_motion.kind).build(
        section.memory_motion.options
    )
    motion = motion_factory(memory, seed)
    if motion is not None and not is_own(motion):
        motion = AskedMotion(motion, section.memory_motion.label, section.devices)
    # A trace has something to say, a formula has not.
    traced = (note for source in (availability, motion) for note in getattr(source, "notes", ()))
    return Population(
        classes=classes,
        class_index=np.array(class_of_group, np.int16)[group_of_device],
        available_memory_bytes=memory.nominal_bytes,
        downlink_bits_per_second=links.downlink_bits_per_second,
        uplink_bits_per_second=links.uplink_bits_per_second,
        latency_s=links.latency_s,
        speed_jitter=section.speed_jitter,
        availability=availability,
        throughput=links.throughput,
        speed_factor=individuals.get("speed_factor"),
        memory_motion=motion,
        notes=(*_empty_groups(section, counts), *memory_notes, *links.notes, *traced),
    )


def draw_fleet(section: PopulationSection, seed: int) -> DrawnFleet:
    """Return `build_population` of a section, to be handed on. Raises what that raises."""
    return DrawnFleet(section=section, seed=seed, population=build_population(section, seed))


def _classes_of(section: PopulationSection) -> tuple[DeviceClass, ...]:
    own = read_hardware(user_path(section.hardware)) if section.hardware is not None else {}
    found: list[DeviceClass] = []
    problems: list[Problem] = []
    if own and not any(group.device in own for group in section.groups):
        finding = f"{section.hardware} holds {', '.join(own)}, but no group names any of them"
        hint = "name one, or remove it"
        problems.append(Problem.advising(key=HARDWARE_KEY, found=finding, hint=hint))
    for place, group in enumerate(section.groups):
        try:
            found.append(device_class(group.device, own))
        except UnknownComponentError as unknown:
            problems.append(Problem(key=f"population.groups.{place}.device", message=str(unknown)))
    if problems:
        raise ScenarioError(problems)
    return tuple(found)


def _individuals(section: PopulationSection, group_of_device: Integers, seed: int) -> dict[str, Floats]:
    """Return per quantity of the tables of devices a column over the fleet: each device has one row of its group's.

    Where a group has no table, or its table not this column, `speed_factor` is 1 and any other quantity is NaN.
    """
    columns: dict[str, Floats] = {}
    for place, group in enumerate(section.groups):
        if group.individuals is None:
            continue
        key = f"population.groups.{place}.individuals.path"
        table = read_individuals(user_path(group.individuals.path), key)
        members = np.flatnonzero(group_of_device == place)
        rows = table.draw(len(members), stream(seed, "individuals", place))
        for name, values in table.columns.items():
            missing = 1.0 if name == "speed_factor" else math.nan
            columns.setdefault(name, np.full(section.devices, missing))[members] = values[rows]
    return columns


def _links(
    section: PopulationSection,
    *,
    classes: Sequence[DeviceClass],
    group_of_device: Integers,
    individuals: Mapping[str, Floats],
    seed: int,
) -> LinkColumns:
    """Return the links of the fleet; the rates of an individual stand where the scenario gives no link."""
    keys = [
        "population.link" if group.link is None else f"population.groups.{place}.link"
        for place, group in enumerate(section.groups)
    ]
    links = [
        group_link(found, population=section.link, group=group.link)
        for found, group in zip(classes, section.groups, strict=True)
    ]
    columns = link_columns(links, group_of_device, keys=keys, seed=seed)
    is_nominal = np.array([section.link is None and group.link is None for group in section.groups])[group_of_device]
    for name in ("downlink_bits_per_second", "uplink_bits_per_second"):
        if name in individuals:
            given = np.flatnonzero(is_nominal & np.isfinite(individuals[name]))
            getattr(columns, name)[given] = individuals[name][given]
    return columns


def _memory(
    section: PopulationSection,
    *,
    classes: Sequence[DeviceClass],
    group_of_device: Integers,
    individuals: Mapping[str, Floats],
    seed: int,
) -> tuple[FleetMemory, tuple[str, ...]]:
    """Return the memory of every device: the population's draw, and each group's own in place of it."""
    installed = np.array([found.installed_memory_bytes for found in classes], np.int64)[group_of_device]
    usable = np.array([found.usable_memory_bytes for found in classes], np.int64)[group_of_device]
    if "memory_bytes" in individuals:
        own = individuals["memory_bytes"]
        given = np.flatnonzero(np.isfinite(own))
        # The operating system takes the same share of an individual's memory as of its class's.
        usable[given] = np.rint(own[given] * (usable[given] / installed[given])).astype(np.int64)
        installed[given] = np.rint(own[given]).astype(np.int64)
    memory, above = np.zeros(section.devices, np.int64), np.zeros(section.devices, np.bool_)
    draws: list[tuple[str, Choice, Integers, tuple[int, ...]]] = [
        ("population", section.available_memory, np.arange(section.devices), ())
    ]
    for place, group in enumerate(section.groups):
        members = np.flatnonzero(group_of_device == place)
        if group.available_memory is not None and len(members):
            draws.append((f"population.groups.{place}", group.available_memory, members, (place,)))
    owner = np.zeros(section.devices, np.int16)
    for number, (key, chosen, members, stream_keys) in enumerate(draws):
        rng = stream(seed, "available-memory", *stream_keys)
        try:
            memory[members], above[members] = draw_memory(
                chosen, installed_memory_bytes=installed[members], usable_memory_bytes=usable[members], rng=rng
            )
        except ScenarioError as wrong:
            raise ScenarioError(
                dataclasses.replace(problem, key=f"{key}.{problem.key}") for problem in wrong.problems
            ) from None
        owner[members] = number
    notes = []
    for number, (key, chosen, _, _) in enumerate(draws):
        members = np.flatnonzero(owner == number)
        if count := int(np.count_nonzero(above[members])):
            act = "kept as written" if isinstance(chosen.options, ExplicitOptions) else "capped"
            notes.append(
                f"{key}.available_memory: {count} of {len(members)} devices were given more than the usable memory of "
                f"their hardware, {act}"
            )
    drawn = FleetMemory(
        nominal_bytes=memory,
        installed_bytes=installed,
        usable_bytes=usable,
        choices=tuple(chosen for _, chosen, _, _ in draws),
        choice_index=owner,
    )
    return drawn, tuple(notes)


def _empty_groups(section: PopulationSection, counts: Sequence[int]) -> tuple[str, ...]:
    return tuple(
        f"population.groups.{place}: no device of {section.devices} is a {group.device}, its share {group.share:g} of "
        f"{sum(every.share for every in section.groups):g} rounds to none"
        for place, (group, count) in enumerate(zip(section.groups, counts, strict=True))
        if count == 0
    )
