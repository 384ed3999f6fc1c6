"""Devices that come online once a day, for example while they charge at night.

Virtual time 0 is midnight of the fleet's middle time zone. On day w a device of phase p (its usual clock time) is
online from `24 h * w + p + jitter` for a drawn length; windows that meet are joined. Start and length are drawn per
device and day from the day's own stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neulite_sim.arrays import Floats
from neulite_sim.seeding import stream
from neulite_sim.traces.intervals import Intervals, merged, on_grid, stacked
from neulite_sim.units import DAY_S

DEVICES_PER_BLOCK = 2**16

# A window starts within half a day of its phase and lasts at most a day: these days can reach into day 0.
_REACHING_DAYS = (-2, -1, 0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Means and standard deviations of the daily window, in seconds; `probability` of having one at all."""

    start_s: float
    start_spread_s: float
    length_s: float
    length_spread_s: float
    time_zone_span_s: float
    probability: float


class DiurnalSource:
    """Chunks of one day for `num_devices` devices."""

    length_s = DAY_S
    look_ahead = 1000

    def __init__(self, window: Window, *, num_devices: int, seed: int) -> None:
        self._window = window
        self._num_devices = num_devices
        self._seed = seed
        zones = stream(seed, "availability-time-zone").uniform(-0.5, 0.5, num_devices)
        self._phase_s = (window.start_s + window.time_zone_span_s * zones) % DAY_S

    def chunk(self, index: int) -> Intervals:
        """Return when each device is online on day `index`, in seconds since its midnight."""
        return stacked(self._parts(index))

    def _parts(self, index: int) -> Iterator[Intervals]:
        """Yield the intervals of block after block."""
        # Stream keys count from 0, and day 0 is reached by two days before it.
        streams = [stream(self._seed, "availability", index + day - _REACHING_DAYS[0]) for day in _REACHING_DAYS]
        for first in range(0, self._num_devices, DEVICES_PER_BLOCK):
            phase_s = self._phase_s[first : first + DEVICES_PER_BLOCK]
            start_s, end_s = np.empty((2, len(phase_s), len(_REACHING_DAYS)))
            for column, (day, rng) in enumerate(zip(_REACHING_DAYS, streams, strict=True)):
                jitter_s, length_s = self._draw(rng, len(phase_s))
                start_s[:, column] = on_grid(day * DAY_S + phase_s + jitter_s)
                end_s[:, column] = start_s[:, column] + length_s
            # The running maximum lets a long window cover a short one that starts inside it.
            np.maximum.accumulate(end_s, axis=1, out=end_s)
            rows = np.repeat(np.arange(len(phase_s)), len(_REACHING_DAYS))
            cut = np.clip(start_s.ravel(), 0.0, DAY_S), np.clip(end_s.ravel(), 0.0, DAY_S)
            yield merged(rows, *cut, num_rows=len(phase_s))

    def _draw(self, rng: np.random.Generator, num_devices: int) -> tuple[Floats, Floats]:
        """Return jitter within half a day and length within a day; a length of 0 is a day without a window."""
        window = self._window
        jitter_s = np.clip(window.start_spread_s * rng.standard_normal(num_devices), -DAY_S / 2, DAY_S / 2)
        length_s = window.length_s + window.length_spread_s * rng.standard_normal(num_devices)
        kept = rng.random(num_devices) < window.probability
        return jitter_s, np.where(kept, on_grid(np.clip(length_s, 0.0, DAY_S)), 0.0)
