"""Batteries that follow the same day over and over: plugged in, charged, unplugged, drained.

The charge of an idle device is a periodic function of time: it rises from the moment at which the device is plugged
in, stays at full, and falls from the moment at which it is unplugged. Only that moment differs between devices. So
the charge at any time is known without a process per device, and with it when a device has enough to be online.

A flight draws more than an idle device, and its own drain is followed exactly from its dispatch to its end. It is
forgotten afterwards: the next flight begins at the idle charge of its moment, as if the one before had not been.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from neulite_sim.arrays import Flags, Floats, Integers
from neulite_sim.scenario.churn import Battery
from neulite_sim.seeding import stream
from neulite_sim.traces.intervals import TICKS_PER_SECOND, nearest_tick, on_grid
from neulite_sim.units import DAY_S, HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyWindow:
    """Availability of one window a day: device d is online from `first_s[d] + k * 24 h` for `length_s`, all integer k.

    `first_s` is float64 `[N]` in [0, 48 h), `length_s` below 24 h; both on the grid of times, so sums are exact.
    """

    first_s: Floats
    length_s: float

    def online(self, at_s: float) -> Flags:
        """Return for every device whether it is online at virtual time `at_s`."""
        inside: Flags = at_s < self._started_s(self.first_s, np.full(len(self.first_s), at_s)) + self.length_s
        return inside

    def online_until_s(self, devices: Integers, at_s: float, horizon_s: float = math.inf) -> Floats:
        """Return when each of `devices` goes offline next; `at_s` for one that is offline now."""
        del horizon_s
        end_s = self._started_s(self.first_s[devices], np.full(len(devices), at_s)) + self.length_s
        return np.maximum(end_s, at_s)

    def next_online_s(self, devices: Integers, at_s: float) -> Floats:
        """Return the first time >= `at_s` when each of `devices` is online."""
        return self.next_online_each_s(devices, np.full(len(devices), float(at_s)))

    def next_online_each_s(self, devices: Integers, at_s: Floats) -> Floats:
        """Return the first time >= `at_s[i]`, all finite, when `devices[i]` is online."""
        started_s = self._started_s(self.first_s[devices], at_s)
        return np.where(at_s < started_s + self.length_s, at_s, started_s + DAY_S)

    @staticmethod
    def _started_s(first_s: Floats, at_s: Floats) -> Floats:
        """Return the start of the latest window that began at or before `at_s`."""
        started_s = first_s + np.floor((at_s - first_s) / DAY_S) * DAY_S
        # The division is rounded; the starts are exact, so comparing them settles the day.
        started_s = np.where(started_s > at_s, started_s - DAY_S, started_s)
        later: Floats = np.where(started_s + DAY_S <= at_s, started_s + DAY_S, started_s)
        return later


class Batteries:
    """The batteries of a fleet of `num_devices`."""

    def __init__(self, battery: Battery, *, num_devices: int, seed: int) -> None:
        self._capacity_j = battery.capacity_watt_hours * HOUR_S
        self._idle_watts, self._working_watts = battery.idle_watts, battery.working_watts
        self._charging_watts = battery.charging_watts
        self._plugged_s = nearest_tick(battery.plugged_in_for)
        self._minimum = battery.minimum
        self._requires_charging = battery.requires_charging
        self._highest = battery.highest_charge
        lost = self._idle_watts * (DAY_S - self._plugged_s) / self._capacity_j
        self._lowest = max(0.0, self._highest - lost)
        spread_s = battery.plugged_in_spread * stream(seed, "battery").standard_normal(num_devices)
        clipped_s = np.clip(spread_s, -DAY_S / 2, DAY_S / 2)
        self._plugged_at_s = on_grid((battery.plugged_in_at + clipped_s) % DAY_S)

    def charge(self, device: int, at_s: float) -> float:
        """Return the share of a full battery that an idle device has left, in [0, 1]."""
        into_s = (at_s - self._plugged_at_s[device]) % DAY_S
        if into_s < self._plugged_s:
            gained = (self._charging_watts - self._idle_watts) * into_s / self._capacity_j
            return float(min(self._lowest + gained, self._highest))
        return float(max(self._highest - self._idle_watts * (into_s - self._plugged_s) / self._capacity_j, 0.0))

    def gate(self) -> DailyWindow | None:
        """Return when devices have enough charge, and a charger where one is required; None: they always have."""
        rise = (self._charging_watts - self._idle_watts) / self._capacity_j
        opens_s = nearest_tick(min(max(0.0, (self._minimum - self._lowest) / rise), self._plugged_s))
        lasts_s = (self._highest - self._minimum) * self._capacity_j / self._idle_watts
        closes_s = self._plugged_s
        if not self._requires_charging:
            closes_s = nearest_tick(min(self._plugged_s + lasts_s, DAY_S + opens_s))
        # A charge that only touches the minimum does so for a moment.
        length_s = max(closes_s - opens_s, 1 / TICKS_PER_SECOND)
        return None if length_s >= DAY_S else DailyWindow(first_s=self._plugged_at_s + opens_s, length_s=length_s)

    def empty_at_s(
        self, device: int, start_s: float, end_s: float, pauses: Sequence[tuple[float, float]] = ()
    ) -> float:
        """Return when, up to `end_s`, the battery of a device in flight since `start_s` is empty; `inf` for never.

        It draws `working_watts`, and `idle_watts` in `pauses`; the charger adds what it has while plugged in.
        """
        charge_j = self.charge(device, start_s) * self._capacity_j
        edges_s = {edge_s for pause in pauses for edge_s in pause} | set(self._switches_s(device, start_s, end_s))
        moments_s = [start_s, *sorted(edge_s for edge_s in edges_s if start_s < edge_s < end_s), end_s]
        waits = iter(pauses)
        pause = next(waits, (math.inf, math.inf))
        for from_s, to_s in pairwise(moments_s):
            while pause[1] <= from_s:
                pause = next(waits, (math.inf, math.inf))
            watts = self._idle_watts if pause[0] <= from_s else self._working_watts
            if (from_s - self._plugged_at_s[device]) % DAY_S < self._plugged_s:
                watts -= self._charging_watts
            if watts > 0 and charge_j <= watts * (to_s - from_s):
                return min(from_s + charge_j / watts, to_s)
            charge_j = min(charge_j - watts * (to_s - from_s), self._capacity_j)
        return math.inf

    def _switches_s(self, device: int, start_s: float, end_s: float) -> list[float]:
        """Return the moments between two at which a device is plugged in or unplugged."""
        first_s = float(self._plugged_at_s[device])
        days = range(math.floor((start_s - first_s) / DAY_S) - 1, math.ceil((end_s - first_s) / DAY_S) + 1)
        plugged_s = [first_s + day * DAY_S for day in days]
        return plugged_s + [moment_s + self._plugged_s for moment_s in plugged_s]


def build_batteries(battery: Battery | None, *, num_devices: int, seed: int) -> Batteries | None:
    """Return the batteries of a fleet; None where the scenario has none."""
    return None if battery is None else Batteries(battery, num_devices=num_devices, seed=seed)
