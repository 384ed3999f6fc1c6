"""`neulite-sim schema`: the JSON Schema of a scenario, for editors."""

from __future__ import annotations

import json

import typer


def schema() -> None:
    """Print the JSON Schema of a scenario, for editors."""
    from neulite_sim import registry
    from neulite_sim.scenario.schema import scenario_json_schema

    for field in registry.GROUPS:
        for reason in registry.load_all(field)[1].values():
            typer.echo(f"notice: left out: {reason}", err=True)
    typer.echo(json.dumps(scenario_json_schema(), indent=2, ensure_ascii=False))
