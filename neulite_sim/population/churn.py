"""What a scenario's `churn` does to when devices are online: correlated outages, and batteries.

An outage is a two-state Markov chain of its own per group: Poisson starts, exponential lengths, stationary from virtual
time 0 on. It has one row per group however many devices there are, and is a pure function of time and seed.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from neulite_sim.arrays import Integers
from neulite_sim.population.availability.battery import build_batteries
from neulite_sim.population.availability.chunked import ChunkedAvailability
from neulite_sim.population.availability.combined import combined
from neulite_sim.population.availability.contract import Availability
from neulite_sim.population.availability.markov import MarkovSource
from neulite_sim.population.table import Population
from neulite_sim.scenario.churn import Churn, Outages
from neulite_sim.seeding import integer_seed
from neulite_sim.traces.labels import rows_for


def with_churn(population: Population, churn: Churn, seed: int) -> Population:
    """Return the fleet, online only where no outage hits it and its battery allows it."""
    gates: list[Availability] = []
    if churn.outages is not None:
        gates.append(outage_gate(churn.outages, outage_groups(churn.outages, population, seed), seed))
    batteries = build_batteries(churn.battery, num_devices=population.num_devices, seed=seed)
    if batteries is not None and (gate := batteries.gate()) is not None:
        gates.append(gate)
    if not gates:
        return population
    return dataclasses.replace(population, availability=combined(population.availability, *gates))


def outage_groups(outages: Outages, population: Population, seed: int) -> Integers:
    """Return the group of every device, int64 `[N]`: its class, or one of so many groups of equal size."""
    if outages.groups == "device-class":
        return population.class_index.astype(np.int64)
    return rows_for(population.num_devices, num_labels=outages.groups, seed=seed, purpose="outage-groups")


def outage_gate(outages: Outages, group_of_device: Integers, seed: int) -> ChunkedAvailability:
    """Return an availability that is offline during the outages of each device's group."""
    # A root of its own: the population's own availability draws from streams of the same purpose.
    source = MarkovSource(
        mean_on_s=outages.mean_between,
        mean_off_s=outages.mean_length,
        num_devices=int(group_of_device.max()) + 1,
        seed=integer_seed(seed, "outages"),
    )
    return ChunkedAvailability(source, num_devices=len(group_of_device), row_of_device=group_of_device)
