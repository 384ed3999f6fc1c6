"""What a command asks of a scenario beyond its schema, so that problems still get the file and line of their key."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neulite_sim.scenario.schema import Scenario


def check_fleet(scenario: Scenario) -> None:
    """Refuse what only drawing the fleet shows, and data beyond this machine's memory: a check for `load_scenario`.

    Raises:
        ScenarioError: an unknown device, a list of memory of another length, or a trace that is wrong.
        DataNotFoundError: a trace is not where the scenario says.
    """
    fleet_notes(scenario)


def fleet_notes(scenario: Scenario) -> tuple[str, ...]:
    """Return what a scenario and its fleet leave out or change, a sentence each. Raises what `check_fleet` raises."""
    from neulite_sim.engine.capacity import check_data
    from neulite_sim.population.sampling import build_population
    from neulite_sim.scenario.remarks import remarks

    check_data(scenario)
    return (*remarks(scenario), *build_population(scenario.population, scenario.seed).notes)


def data_notes(scenario: Scenario) -> tuple[str, ...]:
    """Return what the names of a dataset's files show, none of them read; nothing where the data is not here.

    Raises:
        DataNotFoundError: the files are there, and no dataset of this kind.
    """
    from neulite_sim.outside import user_path
    from neulite_sim.registry import component

    survey, options = component("data", scenario.data.kind).survey, scenario.data.options
    if survey is None or not user_path(options.root).is_dir():
        return ()
    notes: tuple[str, ...] = survey(options)
    return notes
