"""A protocol of a user's own: a class or an object with a process."""

from __future__ import annotations

from neulite_sim.registry import Options
from neulite_sim.timeline.contract import RoundProtocol
from neulite_sim.timeline.watched import Watched
from neulite_sim.user_code.calls import Found
from neulite_sim.user_code.components import given, python


def protocol_of(found: Found, options: Options) -> RoundProtocol:
    """Return the protocol that a user's value is or makes.

    Raises:
        ScenarioError: what comes of it has no process.
    """
    del options
    protocol: RoundProtocol = found.object_like(
        _is_protocol,
        {},
        what="protocol",
        hint="give an object with mixes_versions and a generator process(clock, server, launch), or a class or "
        "function that makes one",
    )
    return Watched(protocol, found.name)


def _is_protocol(value: object) -> bool:
    return not isinstance(value, type) and hasattr(value, "process") and hasattr(value, "mixes_versions")


PYTHON = python("protocol", "a protocol of your own", Options, protocol_of)
GIVEN = given("protocol", "a protocol of your own", Options, protocol_of)
