"""`neulite-sim timeline`: where the time of a run's rounds went, as tables, as a picture, as a file for a viewer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from neulite_sim.cli.answers import answer
from neulite_sim.cli.options import AsJson, PlotFile, PlotSize, PlotStyle, PlotTitle, plot_asked

VIEWER = "https://ui.perfetto.dev"


def timeline(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a run.", show_default=False)],
    rounds: Annotated[int, typer.Option(metavar="N", help="How many rounds to show.")] = 3,
    first: Annotated[int, typer.Option("--from", metavar="ROUND", help="The first round to show.")] = 1,
    plot: PlotFile = None,
    style: PlotStyle = None,
    size: PlotSize = None,
    title: PlotTitle = None,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the timeline of the whole run (.json.gz) anew from its rows."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print where the time of a run's first rounds went, and which devices they waited for."""
    from neulite_sim.errors import OutputError
    from neulite_sim.reports.console import print_table
    from neulite_sim.reports.screen import screen
    from neulite_sim.reports.timeline_table import timeline_report, timeline_tables
    from neulite_sim.reports.timeline_window import read_window
    from neulite_sim.results.outputs import check_outputs
    from neulite_sim.results.places import COMPLETE, TIMELINE
    from neulite_sim.results.stored import require_kept
    from neulite_sim.results.trace_events import rebuild

    check_outputs({"--plot": plot, "--trace": trace}, [run_dir])
    options = plot_asked(plot, style=style, size=size, title=title)
    window = read_window(run_dir, first=first, count=rounds)
    if trace is None:
        require_kept(run_dir, TIMELINE)
    if plot is not None:
        from neulite_sim.reports.gantt import draw_window

        draw_window(window, plot, options)
    if trace is not None:
        try:
            rebuild(run_dir, trace)
        except OSError as error:
            raise OutputError(
                f"{trace}: cannot write: {error.strerror}", hint="choose another place with --trace"
            ) from error
    is_whole = (run_dir / TIMELINE).is_file() and (run_dir / COMPLETE).exists()
    file = trace or (run_dir / TIMELINE if is_whole else None)
    report = timeline_report(window)
    if as_json:
        answer({**report, "timeline": None if file is None else str(file)})
        return
    console = screen()
    for table in timeline_tables(report):
        print_table(console, table)
    if file is None and (run_dir / COMPLETE).exists():
        sys.stdout.write(f"The run has no {TIMELINE}: --trace FILE writes it from its rows.\n")
    elif file is None:
        sys.stdout.write("The run was cut off or still goes on: --trace FILE writes its timeline so far.\n")
    else:
        sys.stdout.write(f"All rounds, a track per device: open {file} in {VIEWER}\n")
