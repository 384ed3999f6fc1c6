"""Sorties: the flights of one dispatch on their way together, for protocols that keep rounds apart.

Where every flight ends as it was planned, all their ends are known when they leave: the clock is given a moment only
where the protocol waits for one. Flights that share the server's link are launched one by one and watched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import simpy

from neulite_sim.arrays import Flags
from neulite_sim.timeline.clock import Clock
from neulite_sim.timeline.columns import Flights, Outcomes
from neulite_sim.timeline.endings import Ending, Endings, Landings, Launch, Notes
from neulite_sim.timeline.flights import DROPPED, Flight


class Sortie(Protocol):
    """Flights that left together; times are those of the clock."""

    @property
    def num_flying(self) -> int:
        """How many are still out."""
        ...

    def next(self, *, arrivals: int = 0) -> simpy.Event:
        """Return an event at the next moment at which a flight ends that was not looked at yet.

        With `arrivals` it is the next such moment at which so many more updates have arrived, or nobody is out any
        more.
        """
        ...

    def all(self) -> simpy.Event:
        """Return an event at the moment at which nobody is out any more, or now."""
        ...

    def ended(self) -> Endings:
        """Return what has ended by now, in the order of dispatch."""
        ...

    def recall(self, reason: str) -> None:
        """Drop whoever is still out."""
        ...


def sortie(clock: Clock, flights: Sequence[Flight], launch: Launch) -> Sortie:
    """Launch flights that were just dispatched, and return them on their way."""
    table = Flights.of(flights)
    if not table.end_as_planned:
        return _Watched(clock, flights, launch)
    return _Planned(clock, table, launch.together(table))


class _Planned:
    """Flights whose ends are known: nothing happens on the clock but what is waited for."""

    def __init__(self, clock: Clock, flights: Flights, note: Notes) -> None:
        self._clock = clock
        self._flights = flights
        self._note = note
        self._outcomes: Outcomes = flights.planned
        self._ended_s = np.maximum(flights.planned.ended_s, clock.now)
        self._arrived = flights.planned.has_arrived
        self._has_landed: Flags = np.zeros(len(flights), np.bool_)

    @property
    def num_flying(self) -> int:
        """How many are still out."""
        self._land()
        return len(self._flights) - int(np.count_nonzero(self._has_landed))

    def next(self, *, arrivals: int = 0) -> simpy.Event:
        """Return an event at the moment that is waited for."""
        is_out = ~self._has_landed
        if arrivals:
            arriving_s = np.sort(self._ended_s[is_out & self._arrived])
            if len(arriving_s) < arrivals:
                return self.all()
            return self._clock.at(float(arriving_s[arrivals - 1]))
        return self._clock.at(float(self._ended_s.min(where=is_out, initial=math.inf)))

    def all(self) -> simpy.Event:
        """Return an event at the last end."""
        last_s = self._ended_s.max(where=~self._has_landed, initial=-math.inf)
        return self._clock.at(max(float(last_s), float(self._clock.now)))

    def ended(self) -> Endings:
        """Return what has ended by now."""
        self._land()
        endings = Endings.plain(self._flights, self._outcomes)
        return endings if self._has_landed.all() else endings.taken(np.flatnonzero(self._has_landed))

    def recall(self, reason: str) -> None:
        """Cut short whoever is still out."""
        self._land()
        out = np.flatnonzero(~self._has_landed)
        now_s = float(self._clock.now)
        if len(out):
            self._outcomes = self._outcomes.cut_short(
                out, self._flights.dispatched_s, now_s, kind=DROPPED, reason=reason
            )
            self._ended_s[out] = now_s
            self._land()

    def _land(self) -> None:
        """Tell the server of whoever has ended since it was told last."""
        landed = np.flatnonzero((self._ended_s <= self._clock.now) & ~self._has_landed)
        if len(landed):
            self._has_landed[landed] = True
            self._note(Endings.plain(self._flights, self._outcomes).taken(landed))


class _Watched:
    """Flights that are launched one by one, each with a landing of its own."""

    def __init__(self, clock: Clock, flights: Sequence[Flight], launch: Launch) -> None:
        self._clock = clock
        self._landings = [launch(flight) for flight in flights]
        self._out = Landings(clock)
        self._ended: list[Ending] = []
        for flight, landing in zip(flights, self._landings, strict=True):
            self._out.watch(flight, landing)

    @property
    def num_flying(self) -> int:
        """How many are still out."""
        return self._out.num_flying

    def next(self, *, arrivals: int = 0) -> simpy.Event:
        """Return an event at the moment that is waited for."""
        return self._out.next(arrivals=arrivals)

    def all(self) -> simpy.Event:
        """Return an event when all have landed."""
        return self._clock.all_of(self._landings)

    def ended(self) -> Endings:
        """Return what has ended by now."""
        self._ended += self._out.take()
        return Endings.of(sorted(self._ended, key=lambda ending: ending.flight.number))

    def recall(self, reason: str) -> None:
        """Interrupt whoever is still out."""
        for landing in self._landings:
            if landing.is_alive:
                landing.interrupt(reason)
