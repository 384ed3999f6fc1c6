"""What a scenario and its fleet show before anything is built: parts that do not go together, data that is not there.

PyTorch is not needed for any of it, so that `validate` says at once what `run` would refuse.
"""

from __future__ import annotations

import numpy as np

from neulite_sim.errors import Problem, ScenarioError, close_matches
from neulite_sim.population.availability.charge_course import Cells
from neulite_sim.population.hardware.power import Known, capacity_watt_hours, known_power
from neulite_sim.population.table import Population
from neulite_sim.registry import component
from neulite_sim.scenario.energy import Energy, FleetBattery
from neulite_sim.scenario.schema import RateTrace, Scenario
from neulite_sim.units import HOUR_S

# The backend that trains nothing, so that nothing is ever tested.
DRY_RUN = "dry-run"


def require_no_conflict(scenario: Scenario) -> None:
    """Refuse settings that exclude each other whatever model and data there are.

    Raises:
        ScenarioError: with a problem for each.
    """
    problems = [*_proxies(scenario), *_shared_links(scenario), *power_problems(scenario)]
    if scenario.backend.kind == DRY_RUN and scenario.evaluation.diagnostics:
        problems.append(nothing_to_measure(DRY_RUN))
    limits = getattr(scenario.method.options, "memory_limit", True)
    if scenario.training.shrink_batch is not None and limits is False:
        problems.append(nothing_to_shrink())
    if problems:
        raise ScenarioError(problems)


def nothing_to_measure(backend_kind: str) -> Problem:
    """Return the problem of diagnostics of a run that trains nothing."""
    finding = f"{backend_kind} trains nothing and tests nothing, so there is nothing to measure"
    hint = "remove it, or use backend inprocess or ray"
    return Problem.advising(key="evaluation.diagnostics", found=finding, hint=hint)


def nothing_to_shrink() -> Problem:
    """Return the problem of smaller batches for a method that heeds no memory."""
    finding = "acts only where memory limits who trains what, and method.memory_limit is false"
    return Problem.advising(key="training.shrink_batch", found=finding, hint="remove one of them")


def _proxies(scenario: Scenario) -> list[Problem]:
    if scenario.proxy.image_size is None or "image_size" in type(scenario.data.options).model_fields:
        return []
    wish = "set data.shape to what is trained and workload.input_shape to what is charged"
    return [Problem.advising(key="proxy.image_size", found=f"{scenario.data.label} has no image_size", hint=wish)]


def _shared_links(scenario: Scenario) -> list[Problem]:
    """Return what a link of the server cannot be combined with: flights that cannot be planned ahead."""
    if scenario.server.downlink is None and scenario.server.uplink is None:
        return []
    population = scenario.population
    links = [group.link or population.link for group in population.groups]
    is_traced = any(
        isinstance(rate, RateTrace) for link in links if link is not None for rate in (link.downlink, link.uplink)
    )
    others = {
        "links that follow a trace (population.link)": is_traced,
        "churn.battery": scenario.churn.battery is not None,
        "energy.battery": scenario.energy is not None and scenario.energy.battery is not None,
    }
    return [
        Problem.advising(
            key="server", found=f"a shared link of the server does not go with {other}", hint="leave out one of them"
        )
        for other, is_there in others.items()
        if is_there
    ]


def power_problems(scenario: Scenario) -> list[Problem]:
    """Return what is wrong with the watts of a scenario that asks for energy: of nobody, missing, or out of order."""
    energy = scenario.energy
    if energy is None:
        return []
    names = list(dict.fromkeys(group.device for group in scenario.population.groups))
    problems = [
        Problem.advising(
            key=f"energy.power.{name}",
            found=f"no group of population.groups is of a device of that name{close_matches(name, names)}",
            hint=f"use {' or '.join(names[:5])}, or remove it",
        )
        for name in energy.power
        if name not in names
    ]
    for name in names:
        problems += _watts_of(name, known_power(name, energy))
    if energy.battery is not None and not problems:
        problems += [problem for name in names for problem in _battery_of(name, energy, energy.battery)]
    return problems


def _battery_of(name: str, energy: Energy, battery: FleetBattery) -> list[Problem]:
    """Return why the battery of a kind of device could not work; its watts are known."""
    capacity, idle = capacity_watt_hours(name, energy), known_power(name, energy).watts["idle_watts"]
    if capacity is None:
        found = f"nobody has told what the battery of a {name} holds"
        hint = f"give it, or energy.power.{name}.battery_watt_hours"
        return [Problem.advising(key="energy.battery.capacity_watt_hours", found=found, hint=hint)]
    if battery.charging_watts <= idle:
        found = f"is {battery.charging_watts:g} W, and an idle {name} draws {idle:g} W: its battery would never charge"
        return [Problem.advising(key="energy.battery.charging_watts", found=found, hint=f"use more than {idle:g}")]
    one = np.ones(1)
    cells = Cells(capacity_j=capacity * HOUR_S * one, idle_watts=idle * one, plugged_at_s=0.0 * one,
                  charging_watts=battery.charging_watts, plugged_s=battery.plugged_in_for)  # fmt: skip
    highest = float(cells.highest_j()[0]) / (capacity * HOUR_S)
    if highest >= battery.minimum:
        return []
    found = f"is {battery.minimum:g}, but a day's charging never gets an empty battery of a {name} above {highest:.3g}"
    hint = "lower it, or raise charging_watts or plugged_in_for"
    return [Problem.advising(key="energy.battery.minimum", found=found, hint=hint)]


def _watts_of(name: str, known: Known) -> list[Problem]:
    key = f"energy.power.{name}"
    if known.missing:
        found = f"nobody has told what a {name} draws ({', '.join(known.missing)})"
        return [Problem.advising(key=key, found=found, hint="give these watts there")]
    idle = known.watts["idle_watts"]
    return [
        Problem.advising(
            key=f"{key}.{known.given.get(state) or known.given['idle_watts']}",
            found=f"{state} would be {watts:g}, less than the {idle:g} W of an idle one",
            hint=f"use {idle:g} or more, or lower idle_watts",
        )
        for state, watts in known.watts.items()
        if watts < idle and known.given
    ]


def survey_data(scenario: Scenario) -> tuple[str, ...]:
    """Return what the names of a dataset's files show, a sentence each; no file is read.

    Raises:
        DataNotFoundError: files are missing, or are not those of this kind of dataset.
        ScenarioError: more samples are asked for than there are.
    """
    survey = component("data", scenario.data.kind).survey
    if survey is None:
        return ()
    notes: tuple[str, ...] = survey(scenario.data.options)
    return notes


def fleet_remarks(scenario: Scenario, population: Population) -> tuple[str, ...]:
    """Return a sentence for each wish that this fleet cannot fulfil, as nobody is there for it."""
    wanted, devices = scenario.selection.options.devices_per_round, scenario.population.devices
    if scenario.population.availability.kind != "trace":
        return ()
    everybody = np.arange(devices)
    until_s = np.inf if scenario.stop.virtual_time is None else scenario.stop.virtual_time
    come = population.availability.next_online_s(everybody, 0.0)
    online = int(np.count_nonzero(np.isfinite(come) & (come < until_s)))
    if online == devices or (wanted <= online and online):
        return ()
    when = "ever" if np.isinf(until_s) else "before stop.virtual_time"
    if not online:
        return (f"population.availability: no device is online {when}, so nothing will be trained",)
    return (
        f"selection.devices_per_round is {wanted}, but only {online} of {devices} devices are online {when}: no more "
        "than these take part in a round",
    )
