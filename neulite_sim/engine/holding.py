"""Holding rows back: whether the rounds of a run follow each other faster than anybody could look.

A dry run makes hundreds of rounds a second. What is written and told of such rounds is the same as of any others, but
it is made for many of them at once, a few times a second; and of what happens within one nobody is told.
"""

from __future__ import annotations

import time

BRISK_S = 0.05
"""Rounds that take less follow each other briskly."""
HELD_S = 0.2
MOST_HELD = 256
"""For so long, and so many, rounds may wait to be written together."""
MOST_FLIGHTS_HELD = 4096
"""So many of their flights may: each takes two kilobytes while it is written."""


class Holding:
    """Follows the rounds of a run, by the wall; nothing is held back where that is not wanted."""

    def __init__(self, *, is_wanted: bool) -> None:
        self._is_wanted = is_wanted
        self._ended_s = -BRISK_S
        self._took_s = BRISK_S
        self._waiting_since_s: float | None = None
        self._num_waiting = self._num_flights = 0

    @property
    def is_brisk(self) -> bool:
        """Whether the latest round took next to no time, and the present one has not lasted for longer yet."""
        return self._is_wanted and self._took_s < BRISK_S and time.perf_counter() - self._ended_s < BRISK_S

    def round_ended(self, num_flights: int) -> bool:
        """Take note of the end of a round and its flights, and return whether it is time to write those that wait."""
        now_s = time.perf_counter()
        self._took_s, self._ended_s = now_s - self._ended_s, now_s
        if self._waiting_since_s is None:
            self._waiting_since_s = now_s
        self._num_waiting += 1
        self._num_flights += num_flights
        is_brisk = self._is_wanted and self._took_s < BRISK_S
        is_much = self._num_waiting >= MOST_HELD or self._num_flights >= MOST_FLIGHTS_HELD
        return not is_brisk or is_much or now_s - self._waiting_since_s >= HELD_S

    def written(self) -> None:
        """Take note that no round waits any more."""
        self._waiting_since_s, self._num_waiting, self._num_flights = None, 0, 0
