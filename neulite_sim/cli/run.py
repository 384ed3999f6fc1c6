"""`neulite-sim run`: run one scenario."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neulite_sim.cli.answers import answer
from neulite_sim.cli.export import ONE_OF, export_finished, tools_named
from neulite_sim.cli.interruption import resumable
from neulite_sim.cli.options import AsJson, NoCache, Overrides, ScenarioPath, Seed, Workers, workers_asked

if TYPE_CHECKING:
    from neulite_sim.exports.tools import Tool
    from neulite_sim.population.sampling import DrawnFleet
    from neulite_sim.results.contract import Observer
    from neulite_sim.scenario.schema import Scenario


def run(
    scenario: ScenarioPath,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Run folder; runs/NAME-SEED by default.")] = None,
    seed: Seed = None,
    backend: Annotated[str | None, typer.Option(metavar="KIND", help="ray, inprocess or dry-run.")] = None,
    workers: Workers = None,
    ray_address: Annotated[str | None, typer.Option(metavar="ADDR", help="Address of a running Ray cluster.")] = None,
    exports: Annotated[
        list[str] | None,
        typer.Option(
            "--export",
            metavar="TOOL",
            help=f"When the run is complete, export it into exports/TOOL: {ONE_OF}. Repeatable.",
        ),
    ] = None,
    audit: Annotated[bool, typer.Option("--audit", help="Track a real step of each submodel before it runs.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show nothing while it runs.")] = False,
    no_cache: NoCache = False,
    as_json: AsJson = False,
) -> None:
    """Run a scenario and show it while it runs."""
    from neulite_sim.api.backend import begun_backend, with_backend
    from neulite_sim.api.checks import FleetCheck
    from neulite_sim.reports.console import run_console
    from neulite_sim.reports.screen import screen
    from neulite_sim.results.claiming import require_free
    from neulite_sim.scenario.loading import load_scenario
    from neulite_sim.studies.handing import take_over

    take_over()
    tools = tools_named(exports or ())
    num_workers = workers_asked(workers)
    check = FleetCheck()
    loaded: Scenario = load_scenario(scenario, overrides or (), seed=seed, checks=[check])
    loaded = with_backend(loaded, kind=backend, workers=num_workers, address=ray_address)
    if out is not None:
        require_free(out)
    keepers = _audit(loaded, check.fleet, quiet=quiet) if audit else []
    console = screen(stderr=as_json)
    with begun_backend(loaded), resumable() as place, run_console(console, quiet=quiet) as view:
        from neulite_sim.engine.simulation import simulate

        result = simulate(
            loaded,
            out=out,
            keeps_folder=True,
            observers=[view, place, *keepers],
            command=sys.argv,
            fleet=check.fleet,
        )
    if as_json:
        answer({**result.summary, "run_dir": str(result.run_dir)}, indent=None, is_ascii=True)
    if not (as_json and quiet):
        view.finish(result.summary, run_dir=str(result.run_dir))
    if tools and result.run_dir is not None:
        _export(result.run_dir, tools, result.summary, quiet=quiet, as_json=as_json)


def _export(run_dir: Path, tools: Sequence[Tool], summary: Mapping[str, Any], *, quiet: bool, as_json: bool) -> None:
    """Export a run that is complete.

    Raises:
        Failed: a tool could not take it; the run stays.
    """
    done, failed = export_finished(run_dir, tools, quiet=quiet or as_json)
    if as_json:
        exported = [export.to_json() for export in done]
        answer({**summary, "run_dir": str(run_dir), "exports": exported}, indent=None, is_ascii=True)
    if failed is not None:
        raise failed


def _audit(scenario: Scenario, fleet: DrawnFleet | None, *, quiet: bool) -> list[Observer]:
    """Print predicted and measured peaks on standard error; return who keeps them in the run folder."""
    from neulite_sim.engine.assembly import assemble
    from neulite_sim.reports.audit_table import audit_table
    from neulite_sim.reports.console import print_table
    from neulite_sim.reports.screen import screen
    from neulite_sim.studies.auditing import AuditKeeper, audit_run

    rows = audit_run(assemble(scenario, fleet))
    if not quiet:
        print_table(screen(stderr=True), audit_table(rows))
    return [AuditKeeper(rows)]
