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
    from neulite_sim.api.profile import profile as profiled

    result = profiled(scenario, overrides=overrides or (), audit=audit)
    if as_json:
        answer(result.to_json(), is_ascii=True)
        return
    from neulite_sim.cli.compare import show_tables
    from neulite_sim.reports.screen import screen

    show_tables(screen(), result)
