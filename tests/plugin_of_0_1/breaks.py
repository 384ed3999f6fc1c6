"""A protocol for neulite-sim: synchronous rounds with a break after each."""

from pydantic import Field

from neulite_sim.registry import Component, Options
from neulite_sim.timeline.contract import Ending, come_about


class BreaksOptions(Options):
    """Options of `breaks`."""

    seconds: float = Field(60.0, ge=0, le=1e6)
    """How long the server rests after each aggregation."""


class Breaks:
    """Rounds that wait for every flight, and a break after each."""

    mixes_versions = False

    def __init__(self, seconds):
        self._seconds = seconds

    def process(self, clock, server, launch):
        while not server.is_over():
            plans = server.dispatch(clock.now)
            if not plans:
                yield clock.at(server.next_chance_s(clock.now))
                continue
            flights = [launch(plan) for plan in plans]
            yield clock.all_of(flights)
            server.digest([Ending(plan=come_about(flight)) for flight in flights], clock.now)
            yield clock.at(clock.now + self._seconds)


def build(options):
    return Breaks(options.seconds)


COMPONENT = Component(
    kind="breaks", summary="rounds with a break after each", source="the tests", options=BreaksOptions, build=build
)
