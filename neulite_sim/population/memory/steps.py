"""Available memory that changes in steps, the same length for every device: drawn anew, or a random walk.

Step k of a device is a pure function of its number, so any moment can be looked up by itself. Devices change at
moments of their own: device d is ahead of time 0 by a drawn part of a step, one of 32. All moments lie on the grid of
`intervals`, so that the one at which a lookup says that memory falls is the one at which another sees it fall.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from neulite_sim.arrays import Floats, Integers
from neulite_sim.population.memory.redraws import DEVICES_PER_BLOCK, Redraws
from neulite_sim.population.memory.searching import NEVER, StepSource, Wanted, first_steps
from neulite_sim.population.memory.walk import Walk, standard
from neulite_sim.seeding import stream
from neulite_sim.traces.intervals import nearest_tick

PARTS = 32
"""Into how many parts a step is cut; each device changes at the beginning of one of them."""
MOST_STEPS = 100_000
"""How far ahead a lookup searches that is given no end."""
_LAST_STEP = 2**56
__all__ = ["DEVICES_PER_BLOCK", "PARTS", "Redraws", "RoundMemory", "StepSource", "SteppedMemory", "Walk", "standard"]


class SteppedMemory:
    """The lookups of `table.MemoryMotion` over a source of steps."""

    def __init__(self, source: StepSource, *, num_devices: int, every_s: float, seed: int) -> None:
        self._source = source
        self._part_s = max(nearest_tick(every_s / PARTS), nearest_tick(2.0**-20))
        self._ahead: NDArray[np.int8] = stream(seed, "memory-motion-phase").integers(0, PARTS, num_devices, np.int8)
        self._latest: tuple[int, Integers] | None = None

    def available_bytes(self, at_s: float, round_number: int) -> Integers:
        """Return the available memory of every device at virtual time `at_s`; the round does not matter.

        Raises:
            ValueError: `at_s` is negative or not finite.
        """
        part = self._part(at_s)
        if self._latest is None or self._latest[0] != part:
            devices = np.arange(len(self._ahead))
            found = self._source.bytes_at(devices, (part + self._ahead.astype(np.int64)) // PARTS)
            found.flags.writeable = False
            self._latest = part, found
        return self._latest[1]

    def available_bytes_of(self, devices: Integers, at_s: float, round_number: int) -> Integers:
        """Return the same for some devices, without the work for the others."""
        steps = (self._part(at_s) + self._ahead[devices].astype(np.int64)) // PARTS
        return self._source.bytes_at(np.asarray(devices, np.int64), steps)

    def short_from_s(self, device: int, needed_bytes: int, at_s: float, until_s: float) -> float:
        """Return the first moment from `at_s` to `until_s` at which a device has less than `needed_bytes`.

        `inf` where there is none. With `until_s` infinite the search goes over 100 000 steps.
        """
        wanted = Wanted(devices=np.array([device]), needed_bytes=np.array([needed_bytes]), is_short=True)
        return float(self._first_s(wanted, np.array([at_s]), until_s)[0])

    def enough_from_s(self, devices: Integers, needed_bytes: Integers, at_s: Floats, until_s: float) -> Floats:
        """Return the first moment of each device from its `at_s` to `until_s` at which it has `needed_bytes`.

        `inf` where there is none, as above.
        """
        return self._first_s(Wanted(devices=devices, needed_bytes=needed_bytes, is_short=False), at_s, until_s)

    def _first_s(self, wanted: Wanted, at_s: Floats, until_s: float) -> Floats:
        """Return when it is so first of each device, from its `at_s` on."""
        ahead = self._ahead[wanted.devices].astype(np.int64)
        now = (np.array([self._part(moment_s) for moment_s in at_s.tolist()], np.int64) + ahead) // PARTS
        last = now + MOST_STEPS
        if until_s < math.inf:
            last = np.minimum((self._part(until_s) + ahead) // PARTS, _LAST_STEP)
        found = first_steps(self._source, wanted, now, last)
        begins_s = np.where(found == now, at_s, (found * PARTS - ahead) * self._part_s)
        return np.where(found == NEVER, math.inf, begins_s)

    def next_change_s(self, at_s: float) -> float:
        """Return the end of the part of a step that holds `at_s`: nobody's memory changes before."""
        return (self._part(at_s) + 1) * self._part_s

    def _part(self, at_s: float) -> int:
        if not 0 <= at_s < math.inf:
            raise ValueError(f"virtual time {at_s} s is outside [0, inf); available memory is known from 0 on")
        return int(at_s // self._part_s)


class RoundMemory:
    """Memory drawn anew for every round: a flight keeps what its device had at dispatch."""

    def __init__(self, source: StepSource, *, num_devices: int) -> None:
        self._source = source
        self._num_devices = num_devices
        self._latest: tuple[int, Integers] | None = None

    def available_bytes(self, at_s: float, round_number: int) -> Integers:
        """Return the available memory of every device in a round, whatever the time."""
        if self._latest is None or self._latest[0] != round_number:
            found = self.available_bytes_of(np.arange(self._num_devices), at_s, round_number)
            found.flags.writeable = False
            self._latest = round_number, found
        return self._latest[1]

    def available_bytes_of(self, devices: Integers, at_s: float, round_number: int) -> Integers:
        """Return the same for some devices; rounds count from 1, steps from 0."""
        return self._source.bytes_at(devices, np.full(len(devices), max(round_number - 1, 0)))

    def short_from_s(self, device: int, needed_bytes: int, at_s: float, until_s: float) -> float:
        """Return `inf`: memory does not change during a flight."""
        return math.inf

    def enough_from_s(self, devices: Integers, needed_bytes: Integers, at_s: Floats, until_s: float) -> Floats:
        """Return `inf` of each that needs any: memory does not change while a round is waited for."""
        return np.where(needed_bytes > 0, math.inf, at_s)

    def next_change_s(self, at_s: float) -> float:
        """Return `inf`: time alone changes nothing."""
        return math.inf
