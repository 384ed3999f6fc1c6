"""`neulite-sim compare`: runs side by side, as a table, as rows for scripts, as a figure."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neulite_sim.cli.answers import answer
from neulite_sim.cli.failures import Failed, failure_of
from neulite_sim.cli.options import AsJson, PlotFile, PlotLabels, PlotSize, PlotStyle, PlotTitle, plot_asked

if TYPE_CHECKING:
    from rich.console import Console

    from neulite_sim.api.finding import Named
    from neulite_sim.api.result import Result
    from neulite_sim.errors import DataNotFoundError

ViewOption = Annotated[
    str | None,
    typer.Option(metavar="VIEW", help="quality-under-budget, cost-to-target or robustness. Groups the runs."),
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        metavar="BOUNDS", help="Of quality-under-budget, such as memory=300MB,time=2h,traffic=1GB,energy=9kJ."
    ),
]
TargetOption = Annotated[
    str | None,
    typer.Option(metavar="ACCURACY", help="Of cost-to-target, such as 0.9; without it, the highest reached."),
]
IntervalOption = Annotated[
    str, typer.Option(metavar="KIND", help="Of the 95 % intervals: t, or bca (a bootstrap) from eight seeds on.")
]


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN_DIR", help="Run folders, or folders that hold run folders.", show_default=False),
    ],
    is_grouped: Annotated[
        bool,
        typer.Option("--group", help="One line for runs that differ in the seed only: mean ± half a 95 % interval."),
    ] = False,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Differences to this group or method, paired by seed. Groups the runs."),
    ] = None,
    view: ViewOption = None,
    budget: BudgetOption = None,
    target: TargetOption = None,
    interval: IntervalOption = "t",
    csv_file: Annotated[
        str | None,
        typer.Option("--csv", metavar="FILE", help="Also write the rows as CSV; - prints them in place of the table."),
    ] = None,
    plot: PlotFile = None,
    style: PlotStyle = None,
    size: PlotSize = None,
    title: PlotTitle = None,
    label: PlotLabels = None,
    as_json: AsJson = False,
) -> None:
    """Print accuracy, participation, memory, time to accuracy, traffic and energy of runs side by side."""
    from neulite_sim.api.compare import compared
    from neulite_sim.api.views import asked_view
    from neulite_sim.errors import Problem, ScenarioError
    from neulite_sim.results.outputs import check_outputs

    if as_json and csv_file == "-":
        found = "prints to standard output, and so does --json"
        raise ScenarioError([Problem.advising(key="--csv -", found=found, hint="choose one, or name a file")])
    check_outputs({"--csv": None if csv_file == "-" else csv_file, "--plot": plot}, runs)
    asked = asked_view(view, budget=budget, target=target, interval=interval)
    options = plot_asked(plot, style=style, size=size, title=title, labels=label)
    named = read_named(runs)
    for problem in named.problems:
        typer.echo(f"error: {problem}", err=True)
    if not named.runs:
        raise unreadable(named.problems)
    result = compared(named.runs, asked, group=is_grouped, baseline=baseline)
    result.check_labels(options)
    if csv_file is not None:
        write_csv(result.rows, csv_file)
    if as_json:
        answer(result.to_json())
    elif csv_file != "-":
        from neulite_sim.reports.screen import screen

        show_tables(screen(), result)
    if plot is not None:
        result.drawn(plot, options)
    if named.problems:
        raise unreadable(named.problems)


def unreadable(problems: Sequence[DataNotFoundError]) -> Failed:
    """Return the end of a command that has told these; a script reads them as one, a line each."""
    from neulite_sim.errors import DataNotFoundError

    hints = "\n".join(dict.fromkeys(problem.hint for problem in problems if problem.hint))
    return Failed(failure_of(DataNotFoundError("\n".join(map(str, problems))), hint=hints))


def read_named(paths: Sequence[Path]) -> Named:
    """Return the runs in folders, and say which runs are left out of them, because they lie in folders inside."""
    from neulite_sim.api.finding import read_runs

    named = read_runs(paths)
    say_left_out(named.notes)
    return named


def say_left_out(notes: Sequence[str]) -> None:
    """Say which runs are left out of folders."""
    for note in notes:
        typer.echo(f"note: {note}", err=True)


def show_tables(console: Console, result: Result) -> None:
    """Print the tables of a result: in blocks as wide as a terminal, a line per row anywhere else."""
    from neulite_sim.reports.console import print_table

    for table in result.tables(width=console.width if console.is_terminal else None):
        print_table(console, table)


def write_csv(rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """Write rows into a CSV file, mappings and lists made flat; `-` prints them.

    Raises:
        OutputError: the file cannot be written.
    """
    from neulite_sim.errors import OutputError
    from neulite_sim.reports.comparison import flat
    from neulite_sim.results.outputs import beside
    from neulite_sim.results.writing import encoded

    cells = [flat(row) for row in rows]
    text = io.StringIO(newline="")
    columns = list(dict.fromkeys(key for row in cells for key in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(cells)
    if name == "-":
        sys.stdout.write(text.getvalue())
        return
    try:
        with beside(Path(name)) as place:
            place.write_bytes(encoded(text.getvalue()))
    except OSError as error:
        raise OutputError(f"{name}: cannot write: {error.strerror}", hint="choose another place with --csv") from error
