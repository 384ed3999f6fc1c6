"""The fleet as a table: one column per quantity, one entry per device, no object per device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from neulite_sim.population.throughput import ThroughputTraces

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

    def online_until_s(self, devices: Integers, at_s: float, horizon_s: float = math.inf) -> Floats:
        """Return when each of `devices` goes offline next (`inf`: never); `at_s` for one that is offline now.

        Nobody asks what comes after `horizon_s`: any moment from there on may stand for another.
        """
        ...

    def next_online_s(self, devices: Integers, at_s: float) -> Floats:
        """Return the first time >= `at_s` when each of `devices` is online; `inf` where that never happens."""
        ...


class MemoryMotion(Protocol):
    """How available memory changes in time. Pure lookups: any order of queries gives the same answers.

    A value holds over a half-open stretch of time. `round_number` counts rounds from 1; it matters only where memory
    changes from round to round, and a flight then keeps what its device had when it was dispatched.
    """

    def available_bytes(self, at_s: float, round_number: int) -> Integers:
        """Return the available memory of every device at virtual time `at_s`, in a round."""
        ...

    def available_bytes_of(self, devices: Integers, at_s: float, round_number: int) -> Integers:
        """Return the same for some devices, without the work for the others."""
        ...

    def short_from_s(self, device: int, needed_bytes: int, at_s: float, until_s: float) -> float:
        """Return the first moment from `at_s` to `until_s` at which a device has less than `needed_bytes`.

        `inf` where there is none.
        """
        ...

    def next_change_s(self, at_s: float) -> float:
        """Return a moment after `at_s` before which nobody's memory changes; `inf` where it never does again."""
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
    convolution_efficiency: float | None = None
    """Share of the peak that convolutions reach, where it is not `efficiency`; clever algorithms may go above 1."""
    bandwidth_efficiency: float | None = None
    """Bytes that operators move per second, over the bandwidth; the whole of it where it is None."""
    grouped_bandwidth_efficiency: float | None = None
    """The same of grouped convolutions, depthwise ones among them, where it is another."""


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
    notes: tuple[str, ...] = ()
    """What a user should know about how the table came about: capped memory, groups without a device."""

    @property
    def num_devices(self) -> int:
        """Number of devices, N."""
        return len(self.class_index)
