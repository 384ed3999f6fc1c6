"""A server for protocols under test: flights of given lengths, and a log of what was dispatched and digested."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from made_flights import flight_of, outcome_after

from neulite_sim.errors import SimulationError
from neulite_sim.timeline.endings import Ending
from neulite_sim.timeline.flights import ARRIVED, DROPPED, Flight

NO_TRIPS = "no trips left"


@dataclass(frozen=True, slots=True)
class Trip:
    """A flight to come: its seconds, and whether its update arrives."""

    seconds: float
    arrives: bool = True
    stage: str = "full"


@dataclass
class FakeServer:
    """Gives out `trips` in their order, until there are none or `rounds` aggregations have happened."""

    trips: Iterable[Trip]
    rounds: int = 10**9
    devices_per_round: int = 2
    stages: Sequence[str] = ("full",)
    dispatched: list[tuple[float, list[int]]] = field(default_factory=list)
    trained: list[list[int]] = field(default_factory=list)
    digests: list[tuple[float, list[Ending]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._left = deque(self.trips)
        self._flights = 0
        self._merges: dict[str, int] = {}
        self._before: dict[int, int] = {}
        self._flying: set[int] = set()
        self._in_flight: set[int] = set()

    def is_over(self) -> bool:
        return len(self.digests) >= self.rounds or (not self._left and not self._flying)

    def dispatch(self, at_s: float, *, wanted: int | None = None) -> list[Flight]:
        flights = [self._flight(at_s) for _ in range(min(wanted or self.devices_per_round, len(self._left)))]
        if flights:
            self.dispatched.append((at_s, [flight.number for flight in flights]))
        return flights

    def train(self, flights: Iterable[Flight]) -> None:
        self.trained.append([flight.number for flight in flights if flight.planned.has_arrived])

    def _flight(self, at_s: float) -> Flight:
        trip = self._left.popleft()
        self._flights += 1
        self._flying.add(self._flights)
        self._in_flight.add(self._flights)
        self._before[self._flights] = self._merges.get(trip.stage, 0)
        kind, reason = (ARRIVED, "") if trip.arrives else (DROPPED, "lost")
        planned = outcome_after(trip.seconds, at_s=at_s, kind=kind, reason=reason)
        rounds = len(self.digests)
        return flight_of(self._flights, at_s=at_s, planned=planned, round=rounds + 1, version=rounds, stage=trip.stage)

    def note_end(self, ending: Ending) -> None:
        self._in_flight.remove(ending.flight.number)

    def staleness(self, flight: Flight) -> int:
        return self._merges.get(flight.stage, 0) - self._before[flight.number]

    def stage(self) -> str:
        return self.stages[len(self.digests) % len(self.stages)]

    def digest(self, ended: Sequence[Ending], at_s: float) -> None:
        self.digests.append((at_s, list(ended)))
        for stage in {item.flight.stage for item in ended if item.is_merged}:
            self._merges[stage] = self._merges.get(stage, 0) + 1
        self._flying -= {item.flight.number for item in ended}

    def next_chance_s(self, at_s: float, *, until_s: float = math.inf) -> float:
        if self._in_flight:
            return math.inf
        raise SimulationError(NO_TRIPS)

    def merged(self) -> list[tuple[float, list[int]]]:
        """When each aggregation happened, and which flights it merged, in the order given."""
        return [(at_s, [item.flight.number for item in ended if item.is_merged]) for at_s, ended in self.digests]

    def reasons(self) -> dict[int, str]:
        """Why each flight that was handed over was not merged."""
        return {
            item.flight.number: item.refused or item.outcome.reason
            for _, ended in self.digests
            for item in ended
            if not item.is_merged
        }
