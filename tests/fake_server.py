"""A server for protocols under test: flights of given lengths, and a log of what was dispatched and digested."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from orders import order_of

from neulite_sim.errors import SimulationError
from neulite_sim.timeline.contract import Ending, Foresight
from neulite_sim.timeline.flights import ARRIVED, DROPPED, FlightPlan

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

    def dispatch(self, at_s: float, *, wanted: int | None = None, foresee: Foresight | None = None) -> list[FlightPlan]:
        plans = [self._plan(at_s) for _ in range(min(wanted or self.devices_per_round, len(self._left)))]
        if plans:
            self.dispatched.append((at_s, [plan.flight for plan in plans]))
            self.trained.append(sorted(foresee(plans)) if foresee else [p.flight for p in plans if p.has_arrived])
        return plans

    def _plan(self, at_s: float) -> FlightPlan:
        trip = self._left.popleft()
        self._flights += 1
        self._flying.add(self._flights)
        self._in_flight.add(self._flights)
        self._before[self._flights] = self._merges.get(trip.stage, 0)
        order = order_of(
            self._flights, at_s=at_s, round=len(self.digests) + 1, version=len(self.digests), stage=trip.stage
        )
        return FlightPlan(order=order, download_s=0.0, compute_s=trip.seconds, upload_s=0.0, ended_s=at_s + trip.seconds,
                          outcome=ARRIVED if trip.arrives else DROPPED, reason="" if trip.arrives else "lost")  # fmt: skip

    def landed(self, plan: FlightPlan) -> None:
        self._in_flight.remove(plan.flight)

    def staleness(self, plan: FlightPlan) -> int:
        return self._merges.get(plan.order.stage, 0) - self._before[plan.flight]

    def stage(self) -> str:
        return self.stages[len(self.digests) % len(self.stages)]

    def digest(self, ended: Sequence[Ending], at_s: float) -> None:
        self.digests.append((at_s, list(ended)))
        for stage in {item.plan.order.stage for item in ended if item.is_merged}:
            self._merges[stage] = self._merges.get(stage, 0) + 1
        self._flying -= {item.plan.flight for item in ended}

    def next_chance_s(self, at_s: float) -> float:
        if self._in_flight:
            return math.inf
        raise SimulationError(NO_TRIPS)

    def merged(self) -> list[tuple[float, list[int]]]:
        """When each aggregation happened, and which flights it merged, in the order given."""
        return [(at_s, [item.plan.flight for item in ended if item.is_merged]) for at_s, ended in self.digests]

    def reasons(self) -> dict[int, str]:
        """Why each flight that was handed over was not merged."""
        return {
            item.plan.flight: item.refused or item.plan.reason
            for _, ended in self.digests
            for item in ended
            if not item.is_merged
        }
