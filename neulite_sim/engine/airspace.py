"""The airspace: whose device is free, which flights are in the air, and how stale each of them has become."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neulite_sim.arrays import Integers
from neulite_sim.engine.candidates import Whereabouts
from neulite_sim.population.availability.charges import Charges
from neulite_sim.timeline.columns import Flights
from neulite_sim.timeline.endings import Ending, Endings
from neulite_sim.timeline.flights import Flight, Outcome

Aloft = Sequence[tuple[Flight, Outcome | None]]
"""Flights that were not handed over yet, each with its outcome once it has landed."""


@dataclass(slots=True)
class _Departed:
    """The flights of one dispatch, and how many aggregations of their stage there were before."""

    flights: Flights
    merges_before: int

    def of(self, number: int) -> Flight:
        """Return one of them; their numbers follow each other."""
        return self.flights[number - self.flights.numbers[0]]


class Airspace:
    """Keeps a flight from its departure until it is handed over for a digest.

    Its device is free again from its landing on, however long the update waits.
    """

    def __init__(self, whereabouts: Whereabouts, charges: Charges | None = None) -> None:
        self._whereabouts = whereabouts
        self._charges = charges
        if charges is not None:
            charges.begin()
        self._aloft: dict[int, _Departed] = {}
        self._landed: dict[int, Sequence[Ending]] = {}
        self._merges: Counter[str] = Counter()
        self.num_in_flight = 0

    def free(self) -> Integers:
        """Return the devices that own data and are not in flight, ascending."""
        return np.flatnonzero(self._whereabouts.free())

    def depart(self, flights: Flights) -> None:
        """Take note of flights of one stage, at least one, whose devices are busy already."""
        departed = _Departed(flights=flights, merges_before=self._merges[flights.stages[0]])
        self._aloft.update(dict.fromkeys(flights.numbers, departed))
        if self._charges is not None:
            self._charges.depart(flights.devices, float(flights.dispatched_s[0]))
        self.num_in_flight += len(flights)

    def land(self, ending: Ending) -> None:
        """Take note of a flight that has ended: its device can fly again, whether or not its update waits."""
        self._landed[ending.flight.number] = (ending,)
        self._whereabouts.land((ending.flight.device,))
        if self._charges is not None:
            self._drain(Endings.of([ending]), self._charges)
        self.num_in_flight -= 1

    def land_all(self, ended: Endings) -> None:
        """Take note of many."""
        self._whereabouts.land(ended.flights.devices.tolist())
        self.book(ended)

    def book(self, ended: Endings) -> None:
        """Take note of flights that have ended, whose devices are free already."""
        self._landed.update(dict.fromkeys(ended.flights.numbers, ended))
        if self._charges is not None and len(ended):
            self._drain(ended, self._charges)
        self.num_in_flight -= len(ended)

    @staticmethod
    def _drain(ended: Endings, charges: Charges) -> None:
        """Take what flights have drawn from the batteries of their devices."""
        found = ended.outcomes
        seconds = (found.download_s, found.compute_s, found.upload_s)
        charges.land(ended.flights.devices, found.ended_s, seconds, found.pauses)

    def staleness(self, flight: Flight) -> int:
        """Return how many aggregations have merged updates of the flight's stage since it left."""
        return self._merges[flight.stage] - self._aloft[flight.number].merges_before

    def stalenesses(self, flights: Flights) -> dict[int, int]:
        """Return the same of many, by flight."""
        return {
            number: self._merges[stage] - self._aloft[number].merges_before
            for number, stage in zip(flights.numbers, flights.stages, strict=True)
        }

    def hand_over(self, flights: Flights) -> None:
        """Let go of flights that are digested."""
        for number in flights.numbers:
            del self._aloft[number]
            self._landed.pop(number, None)

    def count_merges(self, stages: set[str]) -> None:
        """Take note of an aggregation that merged updates of `stages`: what is still in the air grows stale."""
        self._merges.update(stages)

    @property
    def has_aloft(self) -> bool:
        """Whether there is any flight that was not handed over yet."""
        return bool(self._aloft)

    def aloft(self) -> Aloft:
        """Return the flights that were not handed over yet, in the order in which they left, with outcomes so far."""
        # Flights that landed together share one sequence: each is gone through once.
        together = {id(ended): ended for ended in self._landed.values()}
        outcomes = {item.flight.number: item.outcome for ended in together.values() for item in ended}
        return [(departed.of(number), outcomes.get(number)) for number, departed in self._aloft.items()]
