"""Synchronous rounds: dispatch, wait for every flight to end, aggregate what arrived, begin again.

McMahan et al., AISTATS 2017, algorithm 1. A round lasts as long as its slowest flight, a dropped one included: the
server notices the loss when it happens. Where nobody can be offered work the clock moves to the next chance.
"""

from __future__ import annotations

from collections.abc import Generator

import simpy

from neulite_sim.registry import Component, Options
from neulite_sim.timeline.clock import Clock
from neulite_sim.timeline.contract import Server
from neulite_sim.timeline.endings import Launch
from neulite_sim.timeline.sorties import sortie


class SynchronousOptions(Options):
    """`synchronous` has no options."""


class Synchronous:
    """One round after another."""

    mixes_versions = False
    merges_whole_rounds = True

    def process(self, clock: Clock, server: Server, launch: Launch) -> Generator[simpy.Event, object, None]:
        """Run rounds until the server says that the run is over."""
        while not server.is_over():
            flights = server.dispatch(clock.now)
            if not flights:
                yield clock.at(server.next_chance_s(clock.now))
                continue
            server.train(flights)
            out = sortie(clock, flights, launch)
            yield out.all()
            server.digest(out.ended(), clock.now)


def _build(options: SynchronousOptions) -> Synchronous:
    del options
    return Synchronous()


COMPONENT = Component(
    kind="synchronous",
    summary="rounds that wait for every flight",
    source="McMahan et al., AISTATS 2017, arXiv 1602.05629, algorithm 1",
    options=SynchronousOptions,
    build=_build,
)
