"""The airspace: whose device is free, which flights are in the air, and how stale each of them has become."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from neulite_sim.arrays import Integers
from neulite_sim.engine.candidates import Whereabouts
from neulite_sim.timeline.endings import Ending
from neulite_sim.timeline.flights import Flight, Outcome

Aloft = Sequence[tuple[Flight, Outcome | None]]
"""Flights that were not handed over yet, each with its outcome once it has landed."""


@dataclass(slots=True)
class _Aloft:
    """A flight until it is handed over; its device is free again from its outcome on, however long it waits."""

    flight: Flight
    merges_before: int
    outcome: Outcome | None = None


class Airspace:
    """Keeps a flight from its departure until it is handed over for a digest."""

    def __init__(self, whereabouts: Whereabouts) -> None:
        self._whereabouts = whereabouts
        self._aloft: dict[int, _Aloft] = {}
        self._merges: Counter[str] = Counter()
        self.num_in_flight = 0

    def free(self) -> Integers:
        """Return the devices that own data and are not in flight, ascending."""
        return np.flatnonzero(self._whereabouts.free())

    def depart(self, flight: Flight) -> None:
        """Take note of a flight that leaves: its device is busy."""
        self._aloft[flight.number] = _Aloft(flight=flight, merges_before=self._merges[flight.stage])
        self._whereabouts.depart((flight.device,))
        self.num_in_flight += 1

    def land(self, ending: Ending) -> None:
        """Take note of a flight that has ended: its device can fly again, whether or not its update waits."""
        self._aloft[ending.flight.number].outcome = ending.outcome
        self._whereabouts.land((ending.flight.device,))
        self.num_in_flight -= 1

    def staleness(self, flight: Flight) -> int:
        """Return how many aggregations have merged updates of the flight's stage since it left."""
        return self._merges[flight.stage] - self._aloft[flight.number].merges_before

    def hand_over(self, endings: Iterable[Ending]) -> None:
        """Let go of flights that are digested."""
        for ending in endings:
            del self._aloft[ending.flight.number]

    def count_merges(self, stages: set[str]) -> None:
        """Take note of an aggregation that merged updates of `stages`: what is still in the air grows stale."""
        self._merges.update(stages)

    def aloft(self) -> Aloft:
        """Return the flights that were not handed over yet, in the order in which they left, with outcomes so far."""
        return [(item.flight, item.outcome) for item in self._aloft.values()]
