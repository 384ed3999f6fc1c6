"""Arguments and options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

from neulite_sim.cli.answers import ask_for_json

ScenarioPath = Annotated[str, typer.Argument(metavar="SCENARIO", help="Scenario file (YAML).", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set one value of the scenario: dotted key, list items by number, value as YAML. Repeatable.",
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="Replace the scenario's seed.")]
AsJson = Annotated[
    bool,
    typer.Option("--json", callback=ask_for_json, help="Print JSON on standard output."),
]
