"""`neulite-sim sweep`: many runs over a grid of values and seeds, some at a time, and their comparison."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neulite_sim.cli.answers import answer
from neulite_sim.cli.compare import show_tables
from neulite_sim.cli.failures import Failed, failure_of
from neulite_sim.cli.options import AsJson, NoCache, Overrides

if TYPE_CHECKING:
    from rich.console import Console

    from neulite_sim.api.running import Audience, Telling
    from neulite_sim.studies.sweeps import PlannedRun

SweptPath = Annotated[
    str,
    typer.Argument(
        metavar="SCENARIO",
        help="Scenario file, or a sweep file with the keys scenario, grid, seeds and set (YAML).",
        show_default=False,
    ),
]
Grid = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=V1,V2",
        help="Vary one value of the scenario: dotted key, values as YAML. Repeatable: every combination is run.",
    ),
]


def sweep(
    scenario: SweptPath,
    grid: Grid = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Seeds per combination, from the scenario's own on; 1 by default."),
    ] = None,
    overrides: Overrides = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Runs at a time; by default as many as the processors hold, one with Ray or a GPU.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the run folders; runs/NAME by default."),
    ] = None,
    is_dry: Annotated[bool, typer.Option("--dry-run", help="List the runs and check them; run nothing.")] = False,
    no_cache: NoCache = False,
    as_json: AsJson = False,
) -> None:
    """Run a scenario over a grid of values and seeds, and compare the runs.

    Started again, it resumes what was cut off and runs what is missing. What no device can train is a result (NA); a
    run that fails does not stop the others.
    """
    from neulite_sim.api.sweep import planned_sweep
    from neulite_sim.reports.screen import screen

    planned = planned_sweep(scenario, grid=grid or (), seeds=seeds, overrides=overrides or (), out=out)
    if is_dry:
        _list(planned.runs, as_json=as_json)
        return
    console = screen(stderr=as_json)
    result = planned.run(jobs=jobs, telling=telling_on(console))
    for problem in result.problems:
        typer.echo(f"error: {problem}", err=True)
    if as_json:
        answer(result.to_json())
    elif result.tables():
        _say(console, "")
        show_tables(console, result)
    if result.failed:
        from neulite_sim.api.running import failure_of_runs

        failure = failure_of_runs(result.failed, len(planned.runs), result)
        typer.echo(f"error: {failure}", err=True)
        raise Failed(failure_of(failure))


def _list(runs: Sequence[PlannedRun], *, as_json: bool) -> None:
    if as_json:
        entries = [
            {
                "run": run.name,
                "state": run.state,
                "resumes_after_round": run.checkpoint_round if run.resume_command else None,
                "anew_because": run.anew_because or None,
                "run_dir": str(run.folder),
                "command": list(run.resume_command or run.command),
            }
            for run in runs
        ]
        answer({"runs": entries})
        return
    width = max(len(run.name) for run in runs)
    for run in runs:
        typer.echo(f"{run.name:<{width}}  {_listed(run)}")


def _listed(run: PlannedRun) -> str:
    if run.state != "cut off":
        return "to run" if run.state == "new" else run.state
    if run.resume_command:
        return f"cut off, to resume after round {run.checkpoint_round}"
    return f"cut off, to run anew: {run.anew_because}"


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)


class _Spoken:
    """Says each line on a console, and moves its bar."""

    def __init__(self, console: Console, advance: Callable[[], None]) -> None:
        self._console = console
        self.advance = advance

    def say(self, line: str) -> None:
        _say(self._console, line)


def telling_on(console: Console) -> Telling:
    """Return what tells a console of runs while they are at work."""

    @contextlib.contextmanager
    def telling(total: int) -> Iterator[Audience]:
        with _progress(console, total) as advance:
            yield _Spoken(console, advance)

    return telling


@contextlib.contextmanager
def _progress(console: Console, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on a terminal, nothing elsewhere; yields what to call after each run."""
    if not console.is_terminal or console.is_dumb_terminal or not total:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("runs"), BarColumn(bar_width=None), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, refresh_per_second=2) as bar:
        task = bar.add_task("runs", total=total)
        yield lambda: bar.advance(task)
