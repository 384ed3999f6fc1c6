"""What a protocol asks of the engine, and how a run's protocol is driven by the virtual clock.

The clock's queue has one total order, (virtual time, priority, running number), and nothing else decides what comes
first: flights end before the server acts at that moment, and the server takes them by (end, flight).
`timeline.conformance.check_protocol` tests what is asked of a protocol for one of your own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import simpy

from neulite_sim.timeline import endings, first_version
from neulite_sim.timeline.clock import Clock
from neulite_sim.timeline.columns import Flights
from neulite_sim.timeline.endings import Endings, Landing, Launch, LoneLanding, Notes, ending_of
from neulite_sim.timeline.flights import Flight
from neulite_sim.timeline.shared_flights import ServerLinks, SharedLanding
from neulite_sim.timeline.shared_link import SharedLink


class Server(Protocol):
    """The server of the federation, as a protocol sees it. Times are virtual seconds."""

    @property
    def devices_per_round(self) -> int:
        """How many devices the scenario wants to train at a time."""
        ...

    def is_over(self) -> bool:
        """Whether a stop condition has been met."""
        ...

    def dispatch(self, at_s: float, *, wanted: int | None = None) -> Sequence[Flight]:
        """Choose devices and plan their flights; none where nobody can be offered work now.

        `wanted` devices, `devices_per_round` by default, none of those that are in flight.
        """
        ...

    def train(self, flights: Iterable[Flight]) -> None:
        """Start the training of those flights, just dispatched, that the protocol may merge.

        One that is planned to be dropped is not trained even if it is named. One that is not named must not be merged,
        except into the very version that it was sent: it is then trained as late as that.
        """
        ...

    def note_end(self, ending: endings.Ending) -> None:
        """Be told, at that moment, that a launched flight has ended and how: its device can fly again.

        Of flights over the server's link that are still out when the clock stops it is told then how far they came.
        """
        ...

    # A server may also have `note_ends(endings)`, which is told of many, before anything else is asked of it at or
    # after the last of those moments; without it each is noted by itself. Further it may have `stalenesses(flights)`,
    # and `dispatch_along`, which `Foresighted` describes.

    def staleness(self, flight: Flight) -> int:
        """Return how many aggregations of the flight's own stage there have been since its dispatch."""
        ...

    def stage(self) -> str:
        """Return the stage that the method is at now."""
        ...

    def digest(self, ended: Sequence[endings.Ending], at_s: float) -> None:
        """Learn from the flights that ended: an aggregation."""
        ...

    def next_chance_s(self, at_s: float, *, until_s: float = math.inf) -> float:
        """Return the next time, later than `at_s`, at which somebody who is not in flight can be offered work.

        It is `inf` where there is none as long as others are in flight: they come back. Where nobody can until the
        virtual time at which the run stops, it is that time. Where memory moves it is looked for piece by piece;
        whoever asks again at `until_s`, or at a landing before, says so and saves the search beyond. It may be `inf`
        then although there is one later.

        Raises:
            SimulationError: nobody is in flight, nobody can ever be offered work again, and the run stops at no time.
        """
        ...


class Foresighted(Protocol):
    """A server that dispatches ahead of the clock, where nothing but the flights themselves can come between."""

    def dispatch_along(
        self, at_s: float, *, wanted: int, landings: endings.Endings | None
    ) -> tuple[Sequence[Flight], int]:
        """Dispatch now, and then, as flights land, as many again at each of these moments.

        `landings` are later than now, in the order in which they land, and all that will until the last of them. Return
        the flights, and of how many landings note was taken and dispatch went along with: it ends before a moment at
        which fewer would leave than have landed, and before one at which a flight lands that it has itself dispatched.
        """
        ...

    def stalenesses(self, flights: Flights) -> Sequence[int]:
        """Return `Server.staleness` of each."""
        ...


def dispatched_along(
    server: Server, at_s: float, *, wanted: int, landings: endings.Endings | None
) -> tuple[Sequence[Flight], int]:
    """Return what `Foresighted.dispatch_along` does; of a server without it, what is dispatched now."""
    along = getattr(server, "dispatch_along", None)
    if along is None:
        return server.dispatch(at_s, wanted=wanted), 0
    found: tuple[Sequence[Flight], int] = along(at_s, wanted=wanted, landings=landings)
    return found


