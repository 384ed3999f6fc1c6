"""A protocol of others that draws from the process: each time that it goes on, from numbers of that moment."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from typing import Any, cast

import simpy

from neulite_sim.timeline.clock import Clock
from neulite_sim.timeline.contract import RoundProtocol, Server
from neulite_sim.timeline.endings import Launch
from neulite_sim.user_code.drawing import drawing


def drawn(protocol: RoundProtocol, seed: int) -> RoundProtocol:
    """Return a protocol whose process draws what depends on the seed and on how often it has gone on."""
    return cast("RoundProtocol", _Drawn(protocol, seed))


class _Drawn:
    """What `own` is, but for what its process draws."""

    def __init__(self, own: RoundProtocol, seed: int) -> None:
        self._own = own
        self._seed = seed

    def __getattr__(self, name: str) -> Any:
        """Return what the protocol says of itself."""
        return getattr(self._own, name)

    def process(self, clock: Clock, server: Server, launch: Launch) -> Generator[simpy.Event, object, None]:
        """Run its process."""
        with drawing(self._seed, "protocol.process", 0):
            process = self._own.process(clock, server, launch)
        resume: Callable[[Any], Any] = process.send
        sent: Any = None
        for number in itertools.count(1):
            with drawing(self._seed, "protocol.process", number):
                try:
                    event = resume(sent)
                except StopIteration:
                    return
            try:
                resume, sent = process.send, (yield event)
            except Exception as error:
                resume, sent = process.throw, error
