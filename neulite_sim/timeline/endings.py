"""How flights end: as events of the clock, as values that a protocol hands over, and those it still waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, overload

import numpy as np
import simpy

from neulite_sim.arrays import Flags, Integers, Repeated, joined, taken
from neulite_sim.errors import SimulationError
from neulite_sim.timeline.clock import Clock
from neulite_sim.timeline.columns import Flights, Outcomes
from neulite_sim.timeline.flights import DROPPED, Flight, Outcome, cut_short


class LoneLanding(simpy.Event):
    """The end of a flight that shares nothing with others: an event whose value is the flight's outcome.

    The stages between have no events of their own: nothing in the simulation depends on when they pass.
    """

    def __init__(self, clock: Clock, flight: Flight) -> None:
        super().__init__(clock)
        self._clock = clock
        self._flight = flight
        clock.at(max(flight.planned.ended_s, clock.now)).callbacks.append(self._end)

    @property
    def is_alive(self) -> bool:
        """Whether the flight has not ended yet."""
        return not self.triggered

    def _end(self, at: simpy.Event) -> None:
        del at
        # An interrupted flight has ended before: the moment of its planned end still stands in the queue.
        if self.is_alive:
            self.succeed(self._flight.planned)

    def interrupt(self, cause: str) -> None:
        """End a flight that is alive now: it is dropped, with the cause as the reason.

        Raises:
            SimulationError: it has ended already.
        """
        flight, now_s = self._flight, float(self._clock.now)
        if not self.is_alive:
            found = f"flight {flight.number} is interrupted at {now_s:g} s ({cause}), and has ended before"
            raise SimulationError(found, hint="ask landing.is_alive before")
        self.succeed(cut_short(flight.planned, flight.dispatched_s, now_s, kind=DROPPED, reason=cause))


Landing = LoneLanding | simpy.Process
"""The end of a launched flight: its value is the `Outcome`; an interrupt with a reason ends the flight there."""

MixingAnchor = Literal["current", "own"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """How far the model moves along an update: x + rate * (update - anchor).

    The anchor is the current model (FedAsync: (1 - rate) x + rate update) or the one the device was sent (FedBuff). In
    the mean of the method it weighs `weight` times what the method weighs it by.
    """

    rate: float
    anchor: MixingAnchor
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A flight that has ended, and what the protocol makes of it.

    Without `mixing` an update counts as it is. `refused` says why one that arrived is not merged.
    """

    flight: Flight
    outcome: Outcome
    mixing: Mixing | None = None
    refused: str = ""

    @property
    def is_merged(self) -> bool:
        """Whether the server learns from it."""
        return self.outcome.has_arrived and not self.refused


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Endings(Sequence[Ending]):
    """Endings as columns; `endings[i]` is the i-th as a value."""

    flights: Flights
    outcomes: Outcomes
    refused: Sequence[str]
    mixings: Sequence[Mixing | None]

    @classmethod
    def of(cls, endings: Sequence[Ending]) -> Endings:
        """Return endings as columns."""
        if isinstance(endings, Endings):
            return endings
        return cls(
            flights=Flights.of([ending.flight for ending in endings]),
            outcomes=Outcomes.of([ending.outcome for ending in endings]),
            refused=[ending.refused for ending in endings],
            mixings=[ending.mixing for ending in endings],
        )

    @classmethod
    def plain(cls, flights: Flights, outcomes: Outcomes) -> Endings:
        """Return endings of which the protocol makes nothing yet."""
        return cls(
            flights=flights,
            outcomes=outcomes,
            refused=Repeated("", len(flights)),
            mixings=Repeated(None, len(flights)),
        )

    @classmethod
    def joined(cls, parts: Sequence[Endings]) -> Endings:
        """Return the endings of all parts, at least one, one after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            flights=Flights.joined([part.flights for part in parts]),
            outcomes=Outcomes.joined([part.outcomes for part in parts]),
            refused=joined([part.refused for part in parts]),
            mixings=joined([part.mixings for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.flights)

    @overload
    def __getitem__(self, place: int) -> Ending: ...

    @overload
    def __getitem__(self, place: slice) -> Endings: ...

    def __getitem__(self, place: int | slice) -> Ending | Endings:
        if isinstance(place, slice):
            span = range(len(self))[place]
            return self if span == range(len(self)) else self.taken(np.arange(span.start, span.stop, span.step))
        return Ending(
            flight=self.flights[place],
            outcome=self.outcomes[place],
            mixing=self.mixings[place],
            refused=self.refused[place],
        )

    @property
    def is_merged(self) -> Flags:
        """From which of them the server learns."""
        arrived = self.outcomes.has_arrived
        if isinstance(self.refused, Repeated) and not self.refused.value:
            return arrived
        return arrived & np.array([not reason for reason in self.refused], np.bool_)

    def taken(self, places: Integers) -> Endings:
        """Return those at some places."""
        if len(places) == len(self) == 1:
            # An asynchronous protocol takes one at a time.
            return self
        return Endings(
            flights=self.flights.taken(places),
            outcomes=self.outcomes.taken(places),
            refused=taken(self.refused, places),
            mixings=taken(self.mixings, places),
        )

    def in_order(self) -> Endings:
        """Return them as the server takes them: by (end, flight)."""
        return self.taken(np.lexsort((np.array(self.flights.numbers), self.outcomes.ended_s)))

    def refusing(self, places: Integers, reason: str) -> Endings:
        """Return the same, with those at some places not merged for a reason."""
        refused = list(self.refused)
        for place in places.tolist():
            refused[place] = reason
        return replace(self, refused=refused)


def ending_of(flight: Flight, landing: simpy.Event) -> Ending:
    """Return the ending of a flight whose landing has happened."""
    outcome = landing.value
    assert isinstance(outcome, Outcome)
    return Ending(flight=flight, outcome=outcome)


Notes = Callable[[Endings], None]
"""Is told of flights that have ended."""


class Launch(Protocol):
    """Starts dispatched flights."""

    def __call__(self, flight: Flight) -> Landing:
        """Start a flight and return its landing."""
        ...

    def together(self, flights: Flights) -> Notes:
        """Start flights that end as planned, without a landing each; return what is to be told of their ends."""
        ...


class Landings:
    """The flights that are out, and those that have ended and were not taken yet; a look at it costs nothing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ended: list[Ending] = []
        self._num_arrived = 0
        self._awaited = 0
        self._next: simpy.Event | None = None
        self.num_flying = 0

    def watch(self, flight: Flight, landing: Landing) -> None:
        """Take note of a launched flight's end."""
        self.num_flying += 1
        assert landing.callbacks is not None, "a flight is launched and watched before the clock goes on"
        landing.callbacks.append(lambda event: self._land(ending_of(flight, event)))

    def _land(self, ending: Ending) -> None:
        self.num_flying -= 1
        self._ended.append(ending)
        self._num_arrived += ending.outcome.has_arrived
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

    def take(self) -> list[Ending]:
        """Return and forget what has ended, by (end, flight)."""
        ended, self._ended, self._num_arrived = in_order(self._ended), [], 0
        return ended


def in_order(endings: Iterable[Ending]) -> list[Ending]:
    """Return endings as the server takes them: by (end, flight)."""
    return sorted(endings, key=lambda ending: (ending.outcome.ended_s, ending.flight.number))
