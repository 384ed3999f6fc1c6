"""A simulator of memory-constrained federated learning: what a method would have cost, and learned, on a fleet.

The public names load what they need on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from neulite_sim.version import __version__

if TYPE_CHECKING:
    from neulite_sim.engine.simulation import simulate
    from neulite_sim.scenario.loading import load_scenario
    from neulite_sim.scenario.schema import Scenario

__all__ = ["Scenario", "__version__", "load_scenario", "simulate"]

_HOMES = {
    "Scenario": "neulite_sim.scenario.schema",
    "load_scenario": "neulite_sim.scenario.loading",
    "simulate": "neulite_sim.engine.simulation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