def stalenesses_of(server: Server, flights: Flights) -> Sequence[int]:
    """Return the staleness of each flight, one by one unless the server knows better."""
    known: Callable[[Flights], Sequence[int]] | None = getattr(server, "stalenesses", None)
    return [server.staleness(flight) for flight in flights] if known is None else known(flights)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRates:
    """What the server's link carries in bits per second; None where a direction is no bottleneck."""

    down: float | None
    up: float | None


class RoundProtocol(Protocol):
    """When to dispatch and when to digest."""

    mixes_versions: bool
    """Whether updates from older versions of the method's state are merged."""

    # A protocol may also have `merges_whole_rounds = True`: the flights that it gives to one call of `server.train` and
    # that end as planned come together in one digest, as they are. Their updates are then added up where they arise.

    def process(self, clock: Clock, server: Server, launch: Launch) -> Generator[simpy.Event, object, None]:
        """Run as a SimPy process until the server says that the run is over.

        Each dispatched flight is given to `server.train` where it may be merged, then to `launch(flight)`, which
        starts it and returns its landing, and handed over once, by `server.digest`, when it has landed.
        """
        ...


def run_protocol(
    protocol: RoundProtocol, server: Server, *, until_s: float | None, rates: ServerRates | None = None
) -> float:
    """Run a protocol on a fresh virtual clock and return the virtual time at its end.

    With `until_s` the clock stops there at the latest; what would happen at that very moment no longer does. `rates`
    are those of the server's own link, where it has one that limits.
    """
    clock = Clock(ends_at_s=math.inf if until_s is None else until_s)
    launch = _Launch(server, _alone(clock) if rates is None else _shared(clock, rates))
    process = clock.process(protocol.process(clock, server, launch))
    if until_s is None:
        clock.run(until=process)
        launch.stop()
        return float(clock.now)
    ended_s = [until_s]
    process.callbacks.append(lambda _: ended_s.append(float(clock.now)))
    clock.run(until=until_s)
    launch.stop()
    return ended_s[-1]


class _Launch:
    """Starts flights, and tells the server of their ends at once."""

    def __init__(self, server: Server, fly: Callable[[Flight], Landing]) -> None:
        self._server = server
        self._fly = fly
        self._sharing: dict[int, SharedLanding] = {}

    def __call__(self, flight: Flight) -> Landing:
        landing = self._fly(flight)
        # Protocols of version 0.1.0 find the flight by its landing.
        landing.flight = flight  # type: ignore[union-attr]
        if isinstance(landing, SharedLanding):
            self._sharing[flight.number] = landing
        # First of all that watch the landing: whatever they do, they find the device free.
        landing.callbacks.append(lambda event: self._land(flight, event))
        return landing

    def _land(self, flight: Flight, landing: simpy.Event) -> None:
        self._sharing.pop(flight.number, None)
        self._server.note_end(ending_of(flight, landing))

    def stop(self) -> None:
        """Tell the server how far flights came that are still out and do not end as planned: the clock has stopped."""
        for landing in self._sharing.values():
            self._server.note_end(endings.Ending(flight=landing.flight, outcome=landing.so_far()))

    def together(self, flights: Flights) -> Notes:
        """Start flights that end as planned, without a landing each, and return what is told of their ends."""
        del flights
        note_ends: Notes = getattr(self._server, "note_ends", self._note_each)
        return note_ends

    def _note_each(self, ended: Endings) -> None:
        for ending in ended:
            self._server.note_end(ending)


def _alone(clock: Clock) -> Callable[[Flight], Landing]:
    """Return what starts flights that end as they were planned."""
    return lambda flight: LoneLanding(clock, flight)


def _shared(clock: Clock, rates: ServerRates) -> Callable[[Flight], Landing]:
    """Return what starts flights that share the server's link."""
    down, up = (None if rate is None else SharedLink(clock, rate) for rate in (rates.down, rates.up))
    links = ServerLinks(down=down, up=up)
    return lambda flight: SharedLanding(clock, flight, links)


def __getattr__(name: str) -> Any:
    """Return what protocols written for version 0.1.0 import from here.

    Raises:
        AttributeError: there is no such name, and was none.
    """
    if name in first_version.NAMES:
        return first_version.NAMES[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
