"""The floor of a crew: some are at work beside each other, or one alone, and who gave the work may wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from neulite_sim.training.worker import Abandoned


class Floor:
    """Says who may be at work. `changed` is notified of every change, and its lock guards all of it."""

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self._num_beside = self._num_asking = 0
        self._is_alone = self._is_waited_for = False
        self.is_closed = False

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Be at work beside others, within.

        Raises:
            Abandoned: the floor is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.is_closed or not (self._is_alone or self._num_asking))
            self.check()
            self._num_beside += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_beside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only one at work, while who gave the work waits.

        Raises:
            Abandoned: the floor is closed.
        """
        with self._changed:
            self._num_asking += 1
            try:
                self._changed.wait_for(self._is_left_to_one)
                self.check()
                self._is_alone = True
            finally:
                self._num_asking -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._is_alone = False
                self._changed.notify_all()

    def _is_left_to_one(self) -> bool:
        return self.is_closed or (self._is_waited_for and not (self._is_alone or self._num_beside))

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Wait until it is so, and nobody is alone; called by who gave the work, with the lock."""
        self._is_waited_for = True
        try:
            self._changed.wait_for(lambda: is_so() and not self._is_alone)
        finally:
            self._is_waited_for = False

    def close(self) -> None:
        """Let everybody stop."""
        with self._changed:
            self.is_closed = True
            self._changed.notify_all()

    def check(self) -> None:
        """Go on.

        Raises:
            Abandoned: the floor is closed.
        """
        if self.is_closed:
            raise Abandoned
