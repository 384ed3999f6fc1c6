"""`neulite-sim sweep`: many runs over a grid of values and seeds, some at a time, and their comparison."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neulite_sim.cli.answers import answer
from neulite_sim.cli.compare import print_rows, read_runs, show_lines
from neulite_sim.cli.failures import RUNS_FAILED, UNFORESEEN, Failed, Failure
from neulite_sim.cli.options import AsJson, NoCache, Overrides

if TYPE_CHECKING:
    from rich.console import Console

    from neulite_sim.studies.sweeps import EndedRun, PlannedRun

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
    from neulite_sim.cli.checks import check_fleet
    from neulite_sim.reports.screen import screen
    from neulite_sim.scenario.sweep_files import load_sweep
    from neulite_sim.scenario.sweeps import variants
    from neulite_sim.studies.sweeps import default_jobs, plan

    found = load_sweep(scenario, grid=grid or (), overrides=overrides or (), seeds=seeds)
    varied = variants(found, checks=[check_fleet])
    folder = out or Path("runs") / (found.name or varied[0].scenario.name)
    runs = plan(varied, scenario=found.scenario, out=folder)
    if is_dry:
        _list(runs, as_json=as_json)
        return
    console = screen(stderr=as_json)
    failed = run_planned(runs, folder, jobs or default_jobs(runs), console)
    _compare(runs, console, as_json=as_json)
    if failed:
        failure = runs_failed(failed, total=len(runs))
        typer.echo(f"error: {failure.message}", err=True)
        raise Failed(failure)


def runs_failed(failed: Sequence[EndedRun], *, total: int) -> Failure:
    """Return what scripts read of a sweep or a study of so many runs, some of which failed."""
    return Failure(
        kind=RUNS_FAILED,
        message=f"{len(failed)} of {total} runs failed: {', '.join(ended.run.name for ended in failed)}",
        hint="started again, it runs what is missing",
        exit_code=UNFORESEEN,
        details={"runs": [{"run": ended.run.name, **ended.error} for ended in failed]},
    )


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


def run_planned(runs: Sequence[PlannedRun], folder: Path, jobs: int, console: Console) -> list[EndedRun]:
    """Run what is not finished, tell of each run that ends or was cut off before, and return those that failed."""
    from neulite_sim.studies.sweeps import EndedRun, run_all

    waiting = sum(run.state != "finished" for run in runs)
    before = f" ({len(runs) - waiting} of {len(runs)} finished before)" if waiting < len(runs) else ""
    jobs = max(1, min(jobs, waiting))
    failed: list[EndedRun] = []
    num_ended = 0
    with _progress(console, waiting) as advance, contextlib.closing(run_all(runs, out=folder, jobs=jobs)) as events:
        if waiting:
            _say(console, f"{waiting} run{'' if waiting == 1 else 's'}, {jobs} at a time, in {folder}{before}")
        else:
            _say(console, f"nothing to run in {folder}: all {len(runs)} finished before")
        for event in events:
            if isinstance(event, EndedRun):
                num_ended += 1
                failed += [event] if event.outcome == "failed" else []
                _say(console, f"[{num_ended}/{waiting}] {_told(event)}")
                advance()
            elif event.state == "cut off":
                _say(console, f"{event.name}: {_begun(event)}")
    return failed


def _begun(run: PlannedRun) -> str:
    if run.resume_command:
        return f"cut off, resumed after round {run.checkpoint_round}"
    return f"cut off, run anew: {run.anew_because}"


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)


def _told(ended: EndedRun) -> str:
    from neulite_sim.reports.lines import number
    from neulite_sim.results.stored import read_run
    from neulite_sim.units import format_seconds

    name = f"{ended.run.name}: "
    if ended.outcome != "done":
        return name + ("NA, no device can train anything" if ended.outcome == "NA" else f"failed: {ended.message}")
    accuracy = number(read_run(ended.run.folder).summary.get("tail_accuracy"), 4)
    since = f" from round {ended.run.checkpoint_round + 1} on" if ended.run.resume_command else ""
    return f"{name}accuracy {accuracy}, in {format_seconds(ended.wall_time_s)}{since}"


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


def _compare(runs: Sequence[PlannedRun], console: Console, *, as_json: bool) -> None:
    """Print the comparison of the runs that finished."""
    from neulite_sim.reports.comparison import lines_of
    from neulite_sim.results.places import COMPLETE

    found, problems = read_runs([run.folder for run in runs if (run.folder / COMPLETE).exists()])
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)
    lines, notes = lines_of(found, grouped=True)
    if as_json:
        print_rows(lines)
    elif lines:
        _say(console, "")
        show_lines(console, lines, notes)
