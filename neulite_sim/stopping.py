"""Signals that ask this program to stop: they all end it as Ctrl-C does, and only once.

Imports nothing that takes long, so that the first thing a command does is to heed them.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
"""Ctrl-C, a request to terminate, a lost terminal, and what batch systems warn with before they kill."""

EXIT_CODE = 130
INTERRUPTED = "interrupted"
"""What is said of a command that was asked to stop, and the kind of its failure for scripts."""

CLUSTER_MARK = "NEULITE_CLUSTER"
"""Environment variable of all processes of a local cluster: its driver's process number, a colon, its folder."""

_AGAIN_S = 0.05


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

    def ask_again(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Take what Python cannot pass on; where that is the interruption itself, interrupt a moment later."""
        if not (self.is_asked and issubclass(unraisable.exc_type, KeyboardInterrupt)):
            sys.__unraisablehook__(unraisable)
        elif hasattr(signal, "setitimer"):
            self.is_asked = False
            signal.signal(signal.SIGALRM, self)
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)

    def rest(self) -> None:
        """Ignore the signals from now on: the interpreter would give them back their power to kill as it ends."""
        self.is_asked = True
        for number in _numbers():
            if signal.getsignal(number) is self:
                signal.signal(number, signal.SIG_IGN)


def heed_signals() -> Stopping:
    """Return the handler, which from now on takes every one of the signals that was not ignored before.

    What this process was started with ignored (`nohup`, a shell's background job) stays ignored.
    """
    stopping = Stopping()
    for number in _numbers():
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stopping)
    return stopping


def heed_no_more() -> None:
    """Let the handler that this process has installed, if any, rest: what comes now comes when all is over."""
    for number in _numbers():
        if isinstance(handler := signal.getsignal(number), Stopping):
            handler.rest()


def is_asked_to_stop() -> bool:
    """Whether the handler that this process has installed, if any, has taken a signal."""
    handlers = [signal.getsignal(number) for number in _numbers()]
    return any(handler.is_asked for handler in handlers if isinstance(handler, Stopping))


def ask_again_where_it_was_lost() -> None:
    """Interrupt again where a library has swallowed the interruption: while it is imported, many catch everything.

    To be called where nobody deals with an interruption.

    Raises:
        KeyboardInterrupt: this program was asked to stop, and still goes on.
    """
    if is_asked_to_stop():
        raise KeyboardInterrupt


def _numbers() -> list[signal.Signals]:
    """Return those that this system knows."""
    return [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
