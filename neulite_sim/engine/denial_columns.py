"""Which column of a device's row counts the rounds that were denied for which reason."""

from __future__ import annotations

from collections.abc import Mapping

from neulite_sim.engine.views import IN_FLIGHT, NO_DATA, OFFLINE
from neulite_sim.methods.offering import OUT_OF_MEMORY

DENIALS: Mapping[str, str] = {
    OUT_OF_MEMORY: "denied_not_enough_memory",
    OFFLINE: "denied_offline",
    IN_FLIGHT: "denied_in_flight",
    NO_DATA: "denied_no_data",
}
"""The column of each reason that the engine has for a denial; those of methods of others are counted together."""
OTHER_DENIALS = "denied_other"
