"""Who a device was and when it was online: its fleet is drawn once more from the scenario, as any run of it does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neulite_sim.errors import NeuliteError
from neulite_sim.population.availability.contract import Availability
from neulite_sim.population.churn import with_churn
from neulite_sim.population.sampling import build_population
from neulite_sim.scenario.loading import load_scenario

Span = tuple[float, float]
"""A stretch of virtual time, from its start to before its end."""
MOST_DEVICES = 200_000
"""Larger fleets are not drawn again to look at one device."""
MOST_SPANS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A device as its scenario draws it; `spans` is None where it comes and goes too often to tell."""

    hardware: str
    installed_memory_bytes: int
    available_memory_bytes: int
    downlink_bits_per_second: float
    uplink_bits_per_second: float
    spans: tuple[Span, ...] | None


def drawn_again(scenario_path: Path, device: int, until_s: float) -> Drawn | str:
    """Return a device, with when it was online up to a moment; or why that is not known."""
    try:
        scenario = load_scenario(scenario_path)
        if scenario.population.devices > MOST_DEVICES:
            return f"fleets of more than {MOST_DEVICES:,} devices are not drawn again for one of them"
        section = scenario.population
        population = with_churn(build_population(section, scenario.seed), scenario.churn, scenario.seed)
    except NeuliteError as error:
        return f"its fleet cannot be drawn again: {error}"
    hardware = population.classes[int(population.class_index[device])]
    return Drawn(
        hardware=hardware.name,
        installed_memory_bytes=hardware.installed_memory_bytes,
        available_memory_bytes=int(population.available_memory_bytes[device]),
        downlink_bits_per_second=float(population.downlink_bits_per_second[device]),
        uplink_bits_per_second=float(population.uplink_bits_per_second[device]),
        spans=_spans(population.availability, device, until_s),
    )


def _spans(availability: Availability, device: int, until_s: float) -> tuple[Span, ...] | None:
    one, found = np.array([device]), list[Span]()
    begins_s = float(availability.next_online_s(one, 0.0)[0])
    while begins_s <= until_s and begins_s < math.inf:
        if len(found) == MOST_SPANS:
            return None
        ends_s = float(availability.online_until_s(one, begins_s)[0])
        found.append((begins_s, ends_s))
        if ends_s > until_s:
            break
        begins_s = float(availability.next_online_s(one, ends_s)[0])
    return tuple(found)
