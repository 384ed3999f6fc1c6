"""A simulator of memory-constrained federated learning: what a method would have cost, and learned, on a fleet.

The public names load what they need on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from neulite_sim.version import __version__

if TYPE_CHECKING:
    from neulite_sim.api.compare import compare
    from neulite_sim.api.loading import load_run, resume
    from neulite_sim.api.profile import profile
    from neulite_sim.api.sweep import sweep
    from neulite_sim.api.whatif import whatif
    from neulite_sim.engine.given import register
    from neulite_sim.engine.simulation import simulate
    from neulite_sim.scenario.loading import load_scenario
    from neulite_sim.scenario.schema import Scenario

__all__ = [
    "Scenario",
    "__version__",
    "compare",
    "load_run",
    "load_scenario",
    "profile",
    "register",
    "resume",
    "simulate",
    "sweep",
    "whatif",
]

_HOMES = {
    "Scenario": "neulite_sim.scenario.schema",
    "compare": "neulite_sim.api.compare",
    "load_run": "neulite_sim.api.loading",
    "load_scenario": "neulite_sim.scenario.loading",
    "profile": "neulite_sim.api.profile",
    "register": "neulite_sim.engine.given",
    "resume": "neulite_sim.api.loading",
    "simulate": "neulite_sim.engine.simulation",
    "sweep": "neulite_sim.api.sweep",
    "whatif": "neulite_sim.api.whatif",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
