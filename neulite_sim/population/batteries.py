"""What a scenario's `energy.battery` does to a fleet: batteries that flights drain, and who has enough for work."""

from __future__ import annotations

import dataclasses

import numpy as np

from neulite_sim.population.availability.battery import DailyWindow
from neulite_sim.population.availability.charge_course import Cells
from neulite_sim.population.availability.charges import Charges
from neulite_sim.population.availability.combined import combined
from neulite_sim.population.hardware.power import capacity_watt_hours, powers_of
from neulite_sim.population.table import Population
from neulite_sim.scenario.energy import STATES, Energy
from neulite_sim.seeding import stream
from neulite_sim.traces.intervals import nearest_tick, on_grid
from neulite_sim.units import DAY_S, HOUR_S


def with_batteries(population: Population, energy: Energy | None, seed: int) -> Population:
    """Return the fleet with the batteries that the scenario asks for, where the watts of all devices are known."""
    if energy is None or energy.battery is None:
        return population
    charges = charges_of(population, energy, seed)
    aloft = population.availability
    if energy.battery.requires_charging:
        plugged = DailyWindow(first_s=charges.cells.plugged_at_s, length_s=nearest_tick(energy.battery.plugged_in_for))
        aloft = combined(aloft, plugged)
    return dataclasses.replace(population, availability=combined(aloft, charges), charges=charges, aloft=aloft)


def charges_of(population: Population, energy: Energy, seed: int) -> Charges:
    """Return the batteries of a fleet at virtual time 0."""
    battery, index = energy.battery, population.class_index
    assert battery is not None, "batteries were asked for"
    names = [each.name for each in population.classes]
    powers = powers_of(names, energy)
    capacities = {name: capacity_watt_hours(name, energy) for name in names}
    assert all(name in powers and capacities[name] is not None for name in names), "the scenario was checked"
    watts = {state: np.array([getattr(powers[name], state) for name in names])[index] for state in STATES}
    capacity_j = np.array([(capacities[name] or 0.0) * HOUR_S for name in names])[index]
    spread_s = battery.plugged_in_spread * stream(seed, "battery").standard_normal(population.num_devices)
    clipped_s = np.clip(spread_s, -DAY_S / 2, DAY_S / 2)
    cells = Cells(
        capacity_j=capacity_j,
        idle_watts=watts["idle_watts"],
        plugged_at_s=on_grid((battery.plugged_in_at + clipped_s) % DAY_S) % DAY_S,
        charging_watts=battery.charging_watts,
        plugged_s=nearest_tick(battery.plugged_in_for),
    )
    level_j = cells.usual_j(0.0) if battery.level is None else battery.level * capacity_j
    return Charges(cells, watts=watts, level_j=level_j, least_j=battery.minimum * capacity_j)
