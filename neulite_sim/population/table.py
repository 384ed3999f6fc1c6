"""The fleet as a table: one column per quantity, one entry per device, no object per device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neulite_sim.arrays import Flags as Flags  # Plug-ins of the first version take the array types from here.
from neulite_sim.arrays import Floats, Integers
from neulite_sim.population.availability.charges import Charges
from neulite_sim.population.availability.contract import Availability
from neulite_sim.population.hardware.contract import DeviceClass
from neulite_sim.population.link.throughput import ThroughputTraces
from neulite_sim.population.memory.contract import MemoryMotion


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Columns over devices 0 to N-1, and the availability of all of them."""

    classes: tuple[DeviceClass, ...]
    class_index: NDArray[np.int16]
    available_memory_bytes: Integers
    downlink_bits_per_second: Floats
    uplink_bits_per_second: Floats
    latency_s: Floats
    speed_jitter: float
    availability: Availability
    throughput: ThroughputTraces | None = None
    """Rates that change over time, where a link follows a trace; the columns above hold the means then."""
    speed_factor: Floats | None = None
    """How much faster than its class each device computes, above 0; everyone as their class where it is None."""
    memory_motion: MemoryMotion | None = None
    """How available memory moves around the column above, which is then nominal; it stays as it is where None."""
    charges: Charges | None = None
    """The batteries that flights drain; `availability` heeds them. None where there are none."""
    aloft: Availability | None = None
    """When devices are online while they fly, where that is not `availability`: their charge does not matter then."""
    notes: tuple[str, ...] = ()
    """What a user should know about how the table came about: capped memory, groups without a device."""

    @property
    def num_devices(self) -> int:
        """Number of devices, N."""
        return len(self.class_index)
