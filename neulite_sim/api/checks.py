"""What a command or a function asks of a scenario beyond its schema, so that problems keep the line of their key."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neulite_sim.population.sampling import DrawnFleet
    from neulite_sim.scenario.schema import Scenario


class FleetCheck:
    """A check for `load_scenario` of what shows before PyTorch is there: conflicts, data, and the fleet once drawn.

    `fleet` is then what was drawn: the command hands it on, so that nobody draws it again.
    """

    def __init__(self) -> None:
        self.fleet: DrawnFleet | None = None
        self.data_notes: tuple[str, ...] = ()

    def __call__(self, scenario: Scenario) -> None:
        """Look for the data's files and draw the fleet.

        Raises:
            ScenarioError: settings that exclude each other, more samples than there are, an unknown device, a list of
                memory of another length, or a trace that is wrong.
            DataNotFoundError: a dataset or a trace is not where the scenario says.
        """
        from neulite_sim.engine.capacity import check_data
        from neulite_sim.engine.conflicts import require_no_conflict, survey_data
        from neulite_sim.population.sampling import draw_fleet

        require_no_conflict(scenario)
        check_data(scenario)
        self.data_notes = survey_data(scenario)
        self.fleet = draw_fleet(scenario.population, scenario.seed)


def check_fleet(scenario: Scenario) -> None:
    """Check a fleet that nobody needs afterwards; a sweep whose data is missing in parts still does the others.

    Raises:
        ScenarioError: an unknown device, a list of memory of another length, or a trace that is wrong.
        DataNotFoundError: a trace is not where the scenario says.
    """
    from neulite_sim.engine.capacity import check_data
    from neulite_sim.population.sampling import draw_fleet

    check_data(scenario)
    draw_fleet(scenario.population, scenario.seed)


def notes_of(scenario: Scenario, check: FleetCheck) -> tuple[str, ...]:
    """Return what a checked scenario, its fleet and its data's files leave out or change, a sentence each."""
    from neulite_sim.engine.conflicts import fleet_remarks
    from neulite_sim.scenario.remarks import machine_remarks, remarks

    assert check.fleet is not None
    population = check.fleet.population
    said = (*remarks(scenario), *machine_remarks(scenario), *fleet_remarks(scenario, population))
    return (*said, *population.notes, *check.data_notes)


class DeepCheck:
    """A check for `load_scenario` of what shows only once models are built and profiled, as a run does first.

    `notes` is then what a run would say at its beginning.
    """

    def __init__(self, check: FleetCheck) -> None:
        self._check = check
        self.notes: tuple[str, ...] = ()

    def __call__(self, scenario: Scenario) -> None:
        """Build everything but the backend, and profile it.

        Raises:
            ScenarioError: parts that do not go together.
            InfeasibleError: no device can ever train anything.
            BackendUnavailableError: PyTorch does not find the device that the backend computes on.
        """
        from neulite_sim.engine.announcing import announcements
        from neulite_sim.engine.assembly import charge, prepare
        from neulite_sim.engine.building import build_backend, build_selector
        from neulite_sim.engine.compatibility import require_somebody, require_training
        from neulite_sim.engine.conflicts import DRY_RUN
        from neulite_sim.engine.fitting import plan_notices
        from neulite_sim.engine.idle import idle

        if scenario.backend.kind == "inprocess":
            # A device that PyTorch does not find; workers of a cluster are not started for a check.
            build_backend(scenario).close()
        build_selector(scenario)
        parts = prepare(scenario, self._check.fleet)
        require_training(parts, trains=scenario.backend.kind != DRY_RUN)
        costing = charge(parts)
        require_somebody(costing)
        self.notes = (*costing.left_out, *announcements(costing), *idle(costing), *plan_notices(costing))
