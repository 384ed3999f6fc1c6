"""The virtual clock: a SimPy environment whose events can be set to an exact moment.

The queue has one total order: (virtual time, priority, running number). SimPy's own events take a delay, and the
moment `now + delay` may lie one bit beside the one that was planned; `at` takes the moment itself.
"""

from __future__ import annotations

import heapq
import math
from typing import Any

import simpy
from simpy.events import NORMAL, Event, EventPriority

AFTER_ALL = 2
"""Priority of what the server does at a moment: after everything that ends there, whatever set it going."""


class Moment(Event):
    """An event at a known time."""

    def __init__(self, clock: Clock, at_s: float, value: Any) -> None:
        super().__init__(clock)
        self.at_s = at_s
        self._ok = True
        self._value = value


class Clock(simpy.Environment):
    """SimPy's environment with events at absolute times; from `ends_at_s` on nothing happens any more."""

    def __init__(self, initial_time: float = 0, *, ends_at_s: float = math.inf) -> None:
        super().__init__(initial_time)
        self.ends_at_s = ends_at_s

    def at(self, at_s: float, *, priority: int = NORMAL, value: Any = None) -> Moment:
        """Return an event that happens at `at_s`, not before now; `value` is what it yields."""
        assert at_s >= self.now, f"{at_s} s lies before now, {self.now} s"
        event = Moment(self, at_s, value)
        heapq.heappush(self._queue, (at_s, EventPriority(priority), next(self._eid), event))
        return event

    def signal(self, event: Event) -> None:
        """Let an event of this clock happen at this very moment, after everything else that happens at it."""
        event._ok = True
        event._value = None
        self.schedule(event, priority=EventPriority(AFTER_ALL))

    def after_all(self) -> Moment:
        """Return an event at this very moment, after everything else that happens at it."""
        return self.at(self.now, priority=AFTER_ALL)
