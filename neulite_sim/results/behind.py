"""Writing behind a run: in a thread of its own, in order, and not far behind.

Packing and writing let go of Python's lock, so that a run that makes rows goes on meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

_MOST_BEHIND = 2
_MOST_BYTES_BEHIND = 2**22
"""What waits is held in memory: so many pieces in any case, and more of them up to so many bytes together."""


class Behind:
    """Does one thing after the other in a thread that starts with the first; an error is raised by a later call."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "writes")
        self._left: deque[tuple[Future[None], int]] = deque()
        self._failed: Exception | None = None

    def do(self, work: Callable[..., object], *given: object, num_bytes: int = _MOST_BYTES_BEHIND) -> None:
        """Do `work(*given)` after all that was asked for before; waits where too much of that is left.

        `num_bytes` is what is held until then.

        Raises:
            Exception: what an earlier work has raised, after which nothing is done any more.
        """
        self._catch_up(_MOST_BEHIND - 1, _MOST_BYTES_BEHIND - num_bytes)
        self._left.append((self._thread.submit(self._do, work, *given), num_bytes))

    def wait(self) -> None:
        """Wait until all is done.

        Raises:
            Exception: as `do`.
        """
        self._catch_up(0, -1)

    def _do(self, work: Callable[..., object], *given: object) -> None:
        if self._failed is None:
            try:
                work(*given)
            except Exception as error:
                self._failed = error

    def _catch_up(self, most_left: int, most_bytes: int) -> None:
        """Wait until no more is left than so many pieces, or so many bytes."""
        while self._left and self._left[0][0].done():
            self._left.popleft()
        left_bytes = sum(num_bytes for _, num_bytes in self._left)
        while len(self._left) > most_left and left_bytes > most_bytes:
            done, num_bytes = self._left.popleft()
            done.result()
            left_bytes -= num_bytes
        if self._failed is not None:
            self.close()
            raise self._failed

    def close(self) -> None:
        """End the thread; what has not begun is not done."""
        self._left.clear()
        self._thread.shutdown(cancel_futures=True)
