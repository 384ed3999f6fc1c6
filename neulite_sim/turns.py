"""Taking turns: what a process has only once is used by one thread at a time.

PyTorch's own generator and settings belong to the process, and so do the modules of users' files and the functions of
PyTorch that are replaced while a network is followed. A run in another thread that used them meanwhile would alter both
results. So runs wait for their turn, and so does all else that builds or follows networks. A thread that has its turn
may take it again within, as an observer does that starts a run; threads that a run starts for its own work need none.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

_turn = threading.RLock()


@contextlib.contextmanager
def my_turn() -> Iterator[None]:
    """Wait until no other thread has its turn, and have it for the time inside. Also a decorator.

    Waiting takes no processor time, and Ctrl-C ends it.
    """
    with _turn:
        yield


def _after_fork() -> None:
    """Let a forked process have its turn: the thread that had it is not there, unless it is the one that forked."""
    global _turn
    if _turn.acquire(blocking=False):
        _turn.release()
    else:
        _turn = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
