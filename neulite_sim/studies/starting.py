"""Starting processes that are not lost where the program is interrupted meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class Starter:
    """Starts processes in a thread of its own, which gets no signals.

    Python forgets a process if Ctrl-C comes while it starts, and it would go on by itself. So `work` keeps the process
    where somebody ends it, and whoever was interrupted calls `close` before that.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "starts")
        # First of all the thread: a pool that is interrupted as it starts one does not wait for it later.
        self._thread.submit(int).result()

    def do(self, work: Callable[..., None], *given: object) -> None:
        """Do `work(*given)`; what it raises is raised here."""
        self._thread.submit(work, *given).result()

    def close(self) -> None:
        """Wait for what starts, and end the thread."""
        self._thread.shutdown()
