"""What a command asks of a scenario beyond its schema, so that problems still get the file and line of their key."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neulite_sim.scenario.schema import Scenario


def check_fleet(scenario: Scenario) -> None:
    """Refuse what only drawing the fleet shows; given to `load_scenario` as one of its `checks`.

    Raises:
        ScenarioError: an unknown device, a list of memory of another length, or a trace that is wrong.
        DataNotFoundError: a trace is not where the scenario says.
    """
    from neulite_sim.population.sampling import build_population

    build_population(scenario.population, scenario.seed)
