"""What a protocol asks of the engine, and how a run's protocol is driven by the virtual clock.

SimPy's queue has one total order, (virtual time, priority, running number), and nothing else decides what comes
first. A protocol is one process on it; each flight is another.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

import simpy

from neulite_sim.timeline.flights import FlightPlan


class Server(Protocol):
    """The server of the federation, as a protocol sees it. Times are virtual seconds."""

    def is_over(self) -> bool:
        """Whether a stop condition has been met."""
        ...

    def dispatch(self, at_s: float) -> Sequence[FlightPlan]:
        """Choose devices and start their flights; none where nobody can be offered work now."""
        ...

    def digest(self, ended: Sequence[FlightPlan], at_s: float) -> None:
        """Learn from the flights that ended: an aggregation."""
        ...

    def next_chance_s(self, at_s: float) -> float:
        """Return the next time, later than `at_s`, at which somebody can be offered work."""
        ...


class RoundProtocol(Protocol):
    """When to dispatch and when to digest."""

    def process(self, env: simpy.Environment, server: Server) -> Generator[simpy.Event, object, None]:
        """Run as a SimPy process until the server says that the run is over."""
        ...


def run_protocol(protocol: RoundProtocol, server: Server, *, until_s: float | None) -> float:
    """Run a protocol on a fresh virtual clock and return the virtual time at its end.

    With `until_s` the clock stops there at the latest; what would happen at that very moment no longer does.
    """
    env = simpy.Environment()
    process = env.process(protocol.process(env, server))
    if until_s is None:
        env.run(until=process)
        return float(env.now)
    ended_s = [until_s]
    process.callbacks.append(lambda _: ended_s.append(float(env.now)))
    env.run(until=until_s)
    return ended_s[-1]
