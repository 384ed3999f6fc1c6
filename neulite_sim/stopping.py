"""Signals that ask this program to stop: they all end it as Ctrl-C does, and only once.

Imports nothing that takes long, so that the first thing a command does is to heed them.
"""

from __future__ import annotations

import signal
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
"""Ctrl-C, a request to terminate, a lost terminal, and what batch systems warn with before they kill."""

EXIT_CODE = 130


class Stopping:
    """The handler of these signals. The first raises `KeyboardInterrupt` in the main thread, later ones do nothing.

    So a second Ctrl-C does not break off what stops the workers, and one that comes when all is over has no effect.
    """

    def __init__(self) -> None:
        self.is_asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        del number, frame
        if not self.is_asked:
            self.is_asked = True
            raise KeyboardInterrupt


def heed_signals() -> Stopping:
    """Return the handler, which from now on takes every one of the signals that was not ignored before.

    What this process was started with ignored (`nohup`, a shell's background job) stays ignored.
    """
    stopping = Stopping()
    for name in SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stopping)
    return stopping


def is_asked_to_stop() -> bool:
    """Whether the handler that this process has installed, if any, has taken a signal."""
    for name in SIGNALS:
        handler = signal.getsignal(getattr(signal, name)) if hasattr(signal, name) else None
        if isinstance(handler, Stopping):
            return handler.is_asked
    return False
