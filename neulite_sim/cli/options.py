"""Arguments and options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
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


@contextlib.contextmanager
def _nothing_kept() -> Iterator[None]:
    from neulite_sim.profiling.kept import OFF, VARIABLE

    before = os.environ.get(VARIABLE)
    # The environment reaches the processes of a sweep as well.
    os.environ[VARIABLE] = OFF
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


def _keep_nothing(ctx: typer.Context, is_asked: bool) -> bool:
    if is_asked:
        ctx.with_resource(_nothing_kept())
    return is_asked


NoCache = Annotated[
    bool,
    typer.Option("--no-cache", callback=_keep_nothing, help="Profile anew, and keep no profile for later commands."),
]
