"""What a scenario says and cannot be as it says: no mistake that would be refused, but nothing to pass over either.

A value at its default is nobody's wish, so nothing is said of it.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from typing import Any

from neulite_sim.machine import usable_processors
from neulite_sim.registry import Choice, Options
from neulite_sim.scenario.schema import Cosine, Link, Scenario, Step
from neulite_sim.units import format_seconds

# Options that count devices, and what there are never more of than devices.
_DEVICES = {
    "concurrency": "never more are in flight",
    "buffer_size": "an update of each device does not fill it",
    "tiers": "there are never more tiers than devices",
    "test_devices": "no more than these can be asked",
}
# No device of a fleet has less memory, or a slower link.
_LEAST_MEMORY_BYTES, _LEAST_BITS_PER_SECOND = 5000, 1000
# Options that count rounds beside those whose names end in _rounds.
_ROUNDS = ("interval", "blacklist_after")


def remarks(scenario: Scenario) -> tuple[str, ...]:
    """Return a sentence for each value of a scenario that acts as another one, or cannot act at all."""
    return (
        *_on_devices(scenario),
        *_on_groups(scenario),
        *_without_units(scenario),
        *_on_tests(scenario),
        *_on_rounds(scenario),
        *_on_time(scenario),
    )


def machine_remarks(scenario: Scenario) -> tuple[str, ...]:
    """Return a sentence for each wish that this machine cannot fulfil."""
    options, cores = scenario.backend.options, usable_processors()
    found = []
    if scenario.backend.kind == "ray" and importlib.util.find_spec("ray") is None:
        found.append(
            "backend ray needs the package ray, which is not installed: pip install ray, or --backend inprocess"
        )
    if not os.access("runs" if os.path.isdir("runs") else ".", os.W_OK | os.X_OK):
        found.append(f"{os.path.abspath('runs')} cannot be written: give run another folder with --out")
    if scenario.backend.kind == "inprocess" and options.workers != 1 and scenario.brought:
        found.append(
            f"backend.workers is {options.workers}, and they take turns: code that is not this project's "
            f"({', '.join(scenario.brought)}) may use what a process has once; --backend ray has a process for each"
        )
    if getattr(options, "address", None) is not None:
        return tuple(found)
    here = f"this machine has {cores} processor{'' if cores == 1 else 's'}"
    for name, what in (("workers", "so many take turns"), ("threads_per_worker", "more only get in each other's way")):
        wanted = getattr(options, name, None)
        if isinstance(wanted, int) and wanted > cores:
            found.append(f"backend.{name} is {wanted}, and {here}: {what}")
    return tuple(found)


def _usual(options: Options, name: str) -> Any:
    return type(options).model_fields[name].get_default(call_default_factory=True)


def _on_devices(scenario: Scenario) -> Iterator[str]:
    options, devices = scenario.selection.options, scenario.population.devices
    wanted = options.devices_per_round
    if devices < wanted != _usual(options, "devices_per_round"):
        yield (
            f"selection.devices_per_round is {wanted}, more than the fleet of {devices}: no more than these take part "
            "in a round"
        )
    for section in ("selection", "protocol"):
        options = getattr(scenario, section).options
        for name, why in _DEVICES.items():
            value = getattr(options, name, None)
            if isinstance(value, int) and devices < value != _usual(options, name):
                yield f"{section}.{name} is {value}, more than the fleet of {devices}: {why}"
    in_flight = getattr(scenario.protocol.options, "concurrency", None)
    usual = _usual(scenario.selection.options, "devices_per_round")
    if in_flight is not None and in_flight != wanted != usual:
        yield (
            f"selection.devices_per_round is {wanted}, but protocol.concurrency is {in_flight}: the "
            "protocol goes by that alone"
        )
    samples = getattr(scenario.data.options, "train_samples", None) or getattr(scenario.data.options, "samples", None)
    if samples is not None and samples < devices:
        yield (
            f"population.devices is {devices:,}, and there are {samples:,} training samples: at least "
            f"{devices - samples:,} devices own none and never train"
        )


def _on_groups(scenario: Scenario) -> Iterator[str]:
    """Yield what stands for all devices, where each has another in its place."""
    population, energy = scenario.population, scenario.energy
    for name in ("available_memory", "link"):
        if getattr(population, name) is not None and all(getattr(group, name) for group in population.groups):
            yield f"population.{name} has no effect: each of population.groups has {name} of its own"
    if energy is None or energy.battery is None or energy.battery.capacity_watt_hours is None:
        return
    own = {name for name, power in energy.power.items() if power.battery_watt_hours is not None}
    if own.issuperset(group.device for group in population.groups):
        yield (
            "energy.battery.capacity_watt_hours has no effect: energy.power has battery_watt_hours of each device of "
            "population.groups"
        )


def _without_units(scenario: Scenario) -> Iterator[str]:
    """Yield sizes and rates that only a forgotten unit explains."""
    population = scenario.population
    places: list[tuple[str, Choice | None, Link | None]] = []
    places += [("population", population.available_memory, population.link)]
    places += [(f"population.groups.{number}", group.available_memory, group.link)
               for number, group in enumerate(population.groups)]  # fmt: skip
    for place, memory, link in places:
        options = {} if memory is None else memory.options.model_dump()
        for name in ("low", "high", "median", "values"):
            sizes = options.get(name)
            sizes = [sizes] if isinstance(sizes, int) else [*(sizes or ())]
            if sizes and 0 < max(sizes) < _LEAST_MEMORY_BYTES:
                most = f"{max(sizes)} bytes"
                yield f"{place}.available_memory.{name} is {most}: was the unit forgotten? Write 512MB, say"
        for name in ("downlink", "uplink"):
            rate = getattr(link, name, None)
            if isinstance(rate, int | float) and rate < _LEAST_BITS_PER_SECOND:
                yield f"{place}.link.{name} is {rate:g} bits per second: a rate without a unit; write 20Mbps, say"


def _on_tests(scenario: Scenario) -> Iterator[str]:
    evaluation, stop = scenario.evaluation, scenario.stop
    is_dry = scenario.backend.kind == "dry-run"
    is_late = stop.rounds < evaluation.every_rounds != _usual(evaluation, "every_rounds")
    if is_late:
        when = "no test comes before its end" if is_dry else "the model is tested once, at its end"
        many = f"{evaluation.every_rounds}, more than the {_rounds(stop.rounds)} of the run"
        yield f"evaluation.every_rounds is {many}: {when}"
    if stop.target_accuracy is None:
        return
    if is_dry:
        yield "stop.target_accuracy never ends this run: backend dry-run tests nothing"
    elif is_late:
        yield "stop.target_accuracy never ends this run early: nothing is tested before its rounds are over"


def _rounds(count: int) -> str:
    return f"{count:,} round{'' if count == 1 else 's'}"


def _on_rounds(scenario: Scenario) -> Iterator[str]:
    """Yield what would first act after the last round."""
    rounds, checkpoint = scenario.stop.rounds, scenario.checkpoint
    if rounds < checkpoint.every_rounds != _usual(checkpoint, "every_rounds"):
        yield (
            f"checkpoint.every_rounds is {checkpoint.every_rounds}, more than the {_rounds(rounds)} of the run: "
            "none is written, and a run that is killed starts over"
        )
    schedule = scenario.training.learning_rate_schedule
    if isinstance(schedule, Step):
        # The rate is smaller after a milestone, so that of the last round acts on nothing.
        late = [milestone for milestone in schedule.milestones if milestone >= rounds]
        if late:
            listed = ", ".join(map(str, late[:5])) + (", ..." if len(late) > 5 else "")
            one = len(late) == 1
            yield (
                f"training.learning_rate_schedule.milestones: {listed} never act{'s' if one else ''}: the learning "
                f"rate would be smaller after {'it' if one else 'them'}, and the run has {_rounds(rounds)}"
            )
    if isinstance(schedule, Cosine) and schedule.rounds is not None and schedule.rounds > 2 * rounds:
        yield (
            f"training.learning_rate_schedule.rounds is {schedule.rounds}, and the run has {rounds}: the learning rate "
            "hardly falls"
        )
    for section in ("method", "selection", "protocol"):
        options = getattr(scenario, section).options
        own = options.remarks_beside(scenario)
        yield from own
        for name in type(options).model_fields:
            value = getattr(options, name)
            counts_rounds = name.endswith("_rounds") or name in _ROUNDS
            is_wish = counts_rounds and type(value) is int and value != _usual(options, name)
            is_told = any(sentence.startswith(f"{section}.{name} ") for sentence in own)
            if is_wish and value > rounds and not is_told:
                yield f"{section}.{name} is {value}, more than the {_rounds(rounds)} of the run"


def _on_time(scenario: Scenario) -> Iterator[str]:
    end_s, wait_s = scenario.stop.virtual_time, getattr(scenario.protocol.options, "maximum_wait", None)
    if end_s is not None and wait_s is not None and wait_s >= end_s:
        yield (
            f"protocol.maximum_wait is {format_seconds(wait_s)}, and the run ends at {format_seconds(end_s)} of "
            "virtual time: no deadline comes before"
        )
    timeout_s = scenario.churn.timeout
    if end_s is not None and timeout_s is not None and timeout_s >= end_s:
        yield (
            f"churn.timeout is {format_seconds(timeout_s)}, and the run ends at {format_seconds(end_s)} of virtual "
            "time: no flight is given up before"
        )
