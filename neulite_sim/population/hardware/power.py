"""What devices draw in each state: `power.toml`, read once, with the status and the source of every number.

The power of a state is that of the whole device in it, not what the state adds to an idle device. So the energy of some
time is the seconds in each state times its watts, and nothing is counted twice.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field

from neulite_sim.population.hardware.catalogue import Fact, Status
from neulite_sim.registry import Options
from neulite_sim.scenario.energy import STATES, Energy


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Watts of one kind of device while it waits, trains, receives and sends."""

    idle_watts: float
    compute_watts: float
    receive_watts: float
    send_watts: float


class _Number(Options):
    value: float = Field(ge=1e-6, le=10_000)
    status: Status
    source: str = Field(min_length=10, max_length=2000)


class _Device(Options):
    idle_watts: _Number
    compute_watts: _Number
    receive_watts: _Number
    send_watts: _Number
    battery_watt_hours: _Number | None = None


class _Table(Options):
    schema_version: Literal[1]
    devices: dict[str, _Device]


@functools.cache
def power_facts() -> Mapping[str, Mapping[str, Fact]]:
    """Return the watts of every device of the catalogue by name and state, and its battery's watt-hours, if any."""
    file = resources.files("neulite_sim.population.hardware").joinpath("power.toml")
    table = _Table.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    return MappingProxyType({name: MappingProxyType(_facts(device)) for name, device in table.devices.items()})


def _facts(device: _Device) -> dict[str, Fact]:
    numbers = {key: getattr(device, key) for key in type(device).model_fields}
    return {
        key: Fact(value=number.value, status=number.status, source=number.source)
        for key, number in numbers.items()
        if number is not None
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a device's watts: by state, whose they are (`power.toml`, or a key of the scenario)."""

    watts: Mapping[str, float]
    given: Mapping[str, str]
    """The states that the scenario gives, and the key that gives each."""

    @property
    def missing(self) -> tuple[str, ...]:
        """The states whose watts nobody gives."""
        return tuple(state for state in STATES if state not in self.watts)

    @property
    def power(self) -> Power | None:
        """The watts of all states; None where one is missing."""
        return None if self.missing else Power(**self.watts)


def known_power(name: str, energy: Energy | None) -> Known:
    """Return what is known of the device called `name`: the scenario comes before the table."""
    facts = power_facts().get(name, {})
    watts = {state: facts[state].value for state in STATES if state in facts}
    changes = None if energy is None else energy.power.get(name)
    given = {} if changes is None else {state: (value, key) for state, value, key in changes.given()}
    return Known(
        watts={**watts, **{state: value for state, (value, _) in given.items()}},
        given={state: key for state, (_, key) in given.items()},
    )


def capacity_watt_hours(name: str, energy: Energy) -> float | None:
    """Return the energy of a full battery of the device called `name`; None where nobody tells it."""
    own, battery = energy.power.get(name), energy.battery
    if own is not None and own.battery_watt_hours is not None:
        return own.battery_watt_hours
    if battery is not None and battery.capacity_watt_hours is not None:
        return battery.capacity_watt_hours
    fact = power_facts().get(name, {}).get("battery_watt_hours")
    return None if fact is None else fact.value


def powers_of(names: Iterable[str], energy: Energy | None) -> Mapping[str, Power]:
    """Return the watts of the devices called so; without those of which a state is unknown."""
    found = {name: known_power(name, energy).power for name in dict.fromkeys(names)}
    return {name: power for name, power in found.items() if power is not None}


def powers_in(scenario: Mapping[str, Any]) -> Mapping[str, Power]:
    """Return the watts of the devices of a stored scenario, plain values that any version wrote; of those it tells."""
    try:
        energy = None if scenario.get("energy") is None else Energy.model_validate(scenario["energy"])
        names = [str(group["device"]) for group in scenario["population"]["groups"]]
    except (KeyError, TypeError, ValueError):
        return {}
    return powers_of(names, energy)
