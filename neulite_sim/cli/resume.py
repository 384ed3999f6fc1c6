"""`neulite-sim resume`: go on with a run that was cut off."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neulite_sim.cli.answers import answer
from neulite_sim.cli.interruption import resumable
from neulite_sim.cli.options import AsJson, NoCache, Workers, workers_asked


def resume(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a run that was stopped or killed.")],
    backend: Annotated[str | None, typer.Option(metavar="KIND", help="ray or inprocess.")] = None,
    workers: Workers = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show nothing while it runs.")] = False,
    no_cache: NoCache = False,
    as_json: AsJson = False,
) -> None:
    """Go on where a stopped or killed run ended: its result is that of a run that was never broken off."""
    from neulite_sim.api.loading import resume as go_on
    from neulite_sim.reports.console import run_console
    from neulite_sim.reports.screen import screen
    from neulite_sim.studies.handing import take_over

    take_over()
    num_workers = workers_asked(workers)
    console = screen(stderr=as_json)
    with resumable(str(run_dir)), run_console(console, quiet=quiet) as view:
        result = go_on(run_dir, backend=backend, workers=num_workers, observers=[view], progress=False)
    if as_json:
        answer({**result.summary, "run_dir": str(result.run_dir)}, indent=None, is_ascii=True)
    if not (as_json and quiet):
        view.finish(result.summary, run_dir=str(result.run_dir))
