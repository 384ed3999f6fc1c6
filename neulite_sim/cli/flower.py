"""`neulite-sim flower`: run an unmodified Flower app on a virtual fleet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from neulite_sim.cli.answers import answer
from neulite_sim.cli.options import AsJson, Overrides, Seed

AppDir = Annotated[
    Path,
    typer.Argument(metavar="APP_DIR", help="Folder of the Flower app, with its pyproject.toml.", show_default=False),
]
FleetFile = Annotated[
    str, typer.Option("--fleet", metavar="SCENARIO", help="Scenario file (YAML) whose fleet the app runs on.")
]
RunConfig = Annotated[
    list[str] | None,
    typer.Option(
        "--run-config",
        metavar="KEY=VALUE",
        help="Set values of the app's own configuration, as `flwr run` takes them. Repeatable.",
    ),
]
StepTime = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="What a call without PyTorch takes on the fleet's fastest hardware, 1s by default; `measured` takes this "
        "machine's processor time instead, and no two runs are alike.",
    ),
]
MemorySize = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="What a call without PyTorch needs, such as 200MB; the arrays sent and returned by default.",
    ),
]


def flower(
    app_dir: AppDir,
    fleet: FleetFile,
    overrides: Overrides = None,
    run_config: RunConfig = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Run folder; runs/NAME-SEED by default.")] = None,
    seed: Seed = None,
    step: StepTime = None,
    memory: MemorySize = None,
    track_all: Annotated[
        bool, typer.Option("--track-all", help="Track every call, not the first of each kind on each device only.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show nothing while it runs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run an unmodified Flower app on a virtual fleet: memory, speed, links and availability decide who arrives."""
    from neulite_sim.flower.app import read_app
    from neulite_sim.flower.installed import require_flower

    require_flower()
    app = read_app(app_dir, run_config or ())
    from neulite_sim.cli.interruption import interruptible
    from neulite_sim.flower.fleet_file import load_fleet
    from neulite_sim.flower.flying import Unseen
    from neulite_sim.reports.console import run_console
    from neulite_sim.reports.screen import screen

    unseen = Unseen.of(step, memory)
    scenario, drawn = load_fleet(fleet, overrides or (), seed=seed)
    console = screen(stderr=as_json)
    with interruptible(), run_console(console, quiet=quiet) as view:
        from neulite_sim.flower.running import Settings, run_app

        done = run_app(
            app,
            scenario,
            drawn,
            settings=Settings(unseen=unseen, tracks_all=track_all),
            out=out,
            observers=[view],
            command=sys.argv,
            shows_log=not quiet,
        )
    if as_json:
        answer({**done.summary, "run_dir": str(done.run_dir), "flower": done.result}, indent=None, is_ascii=True)
    if not (as_json and quiet):
        view.finish(done.summary, run_dir=str(done.run_dir))
