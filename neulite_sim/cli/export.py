"""`neulite-sim export`: the rows of runs for other tools."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neulite_sim.cli.answers import answer
from neulite_sim.cli.compare import say_left_out
from neulite_sim.cli.failures import Failed, failure_of
from neulite_sim.cli.options import AsJson
from neulite_sim.errors import DataNotFoundError, NeuliteError, OutputError

if TYPE_CHECKING:
    from neulite_sim.exports.tools import Exported, Tool

ONE_OF = "parquet, tensorboard, mlflow or wandb"


def export(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN_DIR", help="Run folders, or folders that hold run folders.", show_default=False),
    ],
    to: Annotated[str, typer.Option("--to", metavar="TOOL", help=f"{ONE_OF}.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the export goes; into exports/TOOL by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the rows of runs as Parquet files, or into an offline store of TensorBoard, MLflow or Weights & Biases.

    Nothing is sent anywhere. A run that is there already is not written twice; one that has gone on since is renewed.
    """
    from neulite_sim.exports.tools import EXPORTS, export_run, planned, tool_named

    tool = tool_named(to, option="--to")
    from neulite_sim.api.finding import left_out
    from neulite_sim.results.outputs import check_outputs

    check_outputs({"--out": out}, runs)
    say_left_out([note for path in runs for note in left_out(path)])
    done: list[Exported] = []
    problems: list[NeuliteError] = []
    for run_dir, place in planned(runs, tool, out):
        try:
            done.append(export_run(run_dir, tool, place))
        except (DataNotFoundError, OutputError) as error:
            problems.append(error)
            typer.echo(f"error: {error}", err=True)
        else:
            say(done[-1], quiet=as_json)
    if as_json:
        answer({"exports": [exported.to_json() for exported in done]})
    elif done:
        folder = done[0].path if len(done) == 1 else out or EXPORTS / tool.name
        typer.echo((tool.look if len(done) == 1 else tool.look_at_all).format(shlex.quote(str(folder))))
    if problems:
        hints = "\n".join(dict.fromkeys(problem.hint for problem in problems if problem.hint))
        raise Failed(failure_of(type(problems[0])("\n".join(map(str, problems))), hint=hints))


def say(exported: Exported, *, quiet: bool = False) -> None:
    """Print what became of a run in a line, and what has to be known about it, unless it is to be quiet."""
    if quiet:
        return
    typer.echo(f"{exported.run}: {exported.status}: {exported.path}")
    for remark in exported.remarks:
        typer.echo(f"  {remark}")


def tools_named(names: Sequence[str]) -> list[Tool]:
    """Return the tools of `run --export`, each once.

    Raises:
        ScenarioError: there is no such tool.
        NeuliteError: one is not installed.
    """
    from neulite_sim.exports.tools import tool_named

    return [tool_named(name, option="--export") for name in dict.fromkeys(names)]


def export_finished(run_dir: Path, tools: Sequence[Tool], *, quiet: bool) -> tuple[list[Exported], Failed | None]:
    """Export a run that has just ended; return what was exported, and how the command ends where that failed.

    The run is complete whatever happens here: a tool that fails is told, with the line that tries again.
    """
    from neulite_sim.exports.tools import export_run

    done: list[Exported] = []
    problems: list[str] = []
    lines: list[str] = []
    for tool in tools:
        try:
            done.append(export_run(run_dir, tool))
            say(done[-1], quiet=quiet)
        except NeuliteError as error:
            lines.append(f"neulite-sim export {shlex.quote(str(run_dir))} --to {tool.name}")
            problems.append(f"the run is complete in {run_dir}, and its export to {tool.name} failed: {error}")
            typer.echo(f"error: {problems[-1]}; then: {lines[-1]}", err=True)
    if not problems:
        return done, None
    return done, Failed(failure_of(OutputError("\n".join(problems)), hint="\n".join(lines)))
