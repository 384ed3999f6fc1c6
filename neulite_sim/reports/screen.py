"""Where a command writes: a terminal that draws, or a pipe, a file and a cell of a notebook, which get plain text."""

from __future__ import annotations

import os
import sys
from typing import IO, Any

from rich.console import Console

# Jupyter sets it for its kernels. What a cell starts with `!` inherits it, and a pseudo-terminal, and FORCE_COLOR.
_KERNEL = "JPY_PARENT_PID"


def is_drawn_on(stream: IO[str] | None) -> bool:
    """Return whether a stream is a terminal that somebody looks at; the output of a notebook's cell is none.

    Python has no stream at all where it was closed.
    """
    return stream is not None and stream.isatty() and _KERNEL not in os.environ


def screen(*, stderr: bool = False, **options: Any) -> Console:
    """Return a console on standard output or error that writes no control codes where nothing is drawn.

    Without this, Rich would take `FORCE_COLOR`, which many build servers set, for a terminal.
    """
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, force_terminal=None if is_drawn_on(stream) else False, **options)
