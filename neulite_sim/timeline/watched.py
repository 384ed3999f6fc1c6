"""A protocol of a user's own that is watched: it yields events and lets time pass, or the run ends in words."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import simpy

from neulite_sim.errors import NeuliteError, SimulationError
from neulite_sim.timeline.clock import Clock, Moment
from neulite_sim.timeline.contract import RoundProtocol, Server
from neulite_sim.timeline.endings import Launch
from neulite_sim.user_code.origins import in_a_line

MOST_AT_A_MOMENT = 10_000
"""How often a process may wait for a moment without any time passing. Landings may all fall together."""
_HINT = "guides/write_a_protocol.md says what a process does; check_protocol tests one"


class Watched:
    """What `own` is, but for its process."""

    def __init__(self, own: RoundProtocol, name: str) -> None:
        self._own = own
        self._name = name

    def __getattr__(self, name: str) -> Any:
        """Return what the protocol says of itself."""
        return getattr(self._own, name)

    def process(self, clock: Clock, server: Server, launch: Launch) -> Generator[simpy.Event, object, None]:
        """Run its process.

        Raises:
            SimulationError: it fails, is no generator, yields something else than events, or lets no time pass.
        """
        process: Any = self._own.process(clock, server, launch)
        if not isinstance(process, Generator):
            told = f"{self._name}.process returns {type(process).__name__}, and is no generator"
            raise SimulationError(told, hint="write it as a function that yields events")
        resume: Callable[[Any], Any] = process.send
        sent: Any = None
        moment_s, waited = clock.now, 0
        while True:
            try:
                event = resume(sent)
            except StopIteration:
                return
            except NeuliteError:
                raise
            except Exception as error:
                raise SimulationError(f"{self._name}.process fails: {in_a_line(error)}", hint=_HINT) from error
            if not isinstance(event, simpy.Event):
                raise SimulationError(f"{self._name}.process yields {event!r:.60}, which is no event", hint=_HINT)
            if clock.now != moment_s:
                moment_s, waited = clock.now, 0
            waited += isinstance(event, Moment | simpy.Timeout)
            if waited > MOST_AT_A_MOMENT:
                told = f"{self._name}.process lets no time pass: it waited {waited - 1:,} times at {moment_s:g} s"
                raise SimulationError(told, hint="wait for a landing, or with clock.timeout(seconds)")
            try:
                resume, sent = process.send, (yield event)
            except Exception as error:
                resume, sent = process.throw, error
