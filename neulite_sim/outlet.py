"""Standard output and error that may be full, closed, or of nobody any more: a command does its work all the same.

The first write that fails is said on standard error, and what follows is lost: to fail where something happened to be
printed would end runs of hours for the sake of a log. Imports nothing that takes long: see `stopping`.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import TextIO

EXIT_CODE = 2
"""Of a command that has done its work where its standard output could not take what it printed."""
_OUT, _ERR = 1, 2


class Outlet:
    """What has become of standard output: whether anything that was printed is lost."""

    def __init__(self) -> None:
        self._is_lost = False

    def lose(self, why: str) -> None:
        """Say once that what is printed is lost."""
        self._is_lost = True
        if sys.stderr is not None:
            text = f"error: standard output cannot be written: {why}; the command goes on without it\n"
            sys.stderr.write(text)
            sys.stderr.flush()

    def is_lost(self) -> bool:
        """Return whether something could not be written, after writing all that still waits."""
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        return self._is_lost


class _Guarded(io.FileIO):
    """A file descriptor whose failures are told to somebody, and which then leads nowhere."""

    def __init__(self, number: int, told: Callable[[str], None], failure: str = "") -> None:
        super().__init__(number, "w", closefd=False)
        self._told, self._failure = told, failure

    def write(self, data: object) -> int | None:  # type: ignore[override]
        """Write, or say why that cannot be done; never fails."""
        why, self._failure = self._failure, ""
        if not why:
            try:
                return super().write(data)  # type: ignore[arg-type]
            except BlockingIOError:
                raise
            except OSError as error:
                why = error.strerror or str(error)
                _lead_nowhere(self.fileno())
        self._told(why)
        return memoryview(data).nbytes  # type: ignore[arg-type]


def guard() -> Outlet:
    """Put streams that cannot fail in the place of standard output and error, and return what becomes of the first.

    A stream that is no descriptor of this process, as a test or a notebook puts there, stays what it is.
    """
    outlet = Outlet()
    sys.stderr = _guarded(sys.stderr, _ERR, lambda why: None)
    sys.stdout = _guarded(sys.stdout, _OUT, outlet.lose)
    return outlet


def _guarded(stream: TextIO | None, number: int, told: Callable[[str], None]) -> TextIO:
    buffer = getattr(stream, "buffer", None)
    is_direct = bool(getattr(stream, "write_through", False))
    if stream is None:
        # The next file that is opened would take its number, and with it what libraries print.
        _lead_nowhere(number)
        raw = _Guarded(number, told, failure="it is closed")
    elif type(getattr(buffer, "raw", buffer)) is io.FileIO and stream.fileno() == number:
        stream.flush()
        raw = _Guarded(number, told)
    else:
        return stream
    # What a file is called may hold bytes that are no text in any encoding.
    return io.TextIOWrapper(
        raw if is_direct else io.BufferedWriter(raw),
        encoding=getattr(stream, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=number == _ERR or bool(getattr(stream, "line_buffering", False)),
        write_through=is_direct,
    )


def _lead_nowhere(number: int) -> None:
    """Let a descriptor take whatever is written, from this process and from those it starts."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
