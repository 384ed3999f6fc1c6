"""Links: which rates and latency each device has, and how long a transfer takes.

The catalogue gives a device's nominal link; the population's `link` replaces it, and a group's own `link` replaces
both. A transfer takes `latency + 8 * bytes / rate`: every device has its link to itself and the server is no
bottleneck.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from neulite_sim.population.table import DeviceClass, Floats, Integers
from neulite_sim.scenario.schema import Link

BITS_PER_BYTE = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkColumns:
    """The link of every device: rates in bits per second, latency in seconds, float64 `[N]`."""

    downlink_bits_per_second: Floats
    uplink_bits_per_second: Floats
    latency_s: Floats


def group_link(device: DeviceClass, *, population: Link | None, group: Link | None) -> Link:
    """Return the link of a group: its own, else the population's, else the catalogue's at the default latency."""
    nominal = Link(downlink=device.downlink_bits_per_second, uplink=device.uplink_bits_per_second)
    return group or population or nominal


def link_columns(links: tuple[Link, ...], group_of_device: Integers) -> LinkColumns:
    """Return the columns of a fleet: device d has `links[group_of_device[d]]`."""
    return LinkColumns(
        downlink_bits_per_second=np.array([link.downlink for link in links])[group_of_device],
        uplink_bits_per_second=np.array([link.uplink for link in links])[group_of_device],
        latency_s=np.array([link.latency for link in links])[group_of_device],
    )


@overload
def transfer_s(num_bytes: float, bits_per_second: float, latency_s: float) -> float: ...
@overload
def transfer_s(num_bytes: float | Integers | Floats, bits_per_second: Floats, latency_s: float | Floats) -> Floats: ...
@overload
def transfer_s(num_bytes: Integers | Floats, bits_per_second: float, latency_s: float | Floats) -> Floats: ...
def transfer_s(num_bytes: Any, bits_per_second: Any, latency_s: Any) -> Any:
    """Return the seconds that `num_bytes` take at `bits_per_second` (above zero), after `latency_s`.

    Scalars or arrays, broadcast against each other: `latency_s + 8 * num_bytes / bits_per_second`.
    """
    return latency_s + BITS_PER_BYTE * num_bytes / bits_per_second
