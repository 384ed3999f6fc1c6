"""`neulite-sim cache [clear]`: where profiles are kept, how many, and how to be rid of them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from neulite_sim.cli.answers import answer
from neulite_sim.cli.options import AsJson


class Action(StrEnum):
    """What is done with the profiles that are kept."""

    info = "info"
    clear = "clear"


def cache(
    action: Annotated[
        Action,
        typer.Argument(metavar="[clear]", help="Drop what is kept; without it, say what is.", show_default=False),
    ] = Action.info,
    as_json: AsJson = False,
) -> None:
    """Say where profiles of submodels are kept for later commands, and how many, or drop them with `clear`."""
    from neulite_sim.profiling.kept_files import OFF, VARIABLE, Contents, KeptFiles, kept_folder
    from neulite_sim.units import format_bytes

    place = kept_folder()
    kept = None if place is None else KeptFiles(place)
    found = Contents(entries=0, num_bytes=0) if kept is None else kept.contents()
    if kept is not None and action is Action.clear:
        found = kept.clear()
    folder = None if kept is None else str(kept.folder)
    if as_json:
        answer({"action": action.value, "folder": folder, "entries": found.entries, "bytes": found.num_bytes})
    elif folder is None:
        typer.echo(f"no profiles are kept: {VARIABLE} is {OFF}")
    else:
        count = f"{found.entries} entr{'y' if found.entries == 1 else 'ies'}, {format_bytes(found.num_bytes)}"
        typer.echo(f"{folder}: {'dropped ' if action is Action.clear else ''}{count}")
