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
from neulite_sim.cli.compare_views import (
    BudgetOption,
    IntervalOption,
    TargetOption,
    ViewOption,
    answered,
    asked_view,
    check_names,
    draw_comparison,
    show_view,
    view_rows,
)
from neulite_sim.cli.failures import Failed, failure_of
from neulite_sim.cli.options import AsJson, PlotFile, PlotLabels, PlotSize, PlotStyle, PlotTitle, plot_asked

if TYPE_CHECKING:
    from rich.console import Console

    from neulite_sim.errors import DataNotFoundError
    from neulite_sim.reports.comparison import Line
    from neulite_sim.reports.intervals import Kind
    from neulite_sim.results.stored import StoredRun


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
    """Print accuracy, participation, memory, time to accuracy and traffic of runs side by side."""
    from neulite_sim.errors import Problem, ScenarioError
    from neulite_sim.reports.baseline import baseline_of
    from neulite_sim.reports.comparison import lines_of
    from neulite_sim.reports.screen import screen

    if as_json and csv_file == "-":
        found = "prints to standard output, and so does --json"
        raise ScenarioError([Problem.advising(key="--csv -", found=found, hint="choose one, or name a file")])
    asked = asked_view(view, budget=budget, target=target, interval=interval)
    options = plot_asked(plot, style=style, size=size, title=title, labels=label)
    stored, problems = read_runs(runs)
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)
    if not stored:
        raise _unreadable(problems)
    lines, notes = lines_of(stored, grouped=is_grouped or baseline is not None or view is not None)
    against = None if baseline is None else baseline_of(lines, baseline)
    seen = None if asked.name is None else asked.of(lines, against)
    check_names(lines if seen is None else seen.lines, options)
    rows = rows_of(lines, against, asked.kind) if seen is None else view_rows(seen)
    if csv_file is not None:
        write_csv(rows, csv_file)
    if as_json:
        answer(answered(rows, seen, lines, notes, against))
    elif csv_file != "-":
        console = screen()
        show_lines(console, lines, notes, against, asked.kind) if seen is None else show_view(console, seen, notes)
    if plot is not None:
        draw_comparison(lines if seen is None else seen, plot, options)
    if problems:
        raise _unreadable(problems)


def _unreadable(problems: Sequence[DataNotFoundError]) -> Failed:
    """Return the end of a command that has told these; a script reads them as one, a line each."""
    from neulite_sim.errors import DataNotFoundError

    hints = "\n".join(dict.fromkeys(problem.hint for problem in problems if problem.hint))
    return Failed(failure_of(DataNotFoundError("\n".join(map(str, problems))), hint=hints))


def note_deeper(path: Path) -> None:
    """Say which runs are left out of a folder, because they lie in folders inside it."""
    from neulite_sim.results.stored import deeper_runs

    if deeper := deeper_runs(path):
        left = f"{len(deeper)} run{' lies' if len(deeper) == 1 else 's lie'} deeper, such as {deeper[0]}"
        typer.echo(f"note: {path}: {left}; name the folder around to take them", err=True)


def read_runs(paths: Sequence[Path]) -> tuple[list[StoredRun], list[DataNotFoundError]]:
    """Return the runs in folders, each once, and an error for each that cannot be read."""
    from neulite_sim.errors import DataNotFoundError
    from neulite_sim.results.stored import find_runs, read_run

    found: dict[Path, StoredRun] = {}
    problems: dict[str, DataNotFoundError] = {}
    for path in paths:
        try:
            folders = find_runs(path)
            note_deeper(path)
        except DataNotFoundError as error:
            problems.setdefault(str(error), error)
            continue
        for folder in folders:
            try:
                found.setdefault(folder.resolve(), read_run(folder))
            except DataNotFoundError as error:
                problems.setdefault(str(error), error)
    return list(found.values()), list(problems.values())


def show_lines(
    console: Console,
    lines: Sequence[Line],
    notes: Sequence[str] = (),
    baseline: Line | None = None,
    kind: Kind = "t",
) -> None:
    """Print the table of a comparison: in blocks as wide as a terminal, a line per run anywhere else."""
    from neulite_sim.reports.comparison_table import comparison_tables
    from neulite_sim.reports.console import print_table

    width = console.width if console.is_terminal else None
    for table in comparison_tables(lines, notes=notes, width=width, baseline=baseline, kind=kind):
        print_table(console, table)


def rows_of(lines: Sequence[Line], baseline: Line | None = None, kind: Kind = "t") -> list[dict[str, Any]]:
    """Return the rows of a comparison; with a baseline, a group's have its differences."""
    from neulite_sim.reports.baseline import difference_row

    return [
        line.row() | (difference_row(line, baseline, kind=kind) if baseline is not None and line.is_group else {})
        for line in lines
    ]


def print_rows(lines: Sequence[Line], baseline: Line | None = None) -> None:
    """Answer with the rows of a comparison."""
    answer({"rows": rows_of(lines, baseline)})


def write_csv(rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """Write rows into a CSV file, mappings and lists made flat; `-` prints them.

    Raises:
        OutputError: the file cannot be written.
    """
    from neulite_sim.errors import OutputError
    from neulite_sim.reports.comparison import flat

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
        Path(name).write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{name}: cannot write: {error.strerror}", hint="choose another place with --csv") from error
