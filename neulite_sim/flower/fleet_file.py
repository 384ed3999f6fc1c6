"""The fleet of an app: any scenario, or a file that says nothing but what concerns the fleet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neulite_sim.engine.conflicts import require_no_conflict
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.population.sampling import DrawnFleet, draw_fleet
from neulite_sim.scenario.loading import load_scenario, parse_scenario
from neulite_sim.scenario.schema import Scenario

NAME = "flower"
UNUSED: Mapping[str, Any] = {
    "name": NAME,
    "data": {"kind": "synthetic", "samples": 100, "test_samples": 10},
    "model": "logistic",
    "method": "fedavg",
    "backend": "inprocess",
    "stop": {"rounds": 1_000_000},
}
"""What stands for whatever a file does not say: an app brings data, model and method of its own."""
_OF_THE_APP = ("data", "model", "training", "method", "selection", "evaluation", "workload", "proxy", "backend")


class _FleetCheck:
    """Draws the fleet while the scenario is checked, so that problems get the line of their key."""

    fleet: DrawnFleet | None = None

    def __call__(self, scenario: Scenario) -> None:
        require_no_conflict(scenario)
        _require_what_apps_know(scenario)
        self.fleet = draw_fleet(scenario.population, scenario.seed)


def _require_what_apps_know(scenario: Scenario) -> None:
    """Refuse what changes the course of a run and does not yet do so for the flights of an app."""
    if scenario.energy is not None and scenario.energy.battery is not None:
        finding = "batteries that flights drain do not act in the run of an app"
        hint = "remove it, or use churn.battery"
        raise ScenarioError([Problem.advising(key="energy.battery", found=finding, hint=hint)])


def load_fleet(path: str, overrides: Sequence[str], *, seed: int | None) -> tuple[Scenario, DrawnFleet]:
    """Return the scenario of a fleet file and its fleet; what it leaves out is filled in and never used.

    Raises:
        ScenarioError: with every problem found.
        DataNotFoundError: a trace or a table of devices is not where the file says.
    """
    check = _FleetCheck()
    scenario = load_scenario(path, overrides, seed=seed, checks=[check], defaults=UNUSED)
    assert check.fleet is not None
    return scenario, check.fleet


def fleet_alone(scenario: Scenario, name: str) -> Scenario:
    """Return a scenario of this name with nothing but what concerns the fleet, and fillers for what an app decides."""
    kept = {key: value for key, value in scenario.dump().items() if key not in _OF_THE_APP}
    kept["evaluation"] = {"targets": list(scenario.evaluation.targets)}
    if "devices_per_round" in type(scenario.selection.options).model_fields:
        # A protocol may ask for it.
        kept["selection"] = {"kind": "uniform", "devices_per_round": scenario.selection.options.devices_per_round}
    fillers = {key: value for key, value in UNUSED.items() if key not in kept}
    return parse_scenario({**fillers, **kept, "name": name})


def not_used(scenario: Scenario) -> str:
    """Return in one sentence what of a scenario the app decides; empty where the file says nothing of it."""
    written = [name for name in _OF_THE_APP if name in scenario.model_fields_set and not _is_filler(scenario, name)]
    if scenario.protocol.kind not in ("synchronous", "deadline"):
        written.append(f"protocol {scenario.protocol.kind}")
    if scenario.stop.rounds != UNUSED["stop"]["rounds"]:
        written.append("stop.rounds")
    if scenario.stop.target_accuracy is not None:
        written.append("stop.target_accuracy")
    if not written:
        return ""
    return f"the app decides what is trained, how and how often: of the fleet's file {', '.join(written)} do not act"


def _is_filler(scenario: Scenario, name: str) -> bool:
    choice, filler = getattr(scenario, name), UNUSED.get(name)
    if filler is None:
        return False
    kind = filler["kind"] if isinstance(filler, Mapping) else filler
    return bool(choice.kind == kind)
