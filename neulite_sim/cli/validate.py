"""`neulite-sim validate SCENARIO...`: check scenarios without running them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neulite_sim.api.checks import DeepCheck, FleetCheck, notes_of
from neulite_sim.cli.answers import answer
from neulite_sim.cli.brief import uncollected
from neulite_sim.cli.failures import Failed, failure_of, message_of
from neulite_sim.cli.options import AsJson, Overrides
from neulite_sim.errors import NeuliteError, Problem, ScenarioError

if TYPE_CHECKING:
    from neulite_sim.scenario.schema import Scenario


def validate(
    scenarios: Annotated[
        list[str], typer.Argument(metavar="SCENARIO", help="Scenario files (YAML).", show_default=False)
    ],
    overrides: Overrides = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Also build and profile what a run would: finds the rest, and takes seconds."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check scenarios without running; all problems at once, and what could not act as it is written.

    Files of data and traces are looked for as well. A model, and whether devices have memory for it, is checked with
    --deep.
    """
    found = [(path, _checked(path, overrides or [], deep=deep)) for path in scenarios]
    wrong = [result for _, result in found if isinstance(result, ScenarioError)]
    if as_json:
        answer({"scenarios": [_as_json(path, result) for path, result in found]}, is_ascii=True)
    else:
        for path, result in found:
            _print(path, result)
        if wrong and len(found) > 1:
            typer.echo(f"error: {len(wrong)} of {len(found)} scenarios cannot be run", err=True)
    if wrong:
        raise Failed(failure_of(ScenarioError(problem for error in wrong for problem in error.problems)))


def _checked(path: str, overrides: list[str], *, deep: bool) -> _Sound | ScenarioError:
    from neulite_sim.outside import printable
    from neulite_sim.scenario.loading import load_scenario

    check = FleetCheck()
    built = DeepCheck(check)
    try:
        with contextlib.nullcontext() if deep else uncollected():
            scenario = load_scenario(path, overrides, checks=[check, *([built] if deep else [])])
            notes = dict.fromkeys((*notes_of(scenario, check), *built.notes))
        return _Sound(scenario, [printable(note) for note in notes])
    except ScenarioError as error:
        return error
    except NeuliteError as error:
        return ScenarioError([Problem(key="", message=str(error), file=path, hint=error.hint)])


@dataclass(frozen=True, slots=True)
class _Sound:
    """A scenario that can be run, and what it leaves out or takes otherwise than written."""

    scenario: Scenario
    notes: list[str]


def _facts(scenario: Scenario) -> dict[str, Any]:
    return {"name": scenario.name, "method": scenario.method.label, "devices": scenario.population.devices}


def _as_json(path: str, result: _Sound | ScenarioError) -> dict[str, Any]:
    if isinstance(result, ScenarioError):
        return {"path": path, "ok": False, "problems": [problem.to_json() for problem in result.problems]}
    return {"path": path, "ok": True, **_facts(result.scenario), "notes": result.notes}


def _print(path: str, result: _Sound | ScenarioError) -> None:
    if isinstance(result, ScenarioError):
        typer.echo(message_of(result), err=True)
    else:
        name, method, devices = _facts(result.scenario).values()
        typer.echo(f"ok  {path}  ({name}, {method}, {devices} device{'s' if devices != 1 else ''})")
        for note in result.notes:
            typer.echo(f"    ! {note}")
