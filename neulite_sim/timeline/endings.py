"""How flights end: as events of the clock, as values that a protocol hands over, and those it still waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import simpy

from neulite_sim.errors import SimulationError
from neulite_sim.timeline.clock import Clock
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

Launch = Callable[[Flight], Landing]
"""Starts a dispatched flight."""

MixingAnchor = Literal["current", "own"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """How far the model moves along an update: x + rate * (update - anchor).

    The anchor is the current model (FedAsync: (1 - rate) x + rate update) or the one the device was sent (FedBuff).
    """

    rate: float
    anchor: MixingAnchor


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


def ending_of(flight: Flight, landing: simpy.Event) -> Ending:
    """Return the ending of a flight whose landing has happened."""
    outcome = landing.value
    assert isinstance(outcome, Outcome)
    return Ending(flight=flight, outcome=outcome)


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
