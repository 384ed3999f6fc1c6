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
    from neulite_sim.engine.capacity import check_data
    from neulite_sim.population.sampling import build_population

    check_data(scenario)
    build_population(scenario.population, scenario.seed)
