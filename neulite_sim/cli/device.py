"""`neulite-sim device`: what happened to one device of a run, and why."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Annotated

import typer

from neulite_sim.cli.answers import answer
from neulite_sim.cli.options import AsJson


def device(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a run.", show_default=False)],
    number: Annotated[int, typer.Argument(metavar="DEVICE", help="Number of the device, from 0.", show_default=False)],
    flights: Annotated[int, typer.Option(min=0, metavar="N", help="How many of its flights to list, the latest.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Tell the story of one device: what fits it, how it took part, or why it did not."""
    from neulite_sim.reports.console import print_table
    from neulite_sim.reports.device_history import read_history
    from neulite_sim.reports.device_story import chapters, flights_table, headline, story_json
    from neulite_sim.reports.device_track import track_lines
    from neulite_sim.reports.screen import screen

    history = read_history(run_dir, number)
    if as_json:
        answer(story_json(history))
        return
    console = screen()
    _print(headline(history), console.width)
    for chapter in chapters(history):
        _print_heading(chapter.title)
        for line in chapter.lines:
            _print(line, console.width, indent="  ")
    if tracks := track_lines(history, console.width):
        _print_heading("its time")
        typer.echo("\n".join(tracks))
    if history.flights and flights:
        typer.echo()
        print_table(console, flights_table(history, flights))


def _print_heading(title: str) -> None:
    typer.echo()
    typer.secho(title, bold=True)


def _print(text: str, width: int, *, indent: str = "") -> None:
    lines = textwrap.wrap(text, max(40, width), initial_indent=indent, subsequent_indent=2 * indent,
                          break_long_words=False, break_on_hyphens=False)  # fmt: skip
    typer.echo("\n".join(lines))
