"""What a command asks of a scenario beyond its schema, so that problems still get the file and line of their key."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neulite_sim.population.sampling import DrawnFleet
    from neulite_sim.scenario.schema import Scenario


class FleetCheck:
    """A check for `load_scenario` of what only drawing the fleet shows, and of data beyond this machine's memory.

    `fleet` is then what was drawn: the command hands it on, so that nobody draws it again.
    """

    def __init__(self) -> None:
        self.fleet: DrawnFleet | None = None

    def __call__(self, scenario: Scenario) -> None:
        """Draw the fleet.

        Raises:
            ScenarioError: an unknown device, a list of memory of another length, or a trace that is wrong.
            DataNotFoundError: a trace is not where the scenario says.
        """
        from neulite_sim.engine.capacity import check_data
        from neulite_sim.population.sampling import draw_fleet

        check_data(scenario)
        self.fleet = draw_fleet(scenario.population, scenario.seed)


def check_fleet(scenario: Scenario) -> None:
    """Check a fleet that nobody needs afterwards. Raises what `FleetCheck` raises."""
    FleetCheck()(scenario)


def fleet_notes(scenario: Scenario) -> tuple[str, ...]:
    """Return what a scenario and its fleet leave out or change, a sentence each. Raises what `FleetCheck` raises."""
    from neulite_sim.scenario.remarks import remarks

    check = FleetCheck()
    check(scenario)
    assert check.fleet is not None
    return (*remarks(scenario), *check.fleet.population.notes)


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
