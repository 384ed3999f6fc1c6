"""`neulite-sim profile`: what each submodel of a scenario costs, and who can train it."""

from __future__ import annotations

from typing import Annotated

import typer

from neulite_sim.cli.answers import answer
from neulite_sim.cli.options import AsJson, NoCache, Overrides, ScenarioPath


def profile(
    scenario: ScenarioPath,
    overrides: Overrides = None,
    audit: Annotated[bool, typer.Option("--audit", help="Also track a real step of each submodel.")] = False,
    no_cache: NoCache = False,
    as_json: AsJson = False,
) -> None:
    """Print memory, compute and traffic of each submodel, and the share of the fleet that can train it."""
    from neulite_sim.cli.checks import FleetCheck
    from neulite_sim.scenario.loading import load_scenario

    check = FleetCheck()
    loaded = load_scenario(scenario, overrides or (), checks=[check])

    from neulite_sim.engine.assembly import assemble
    from neulite_sim.reports.console import print_table
    from neulite_sim.reports.profile_table import profile_tables
    from neulite_sim.reports.screen import screen
    from neulite_sim.studies.costs import cost_report

    report = cost_report(assemble(loaded, check.fleet), audits=audit)
    if as_json:
        answer(report, is_ascii=True)
        return
    console = screen()
    for table in profile_tables(report):
        print_table(console, table)
