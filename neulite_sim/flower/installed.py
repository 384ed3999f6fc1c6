"""Whether the Flower that is installed is one that this was written for and tested with."""

from __future__ import annotations

from neulite_sim.errors import BackendUnavailableError
from neulite_sim.results.provenance import installed_version

TESTED = "1.42"
"""Versions 1.42.x: what a run builds upon (contexts of nodes, identity of a task, the loop of old servers) may move
with any other."""
INSTALL = "python -m pip install 'neulite-sim[flower]'"


def require_flower() -> str:
    """Return the version of Flower.

    Raises:
        BackendUnavailableError: it is not installed, or is another one than was tested.
    """
    found = installed_version("flwr")
    if found is None:
        raise BackendUnavailableError("flower needs Flower, which is not installed", hint=f"install it: {INSTALL}")
    if found.split(".")[:2] != TESTED.split("."):
        raise BackendUnavailableError(
            f"flower is made for Flower {TESTED}, and {found} is installed",
            hint=f"install the one that was tested: python -m pip install 'flwr=={TESTED}.*'",
        )
    return found
