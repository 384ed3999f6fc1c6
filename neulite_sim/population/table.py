"""The fleet as a table: one column per quantity, one entry per device, no object per device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Availability(Protocol):
    """When devices are online. Pure lookups: any order of queries gives the same answers.

    Being online is a half-open interval: online at its start, offline at its end.
    """

    def online(self, at_s: float) -> Flags:
        """Return for every device whether it is online at virtual time `at_s`."""
        ...

    def online_until_s(self, devices: Integers, at_s: float) -> Floats:
        """Return when each of `devices` goes offline next (`inf`: never); `at_s` for one that is offline now."""
        ...

    def next_online_s(self, devices: Integers, at_s: float) -> Floats:
        """Return the first time >= `at_s` when each of `devices` is online; `inf` where that never happens."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceClass:
    """One kind of hardware, as the time model needs it. Rates are peaks; `efficiency` is the share achieved."""

    name: str
    family: str
    installed_memory_bytes: int
    usable_memory_bytes: int
    peak_flops_per_second: float
    memory_bytes_per_second: float
    efficiency: float
    operator_overhead_s: float
    downlink_bits_per_second: float
    uplink_bits_per_second: float


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
    notes: tuple[str, ...] = ()
    """What a user should know about how the table came about: capped memory, groups without a device."""

    @property
    def num_devices(self) -> int:
        """Number of devices, N."""
        return len(self.class_index)
