"""Tiers of devices by latency, and the profiling that the latencies come from (TiFL, HPDC 2020, section 4.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neulite_sim.arrays import Integers
from neulite_sim.methods.contract import Offers
from neulite_sim.selection.contract import Feedback

Floats = NDArray[np.float64]


def tiers_by_latency(latencies_s: Floats, num_tiers: int) -> list[Integers]:
    """Return the positions in each tier, fast to slow; sizes differ by one at most, equal latencies keep their order.

    Latencies 5, 1, 4, 2, 3, 6 in three tiers: [1, 3], [4, 2], [0, 5].
    """
    return np.array_split(np.argsort(latencies_s, kind="stable").astype(np.int64), num_tiers)


@dataclass(slots=True)
class Tiering:
    """The tiers of all devices that were ever offered one set of submodels; -1: not known, or left out."""

    latency_s: Floats
    tier: NDArray[np.int64]

    @classmethod
    def empty(cls, num_devices: int) -> Tiering:
        """Return a tiering that knows no device yet."""
        return cls(np.full(num_devices, np.inf), np.full(num_devices, -1, dtype=np.int64))

    def follow(self, devices: Integers, latency_s: Floats, num_tiers: int) -> None:
        """Take in the latencies of devices, infinite for those left out, and tier anew if any changed."""
        if np.array_equal(self.latency_s[devices], latency_s):
            return
        self.latency_s[devices] = latency_s
        known = np.flatnonzero(np.isfinite(self.latency_s))
        self.tier[:] = -1
        for number, members in enumerate(tiers_by_latency(self.latency_s[known], num_tiers)):
            self.tier[known[members]] = number


class SpeedProfile:
    """How long devices took in the profiling rounds, as a multiple of what was expected of them."""

    def __init__(self, num_devices: int) -> None:
        self._expected_s = np.zeros(num_devices)
        self._slowness = np.zeros(num_devices)
        self._rounds = np.zeros(num_devices, dtype=np.int64)
        self._in_time = np.zeros(num_devices, dtype=np.int64)

    def expect(self, offers: Offers) -> None:
        """Remember what is expected of the devices that may be chosen now."""
        self._expected_s[offers.devices] = offers.expected_s

    def note(self, item: Feedback, time_out_s: float | None) -> None:
        """Count a profiling flight; one that was lost or too late counts as the time-out."""
        expected_s = float(self._expected_s[item.device])
        limit_s = math.inf if time_out_s is None else time_out_s
        # Without a time-out, a flight that was lost says only that the device takes at least that long.
        lost_s = max(item.duration_s, expected_s) if time_out_s is None else time_out_s
        lasted_s = min(item.duration_s, limit_s) if item.has_arrived else lost_s
        self._slowness[item.device] += lasted_s / expected_s if expected_s > 0 else 1.0
        self._rounds[item.device] += 1
        self._in_time[item.device] += lasted_s < limit_s

    def latency_s(self, offers: Offers, time_out_s: float | None) -> Floats:
        """Return the latency of each offer; infinite where profiling gave the device up."""
        rounds = self._rounds[offers.devices]
        mean_slowness = np.where(rounds > 0, self._slowness[offers.devices] / np.maximum(rounds, 1), 1.0)
        latency_s = offers.expected_s * mean_slowness
        if time_out_s is None:
            return latency_s
        was_never_in_time = np.where(rounds > 0, self._in_time[offers.devices] == 0, offers.expected_s >= time_out_s)
        return np.where(was_never_in_time, np.inf, latency_s)
