"""`neulite-sim schema`: the JSON Schema of a scenario, for editors."""

from __future__ import annotations

import typer

from neulite_sim.cli.brief import uncollected


def schema() -> None:
    """Print the JSON Schema of a scenario, for editors."""
    with uncollected():
        from pydantic_core import to_json

        from neulite_sim import registry
        from neulite_sim.scenario.schema import scenario_json_schema

        found = scenario_json_schema()
        for field in registry.GROUPS:
            for reason in registry.load_all(field, tries=False)[1].values():
                typer.echo(f"notice: left out: {reason}", err=True)
        # Python's `json` takes ten times as long where it indents.
        typer.echo(to_json(found, indent=2).decode())
