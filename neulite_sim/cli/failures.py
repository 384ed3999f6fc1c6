"""How the command line fails: a readable message on standard error and the exit code of interface and errors."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from neulite_sim.errors import NeuliteError, ScenarioError
from neulite_sim.stopping import EXIT_CODE

UNFORESEEN = 1


def message_of(error: NeuliteError) -> str:
    """Return what a user reads about an error: one sentence, or one problem a line as compilers print them."""
    if not isinstance(error, ScenarioError):
        return f"error: {error}"
    return f"{error}\nerror: {len(error.problems)} problems found" if len(error.problems) > 1 else str(error)


# What Typer raises to end a command by itself; its base has moved between versions.
_ENDINGS: tuple[type[BaseException], ...] = (
    typer.Exit,
    typer.Abort,
    *(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"),
)


def words_for(error: Exception) -> str:
    """Return what a user reads about an error that nobody foresaw: what, where in this program, and what to do."""
    if isinstance(error, MemoryError):
        return (
            "error: this machine's memory does not hold what was asked for; ask for less (population.devices, samples, "
            "image sizes, batch sizes), or free memory. --debug before the command shows where"
        )
    what = " ".join(str(error).split())
    what = f"{type(error).__name__}{f': {what[:300]}' if what else ''}"
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if f"{os.sep}neulite_sim{os.sep}" in frame.filename
    ]
    where = f", in {os.path.basename(frames[-1].filename)} line {frames[-1].lineno}" if frames else ""
    return (
        f"error: {what}{where}. This is a mistake of neulite-sim or of a plug-in: please report it to its authors, "
        "with the scenario and the traceback that --debug shows (neulite-sim --debug COMMAND ...)"
    )


@contextmanager
def answered(*, debug: bool = False) -> Iterator[None]:
    """Turn an exception, or Ctrl-C, into a message on standard error and an exit code.

    With `debug`, what nobody foresaw passes through with its traceback.

    Raises:
        typer.Exit: with the exit code of the error's class, 1 for what is none of ours, or 130 after Ctrl-C.
    """
    try:
        yield
    except NeuliteError as error:
        typer.echo(message_of(error), err=True)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(EXIT_CODE) from None
    except _ENDINGS:
        raise
    except Exception as error:
        # A pipe that nobody reads any more is Typer's to end.
        if debug or (isinstance(error, OSError) and error.errno == errno.EPIPE):
            raise
        typer.echo(words_for(error), err=True)
        raise typer.Exit(UNFORESEEN) from None
