"""Ctrl-C during a run: it stops at once, and the line to type to go on is printed."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from neulite_sim.cli.failures import INTERRUPTED


class Whereabouts:
    """An observer that remembers where the run is kept."""

    def __init__(self) -> None:
        self.run_dir: str | None = None

    def notify(self, event: object) -> None:
        """Take note of the run folder when the run starts."""
        self.run_dir = getattr(event, "run_dir", None) or self.run_dir


@contextmanager
def resumable(run_dir: str | None = None) -> Iterator[Whereabouts]:
    """Yield an observer for the run inside; a run that is interrupted or terminated there says how to go on.

    Raises:
        typer.Exit: with code 130, after Ctrl-C or a request to terminate.
    """
    # A terminated run ends as an interrupted one does: workers stopped, the terminal given back.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    place = Whereabouts()
    place.run_dir = run_dir
    try:
        yield place
    except KeyboardInterrupt:
        if place.run_dir is None:
            typer.echo("interrupted before the run began", err=True)
        else:
            typer.echo(f"interrupted; go on with: neulite-sim resume {shlex.quote(place.run_dir)}", err=True)
        raise typer.Exit(INTERRUPTED) from None
