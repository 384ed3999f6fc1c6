"""Arguments and options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neulite_sim.cli.answers import ask_for_json

if TYPE_CHECKING:
    from neulite_sim.api.backend import WorkerCount
    from neulite_sim.reports.plot_options import PlotOptions

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
Workers = Annotated[
    str | None,
    typer.Option(
        "--workers",
        metavar="N|auto",
        help="Number of Ray actors, or of threads; auto for as many as the processors hold.",
    ),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", callback=ask_for_json, help="Print JSON on standard output."),
]


@contextlib.contextmanager
def _nothing_kept() -> Iterator[None]:
    from neulite_sim.profiling.kept_files import OFF, VARIABLE

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

PlotFile = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", help="Also draw a figure: a .png, .svg or .pdf file.")
]
PlotStyle = Annotated[
    str | None,
    typer.Option("--style", metavar="STYLE", help="Of the figure: screen, paper (a column of 3.3 in, 8 pt) or slides."),
]
PlotSize = Annotated[
    str | None,
    typer.Option("--size", metavar="WxH", help="Of the figure, in inches or with units, such as 3.3x2.4 or 8cmx5cm."),
]
PlotTitle = Annotated[
    str | None, typer.Option("--title", metavar="TEXT", help="Of the figure, in place of its own; none for no title.")
]
PlotLabels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="RUN=NAME", help="What a run is called in the figure. Repeatable."),
]


def workers_asked(text: str | None) -> WorkerCount | None:
    """Return how many actors `--workers` asks for; None where it is not given.

    Raises:
        ScenarioError: it is neither `auto` nor a number of actors.
    """
    from neulite_sim.bounds import MOST_THREADS
    from neulite_sim.errors import Problem, ScenarioError

    if text is None:
        return None
    if text == "auto":
        return "auto"
    # What int() takes beyond digits, signs and underscores among them, is a slip here.
    if text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MOST_THREADS:
        return int(text)
    found = f"{text!r} is neither auto nor a whole number from 1 to {MOST_THREADS}"
    hint = "write for example --workers 4, or --workers auto for as many as the processors hold"
    raise ScenarioError([Problem.advising(key="--workers", found=found, hint=hint)])


def plot_asked(
    plot: Path | None,
    *,
    style: str | None = None,
    size: str | None = None,
    title: str | None = None,
    labels: Sequence[str] | None = None,
) -> PlotOptions:
    """Return how the figure of a command is asked for, after checking that it can be drawn at all.

    Raises:
        ScenarioError: an option is not understood, acts only with --plot, or the file has another ending.
        NeuliteError: matplotlib is not installed.
    """
    from neulite_sim.errors import Problem, ScenarioError
    from neulite_sim.reports.plot_options import check_plot, plot_options

    if plot is None:
        given = {"--style": style, "--size": size, "--title": title, "--label": labels or None}
        for option, value in given.items():
            if value is not None:
                hint = "add --plot FILE, or remove it"
                raise ScenarioError([Problem.advising(key=option, found="acts only with --plot", hint=hint)])
    else:
        check_plot(plot)
    return plot_options(style=style, size=size, title=title, labels=labels or ())
