"""Skies: the flights that an asynchronous protocol has out, from whichever dispatch, and the moments of their ends.

Where every flight ends as it was planned the ends are known when it leaves: the clock is given a moment only where the
protocol waits for one, and the server may go along with those that land before anything else happens. Flights that
share the server's link are launched one by one and watched.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import simpy

from neulite_sim.arrays import Integers
from neulite_sim.timeline.berths import Berths
from neulite_sim.timeline.clock import AFTER_ALL, Clock, Moment
from neulite_sim.timeline.columns import Flights
from neulite_sim.timeline.endings import Endings, Landings, Launch, Notes
from neulite_sim.timeline.flights import Flight

MOST_AHEAD = 128
"""Of so many landings the server is told ahead of the clock at most; it may have to go back over that many."""

FIRST_LOOK = 1 / 16
"""Where the next landing is not known, this part of the shortest flight is looked ahead first, then twice as far."""


class Sky(Protocol):
    """The flights that are out; times are those of the clock."""

    @property
    def num_flying(self) -> int:
        """How many are out."""
        ...

    def launch(self, flights: Sequence[Flight]) -> None:
        """Start flights that were just dispatched."""
        ...

    def next(self) -> simpy.Event:
        """Return an event at the next moment at which a flight ends, after all that end then."""
        ...

    def looks_until_s(self) -> float:
        """Return until when to look ahead: to the next end where that is known, a little further than now elsewhere.

        `inf` where nobody is out.
        """
        ...

    def take(self) -> Endings | None:
        """Return what has ended and was not taken yet, by (end, flight); None where nothing has."""
        ...

    def coming(self, arrivals: int) -> Endings | None:
        """Return what will land before the moment by which so many have arrived, by (end, flight), or the first of it.

        None where that is nothing, or cannot be known.
        """
        ...

    def took_along(self, count: int) -> None:
        """Take note that so many of what `coming` has returned are noted and taken already, and the others are not."""
        ...


def sky(clock: Clock, flights: Sequence[Flight], launch: Launch) -> Sky:
    """Return the sky of a run, of which these are the first flights."""
    return Foreseen(clock, launch) if Flights.of(flights).end_as_planned else _Watched(clock, launch)


class _End(NamedTuple):
    """When a flight ends, in the order of the clock."""

    ended_s: float
    number: int
    place: int
    has_arrived: bool


class Foreseen:
    """Flights whose ends are known: nothing happens on the clock but what is waited for."""

    def __init__(self, clock: Clock, launch: Launch) -> None:
        self._clock = clock
        self._launch = launch
        self._note: Notes | None = None
        self._berths = Berths()
        self._ends: list[_End] = []
        self._coming: list[_End] = []
        self._shown: Endings | None = None
        self._reach = MOST_AHEAD
        self._next: Moment | None = None

    @property
    def num_flying(self) -> int:
        """How many are out."""
        return len(self._ends)

    def launch(self, flights: Sequence[Flight]) -> None:
        """Start flights."""
        table = Flights.of(flights)
        self._note = self._launch.together(table)
        places, planned = self._berths.put(table), table.planned
        columns = (planned.ended_s.tolist(), table.numbers, places, planned.has_arrived.tolist())
        for end in map(_End, *columns):
            heapq.heappush(self._ends, end)

    def next(self) -> simpy.Event:
        """Return an event at the next end."""
        at_s = max(self._ends[0].ended_s, float(self._clock.now)) if self._ends else math.inf
        # A moment that already stands in the queue is not put there again.
        if self._next is None or self._next.processed or self._next.at_s != at_s:
            self._next = self._clock.at(at_s, priority=AFTER_ALL)
        return self._next

    def looks_until_s(self) -> float:
        """Return the next end."""
        return self._ends[0].ended_s if self._ends else math.inf

    def take(self) -> Endings | None:
        """Return what has ended."""
        ended = self._popped(self._clock.now)
        if not ended:
            return None
        endings = self._endings(ended)
        assert self._note is not None, "nothing ends before it is launched"
        self._note(endings)
        return endings

    def coming(self, arrivals: int) -> Endings | None:
        """Return what will land first."""
        found: list[_End] = []
        while self._ends and len(found) < self._reach:
            end = heapq.heappop(self._ends)
            found.append(end)
            arrivals -= end.has_arrived
            if not arrivals:
                break
        # Of the last moment there may be more; what lies beyond the end of the run does not happen.
        last_s = min(found[-1].ended_s if found else math.inf, self._clock.ends_at_s)
        num = sum(end.ended_s < last_s for end in found)
        self._put_back(found[num:])
        self._coming = found[:num]
        self._shown = self._endings(self._coming) if num else None
        return self._shown

    def took_along(self, count: int) -> None:
        """Take note of how far the server went along."""
        left, self._coming = self._coming[count:], []
        self._reach = max(1, count) if left else min(2 * self._reach, MOST_AHEAD)
        if left:
            assert self._shown is not None, "what is left was shown"
            self._launched_again(self._shown, left)
        self._shown = None

    def _launched_again(self, shown: Endings, left: list[_End]) -> None:
        flights = shown.flights[len(shown) - len(left) :]
        for end, place in zip(left, self._berths.put(flights), strict=True):
            heapq.heappush(self._ends, end._replace(place=place))

    def _popped(self, until_s: float) -> list[_End]:
        found = []
        while self._ends and self._ends[0].ended_s <= until_s:
            found.append(heapq.heappop(self._ends))
        return found

    def _put_back(self, ends: Sequence[_End]) -> None:
        for end in ends:
            heapq.heappush(self._ends, end)

    def _endings(self, ends: Sequence[_End]) -> Endings:
        flights = self._berths.take([end.place for end in ends])
        return Endings.plain(flights, flights.planned)


class _Watched:
    """Flights that are launched one by one, each with a landing of its own."""

    def __init__(self, clock: Clock, launch: Launch) -> None:
        self._clock = clock
        self._launch = launch
        self._landings = Landings(clock)
        self._since_s = 0.0
        self._shortest_s = math.inf

    @property
    def num_flying(self) -> int:
        """How many are out."""
        return self._landings.num_flying

    def launch(self, flights: Sequence[Flight]) -> None:
        """Start flights."""
        self._since_s = self._clock.now
        for flight in flights:
            self._landings.watch(flight, self._launch(flight))
            alone_s = flight.planned.ended_s - flight.dispatched_s
            self._shortest_s = min(self._shortest_s, alone_s) if alone_s > 0 else self._shortest_s

    def next(self) -> simpy.Event:
        """Return an event at the next landing."""
        return self._landings.next()

    def looks_until_s(self) -> float:
        """Return a moment that is as far again as it has been since anything happened, and further at first."""
        if not self.num_flying:
            return math.inf
        now_s = float(self._clock.now)
        until_s = now_s + max(now_s - self._since_s, self._shortest_s * FIRST_LOOK)
        return until_s if until_s > now_s else math.inf

    def take(self) -> Endings | None:
        """Return what has landed."""
        ended = self._landings.take()
        self._since_s = self._clock.now if ended else self._since_s
        return Endings.of(ended) if ended else None

    def coming(self, arrivals: int) -> Endings | None:
        """Return nothing: what lands next depends on what leaves until then."""
        del arrivals
        return None

    def took_along(self, count: int) -> None:
        """Take note of nothing."""
        del count


def moments_of(endings: Endings) -> list[tuple[float, Integers]]:
    """Return each moment at which some of these land, which are in that order, and the devices that do."""
    found: list[tuple[float, Integers]] = []
    ended_s, devices, first = endings.outcomes.ended_s.tolist(), endings.flights.devices, 0
    for place in range(1, len(ended_s) + 1):
        if place == len(ended_s) or ended_s[place] != ended_s[first]:
            found.append((ended_s[first], devices[first:place]))
            first = place
    return found
