"""When the memory of a flight falls below its peak, looked for only as far as the flight gets."""

from __future__ import annotations

import math

from neulite_sim.population.memory.contract import MemoryMotion


class MemoryWatch:
    """Looks at the memory of a flight's device from its dispatch on; what has been looked at is not looked at again."""

    def __init__(self, motion: MemoryMotion, device: int, *, peak_bytes: int, dispatched_s: float) -> None:
        self._motion = motion
        self._device = device
        self._peak_bytes = peak_bytes
        self._seen_until_s = dispatched_s
        self._short_at_s = math.inf

    def short_by(self, until_s: float) -> float:
        """Return the first moment up to `until_s` at which the device has less than the peak; `inf` where it has not.

        Where that is asked for a later moment than before, the search goes on from there.
        """
        if self._short_at_s == math.inf and until_s >= self._seen_until_s:
            self._short_at_s = self._motion.short_from_s(self._device, self._peak_bytes, self._seen_until_s, until_s)
            self._seen_until_s = until_s
        return self._short_at_s if self._short_at_s <= until_s else math.inf
