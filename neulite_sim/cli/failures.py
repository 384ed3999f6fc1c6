"""How the command line fails: a readable message on standard error and the exit code of interface and errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from neulite_sim.errors import NeuliteError, ScenarioError
from neulite_sim.stopping import EXIT_CODE


def message_of(error: NeuliteError) -> str:
    """Return what a user reads about an error: one sentence, or one problem a line as compilers print them."""
    if not isinstance(error, ScenarioError):
        return f"error: {error}"
    return f"{error}\nerror: {len(error.problems)} problems found" if len(error.problems) > 1 else str(error)


@contextmanager
def answered() -> Iterator[None]:
    """Turn an exception for users, or Ctrl-C, into a message and an exit code; let everything else through.

    Raises:
        typer.Exit: with the exit code of the error's class, or 130 after Ctrl-C.
    """
    try:
        yield
    except NeuliteError as error:
        typer.echo(message_of(error), err=True)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(EXIT_CODE) from None
