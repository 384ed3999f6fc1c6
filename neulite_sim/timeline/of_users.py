"""A protocol of a user's own: a class or an object with a process."""

from __future__ import annotations

import copy
from typing import Any

from neulite_sim.registry import Options
from neulite_sim.timeline.contract import RoundProtocol
from neulite_sim.user_code.calls import Found
from neulite_sim.user_code.components import given, python


def protocol_of(found: Found, options: Options) -> RoundProtocol:
    """Return the protocol that a user's value is or makes.

    Raises:
        ScenarioError: what comes of it has no process.
    """
    del options
    made: Any = copy.deepcopy(found.value) if _is_protocol(found.value) else None
    if made is None and callable(found.value):
        made = found.called({})
    if not _is_protocol(made):
        what = type(found.value if made is None else made).__name__
        raise found.refused(
            f"{found.name} is or makes {what}, which is no protocol",
            "give an object with mixes_versions and a generator process(clock, server, launch), or a class or function "
            "that makes one",
        )
    protocol: RoundProtocol = made
    return protocol


def _is_protocol(value: object) -> bool:
    return not isinstance(value, type) and hasattr(value, "process") and hasattr(value, "mixes_versions")


PYTHON = python("protocol", "a protocol of your own", Options, protocol_of)
GIVEN = given("protocol", "a protocol of your own", Options, protocol_of)
