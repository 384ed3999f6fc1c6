"""Populations made up column by column, for ledgers that are worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neulite_sim.population.availability.kinds import AlwaysOnline
from neulite_sim.population.hardware.contract import DeviceClass
from neulite_sim.population.memory.contract import MemoryMotion
from neulite_sim.population.table import Population


def fleet_of(
    classes: Sequence[DeviceClass],
    class_index: Sequence[int] | np.ndarray,
    memory_bytes: Sequence[int] | np.ndarray,
    motion: MemoryMotion | None = None,
) -> Population:
    """Return devices of these classes that are always online, each with its memory, on links of 8 kbit/s."""
    count = len(class_index)
    return Population(
        classes=tuple(classes), class_index=np.array(class_index, np.int16),
        available_memory_bytes=np.array(memory_bytes, np.int64), downlink_bits_per_second=np.full(count, 8000.0),
        uplink_bits_per_second=np.full(count, 8000.0), latency_s=np.zeros(count), speed_jitter=0.0,
        availability=AlwaysOnline(num_devices=count), memory_motion=motion,
    )  # fmt: skip
