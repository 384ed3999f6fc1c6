"""Waiting in virtual time: the sleep of an app moves the clock, and waiting in vain comes to an end."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from neulite_sim.errors import SimulationError
from neulite_sim.units import DAY_S, format_seconds

PATIENCE = 3
"""Polls in vain after which those that cannot bring anything new are passed over."""
MOST_IDLE_S = 30 * DAY_S
"""Virtual time of waiting alone after which a strategy is taken to wait for ever."""


class TimeIsOver(BaseException):
    """The virtual time of the run is over; no app catches it with `except Exception`."""


class Patience:
    """How long an app has been polling in vain, and for what."""

    def __init__(self, num_devices: int) -> None:
        self._num_devices = num_devices
        self._num_idle = 0
        self._idle_since_s: float | None = None
        self._most_seen = 0
        self._last_seen: int | None = None
        self.wanted: int | None = None
        """How many nodes the strategy waits for, where that is known."""

    def acted(self) -> None:
        """Take note that something happened: a message was sent, or a reply taken."""
        self._num_idle, self._idle_since_s, self._most_seen, self.wanted = 0, None, 0, None

    def saw(self, num_nodes: int) -> None:
        """Take note of how many nodes an app was shown."""
        self._most_seen = max(self._most_seen, num_nodes)
        self._last_seen = num_nodes

    def is_worn(self) -> bool:
        """Whether so many polls were in vain that the next is only worth it when there is news."""
        return self._num_idle >= PATIENCE

    def until_s(self, now_s: float, seconds: float, news_s: float) -> float:
        """Return until when a sleep of `seconds` lasts: through all polls before `news_s` once patience is worn.

        Raises:
            SimulationError: there is no news ever, everybody has been seen, or it took too long.
        """
        if self._idle_since_s is None:
            self._idle_since_s = now_s
        self._num_idle += 1
        if self._num_idle <= PATIENCE:
            return now_s + seconds
        has_seen_all = self._last_seen is not None and self._most_seen >= self._num_devices
        is_too_many = self.wanted is not None and self.wanted > self._num_devices
        if news_s == math.inf or (has_seen_all and self.wanted is not None) or is_too_many:
            raise self._in_vain(now_s)
        if now_s - self._idle_since_s > MOST_IDLE_S:
            raise self._in_vain(now_s)
        # As if every poll in between had been made: the moments of the polls stay what they are.
        num_polls = max(1, math.ceil((news_s - now_s) / seconds))
        return now_s + num_polls * seconds

    def _in_vain(self, now_s: float) -> SimulationError:
        wanted = "for more nodes than there are" if self.wanted is None else f"for {self.wanted} nodes"
        return SimulationError(
            f"the app waits {wanted} at virtual time {format_seconds(now_s)} and would wait for ever: of "
            f"{self._num_devices} devices at most {self._most_seen} were online at once while it waited",
            hint="ask for fewer (min_available_nodes, min_train_nodes, min_fit_clients or their fractions), add "
            "devices (population.devices), or let them be online for longer (population.availability)",
        )


@contextmanager
def virtual_sleep(sleep: Callable[[float], None]) -> Iterator[None]:
    """Let `time.sleep` of this thread be virtual inside; other threads sleep as ever."""
    real, thread = time.sleep, threading.get_ident()

    def slept(seconds: Any) -> None:
        if threading.get_ident() == thread:
            sleep(float(seconds))
        else:
            real(seconds)

    time.sleep = slept
    try:
        yield
    finally:
        time.sleep = real
