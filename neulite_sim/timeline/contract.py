"""What a protocol asks of the engine, and how a run's protocol is driven by the virtual clock.

The clock's queue has one total order, (virtual time, priority, running number), and nothing else decides what comes
first: flights end before the server acts at that moment, and the server takes them by (end, flight).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import simpy

from neulite_sim.timeline.clock import Clock
from neulite_sim.timeline.flights import Flight, FlightPlan, Launch, LoneFlight
from neulite_sim.timeline.shared_flights import ServerLinks, fly_shared
from neulite_sim.timeline.shared_link import SharedLink

Anchor = Literal["current", "own"]
Foresight = Callable[[Sequence[FlightPlan]], Collection[int]]
"""Which of the flights, by number, will be merged, as far as their plans tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """How far the model moves along an update: x + rate * (update - anchor).

    The anchor is the current model (FedAsync: (1 - rate) x + rate update) or the one the device was sent (FedBuff).
    """

    rate: float
    anchor: Anchor


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A flight that has ended, as the protocol hands it over.

    Without `mixing` an update counts as it is. `refused` says why one that arrived is not merged.
    """

    plan: FlightPlan
    mixing: Mixing | None = None
    refused: str = ""

    @property
    def is_merged(self) -> bool:
        """Whether the server learns from it."""
        return self.plan.has_arrived and not self.refused


class Server(Protocol):
    """The server of the federation, as a protocol sees it. Times are virtual seconds."""

    @property
    def devices_per_round(self) -> int:
        """How many devices the scenario wants to train at a time."""
        ...

    def is_over(self) -> bool:
        """Whether a stop condition has been met."""
        ...

    def dispatch(
        self, at_s: float, *, wanted: int | None = None, foresee: Foresight | None = None
    ) -> Sequence[FlightPlan]:
        """Choose devices and start their flights; none where nobody can be offered work now.

        `wanted` devices, `devices_per_round` by default, none of those that are in flight. With `foresee` only the
        flights that it names are really trained, otherwise all that will arrive.
        """
        ...

    def landed(self, plan: FlightPlan) -> None:
        """Be told, at that moment, that a launched flight has ended and how: its device can fly again."""
        ...

    def staleness(self, plan: FlightPlan) -> int:
        """Return how many aggregations of the flight's own stage there have been since its dispatch."""
        ...

    def stage(self) -> str:
        """Return the stage that the method is at now."""
        ...

    def digest(self, ended: Sequence[Ending], at_s: float) -> None:
        """Learn from the flights that ended: an aggregation."""
        ...

    def next_chance_s(self, at_s: float) -> float:
        """Return the next time, later than `at_s`, at which somebody who is not in flight can be offered work.

        It is `inf` where there is none as long as others are in flight: they come back.

        Raises:
            SimulationError: nobody is in flight, and nobody can ever be offered work again.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRates:
    """What the server's link carries in bits per second; None where a direction is no bottleneck."""

    down: float | None
    up: float | None


class RoundProtocol(Protocol):
    """When to dispatch and when to digest."""

    mixes_versions: bool
    """Whether updates from older versions of the method's state are merged."""

    def process(self, clock: Clock, server: Server, launch: Launch) -> Generator[simpy.Event, object, None]:
        """Run as a SimPy process until the server says that the run is over.

        `launch(plan)` starts a dispatched flight and returns it.
        """
        ...


def come_about(flight: simpy.Event) -> FlightPlan:
    """Return how a launched flight came about; it must have ended."""
    plan = flight.value
    assert isinstance(plan, FlightPlan)
    return plan


class Landings:
    """The flights that are out, and those that have ended and were not taken yet; a look at it costs nothing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ended: list[FlightPlan] = []
        self._num_arrived = 0
        self._awaited = 0
        self._next: simpy.Event | None = None
        self.num_flying = 0

    def watch(self, flight: Flight) -> None:
        """Take note of a launched flight's end."""
        self.num_flying += 1
        assert flight.callbacks is not None, "a flight is launched and watched before the clock goes on"
        flight.callbacks.append(self._land)

    def _land(self, flight: simpy.Event) -> None:
        self.num_flying -= 1
        plan = come_about(flight)
        self._ended.append(plan)
        self._num_arrived += plan.has_arrived
        if self._next is not None and (self._num_arrived >= self._awaited or not self.num_flying):
            self._clock.signal(self._next)
            self._next = None

    def next(self, *, arrivals: int = 0) -> simpy.Event:
        """Return an event that happens at the next moment at which a flight ends, after all that end then.

        With `arrivals` it is the next such moment at which so many updates have arrived that were not taken yet, or
        nobody is out any more.
        """
        self._awaited = arrivals
        if self._next is None:
            self._next = simpy.Event(self._clock)
        return self._next

    def take(self) -> list[FlightPlan]:
        """Return and forget what has ended, by (end, flight)."""
        ended, self._ended, self._num_arrived = in_order(self._ended), [], 0
        return ended


def in_order(plans: Iterable[FlightPlan]) -> list[FlightPlan]:
    """Return flights as the server takes them: by (end, flight)."""
    return sorted(plans, key=lambda plan: (plan.ended_s, plan.flight))


def run_protocol(
    protocol: RoundProtocol, server: Server, *, until_s: float | None, rates: ServerRates | None = None
) -> float:
    """Run a protocol on a fresh virtual clock and return the virtual time at its end.

    With `until_s` the clock stops there at the latest; what would happen at that very moment no longer does. `rates`
    are those of the server's own link, where it has one that limits.
    """
    clock = Clock()
    fly = _alone(clock) if rates is None else _shared(clock, rates)

    def land(flight: simpy.Event) -> None:
        server.landed(come_about(flight))

    def launch(plan: FlightPlan) -> Flight:
        flight = fly(plan)
        # First of all that watch the flight: whatever they do, they find its device free.
        flight.callbacks.append(land)
        return flight

    process = clock.process(protocol.process(clock, server, launch))
    if until_s is None:
        clock.run(until=process)
        return float(clock.now)
    ended_s = [until_s]
    process.callbacks.append(lambda _: ended_s.append(float(clock.now)))
    clock.run(until=until_s)
    return ended_s[-1]


def _alone(clock: Clock) -> Launch:
    """Return what starts flights that end as they were planned."""
    return lambda plan: LoneFlight(clock, plan)


def _shared(clock: Clock, rates: ServerRates) -> Launch:
    """Return what starts flights that share the server's link."""
    down, up = (None if rate is None else SharedLink(clock, rate) for rate in (rates.down, rates.up))
    links = ServerLinks(down=down, up=up)
    return lambda plan: clock.process(fly_shared(clock, plan, links))
