"""Availability that is the logical and of two: a device is online while both say so.

The next moment at which both agree is found by asking them in turn, each from the other's answer on. The devices'
moments differ by then, so that the question carries one moment per device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from neulite_sim.arrays import Flags, Floats, Integers
from neulite_sim.population.availability.contract import Availability
from neulite_sim.population.availability.kinds import AlwaysOnline

MOST_TURNS = 1000
"""Turns without agreement after which a device is taken never to be online again; three years of daily windows."""


@runtime_checkable
class EachAvailability(Protocol):
    """Availability that answers for many devices and moments at once; optional, for speed."""

    def next_online_each_s(self, devices: Integers, at_s: Floats) -> Floats:
        """Return the first time >= `at_s[i]`, all finite, when `devices[i]` is online; `inf` where that never is."""
        ...


def next_online_each_s(availability: Availability, devices: Integers, at_s: Floats) -> Floats:
    """Return the first time >= `at_s[i]` when `devices[i]` is online; `inf` where that never happens, or `at_s` is."""
    found = np.full(len(devices), math.inf)
    asked = np.flatnonzero(np.isfinite(at_s))
    if isinstance(availability, EachAvailability):
        found[asked] = availability.next_online_each_s(devices[asked], at_s[asked])
        return found
    for moment_s in np.unique(at_s[asked]):
        members = asked[at_s[asked] == moment_s]
        found[members] = availability.next_online_s(devices[members], float(moment_s))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Both:
    """Online while `first` and `second` both are. Pure lookups where theirs are."""

    first: Availability
    second: Availability

    def online(self, at_s: float) -> Flags:
        """Return for every device whether it is online at virtual time `at_s`."""
        both: Flags = self.first.online(at_s) & self.second.online(at_s)
        return both

    def online_until_s(self, devices: Integers, at_s: float, horizon_s: float = math.inf) -> Floats:
        """Return when each of `devices` goes offline next (`inf`: never); `at_s` for one that is offline now.

        What lies at or after `horizon_s` is not looked for: any moment from there on stands for it.
        """
        # One that is offline answers `at_s` itself, and nothing ends earlier.
        both_s = (part.online_until_s(devices, at_s, horizon_s) for part in (self.first, self.second))
        return np.minimum(*both_s)

    def next_online_s(self, devices: Integers, at_s: float) -> Floats:
        """Return the first time >= `at_s` when each of `devices` is online; `inf` where that never happens."""
        return self.next_online_each_s(devices, np.full(len(devices), float(at_s)))

    def next_online_each_s(self, devices: Integers, at_s: Floats) -> Floats:
        """Return the first time >= `at_s[i]`, all finite, when `devices[i]` is online; `inf` where that never is."""
        moments_s = at_s.copy()
        pending = np.arange(len(devices))
        for _ in range(MOST_TURNS):
            first_s = next_online_each_s(self.first, devices[pending], moments_s[pending])
            moments_s[pending] = next_online_each_s(self.second, devices[pending], first_s)
            pending = pending[np.isfinite(moments_s[pending]) & (moments_s[pending] > first_s)]
            if not len(pending):
                return moments_s
        moments_s[pending] = math.inf
        return moments_s


def combined(own: Availability, *gates: Availability) -> Availability:
    """Return the logical and of a fleet's own availability and what gates it."""
    for gate in gates:
        own = gate if isinstance(own, AlwaysOnline) else Both(first=own, second=gate)
    return own
