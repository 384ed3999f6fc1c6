"""What protocols written for version 0.1.0 import, in terms of what there is now.

They ended a round by `server.digest([Ending(plan=come_about(landing)) for landing in landings], clock.now)` and never
said which flights are trained. Protocols that keep rounds apart run on so; what else they did is done otherwise now
(`docs/guides/write_a_protocol.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import simpy

from neulite_sim.timeline import endings
from neulite_sim.timeline.flights import Flight


def come_about(landing: simpy.Event) -> endings.Ending:
    """Return how a launched flight came about; it must have ended."""
    flight: Flight = landing.flight  # type: ignore[attr-defined]
    return endings.ending_of(flight, landing)


def ending(*, plan: endings.Ending | None = None, **given: Any) -> endings.Ending:
    """Return what was `Ending(plan=...)`, of what `come_about` returns; or an ending as it is made now."""
    whole: dict[str, Any] = {} if plan is None else {"flight": plan.flight, "outcome": plan.outcome}
    return endings.Ending(**whole, **given)


NAMES: Mapping[str, Callable[..., Any]] = {"come_about": come_about, "Ending": ending, "Mixing": endings.Mixing}
"""Names that were in `timeline.contract`."""
