"""Available memory that changes in steps, the same length for every device: drawn anew, or a random walk.

Step k of a device is a pure function of its number, so any moment can be looked up by itself. Devices change at
moments of their own: device d is ahead of time 0 by a drawn part of a step, one of 32. All moments lie on the grid of
`intervals`, so that the one at which a lookup says that memory falls is the one at which another sees it fall.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from neulite_sim.arrays import Floats, Integers
from neulite_sim.population.memory.contract import FleetMemory
from neulite_sim.population.memory.distributions import draw_memory, varies
from neulite_sim.registry import Choice
from neulite_sim.seeding import stream, words
from neulite_sim.traces.intervals import nearest_tick

PARTS = 32
"""Into how many parts a step is cut; each device changes at the beginning of one of them."""
MOST_STEPS = 100_000
"""How far ahead a lookup searches: ten weeks in steps of a minute."""
DEVICES_PER_BLOCK = 1024
CACHE_BYTES = 16 * 2**20
_SHORTEST_CORRELATION = 1e-6
_FIRST_LOOK, _LONGEST_LOOK = 16, 4096


class StepSource(Protocol):
    """What memory is in each step."""

    def bytes_at(self, devices: Integers, steps: Integers) -> Integers:
        """Return the available bytes of each of `devices` in the step beside it, from 0 up; in any order."""
        ...


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

        `inf` where there is none. The search goes step by step, as far as `until_s` and 100 000 steps at most.
        """
        ahead = int(self._ahead[device])
        now = (self._part(at_s) + ahead) // PARTS
        last = now + MOST_STEPS
        if until_s < math.inf:
            last = min(last, (self._part(until_s) + ahead) // PARTS)
        first, length = now, _FIRST_LOOK
        while first <= last:
            steps = np.arange(first, min(first + length, last + 1))
            short = self._source.bytes_at(np.full(len(steps), device), steps) < needed_bytes
            if short.any():
                found = int(steps[np.argmax(short)])
                return at_s if found == now else (found * PARTS - ahead) * self._part_s
            first, length = first + length, min(2 * length, _LONGEST_LOOK)
        return math.inf

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

    def next_change_s(self, at_s: float) -> float:
        """Return `inf`: time alone changes nothing."""
        return math.inf


class Redraws:
    """Each step is a draw from the distribution that the nominal memory was drawn from; step 0 is the nominal one.

    Devices are drawn in blocks of 1024 of one distribution, so that one device does not cost the draws of a million.
    Where every draw is the same (`explicit`, `installed`), devices keep their nominal memory.
    """

    def __init__(self, memory: FleetMemory, *, seed: int) -> None:
        self._memory = memory
        self._seed = seed
        self._members: list[tuple[Choice, Integers]] = []
        self._block = np.zeros(memory.num_devices, np.int32)
        self._place = np.zeros(memory.num_devices, np.int16)
        for index, chosen in enumerate(memory.choices):
            members = np.flatnonzero(memory.choice_index == index)
            for first in range(0, len(members), DEVICES_PER_BLOCK):
                block = members[first : first + DEVICES_PER_BLOCK]
                self._block[block], self._place[block] = len(self._members), np.arange(len(block))
                self._members.append((chosen, block))
        self._cache: OrderedDict[tuple[int, int], Integers] = OrderedDict()

    def bytes_at(self, devices: Integers, steps: Integers) -> Integers:
        """Return the available bytes of each of `devices` in the step beside it."""
        found = self._memory.nominal_bytes[devices]
        later = np.flatnonzero(steps > 0)
        key = steps[later] * len(self._members) + self._block[devices[later]]
        order = np.argsort(key, kind="stable")
        cuts = np.flatnonzero(np.diff(key[order])) + 1
        for part in np.split(order, cuts) if len(order) else ():
            step, block = divmod(int(key[part[0]]), len(self._members))
            found[later[part]] = self._draw(step, block)[self._place[devices[later[part]]]]
        return found

    def _draw(self, step: int, block: int) -> Integers:
        at = step, block
        if at not in self._cache:
            chosen, members = self._members[block]
            if not varies(chosen):
                return self._memory.nominal_bytes[members]
            self._cache[at], _ = draw_memory(
                chosen,
                installed_memory_bytes=self._memory.installed_bytes[members],
                usable_memory_bytes=self._memory.usable_bytes[members],
                rng=stream(self._seed, "memory-redrawn", step, block),
            )
            while len(self._cache) > CACHE_BYTES // (8 * DEVICES_PER_BLOCK):
                self._cache.popitem(last=False)
        return self._cache[at]


class Walk:
    """Nominal memory times exp(x), x a mean-reverting random walk: x(k + 1) = (1 - reversion) x(k) + step * z(k).

    The walk is stationary from time 0 on; the median of memory is the nominal one. It is made by halving: every 2^m
    steps x is drawn from its stationary law, and half-way between two known values it is their weighted sum plus an
    innovation (the conditional law of an autoregressive process of order one given both ends), so that any step costs
    m + 2 numbers and none of those before. 2^m is where the correlation over that many steps has fallen to 1e-6,
    which is taken for 0. Innovations are sums of four uniform numbers: their deviation is exact and no step is ever
    further than 3.5 of them, and they are the same on every machine. With reversion 1 every step stands by itself.
    """

    def __init__(self, memory: FleetMemory, *, step: float, reversion: float, seed: int) -> None:
        self._nominal_bytes, self._cap_bytes = memory.nominal_bytes, memory.cap_bytes
        self._seed = seed
        kept = 1.0 - reversion
        self._deviation = step / math.sqrt(1.0 - kept**2)
        reach = 1.0 if kept == 0 else math.log(_SHORTEST_CORRELATION) / math.log(kept)
        self._levels = max(0, math.ceil(math.log2(max(reach, 1.0))))
        # Weight of either end, and deviation of what is added, half-way between values 2h steps apart.
        halves = [2**level for level in reversed(range(self._levels))]
        self._halvings = [
            (
                half,
                kept**half / (1.0 + kept ** (2 * half)),
                self._deviation * math.sqrt((1.0 - kept ** (2 * half)) / (1.0 + kept ** (2 * half))),
            )
            for half in halves
        ]

    def bytes_at(self, devices: Integers, steps: Integers) -> Integers:
        """Return the available bytes of each of `devices` in the step beside it."""
        factor = np.exp(self.log_share(devices, steps))
        moved = np.rint(np.minimum(self._nominal_bytes[devices] * factor, 2.0**60)).astype(np.int64)
        return np.minimum(moved, self._cap_bytes[devices])

    def log_share(self, devices: Integers, steps: Integers) -> Floats:
        """Return x, the logarithm of the share of nominal memory before any cap, of each device in its step."""
        low = (steps >> self._levels) << self._levels
        left = self._deviation * self._innovation(devices, low)
        right = self._deviation * self._innovation(devices, low + (1 << self._levels))
        for half, weight, deviation in self._halvings:
            middle = low + half
            between = weight * (left + right) + deviation * self._innovation(devices, middle)
            is_before = steps < middle
            left, right = np.where(is_before, left, between), np.where(is_before, between, right)
            low = np.where(is_before, low, middle)
        return left

    def _innovation(self, devices: Integers, steps: Integers) -> Floats:
        """Return numbers of mean 0 and variance 1: the sum of the four 16-bit parts of a word, scaled."""
        return standard(words(self._seed, "memory-walk", devices, steps))


def standard(bits: NDArray[np.uint64]) -> Floats:
    """Return numbers of mean 0 and variance 1, nearly normal (Irwin-Hall): the scaled sum of four 16-bit numbers."""
    total = np.zeros(bits.shape, np.uint64)
    for shift in (0, 16, 32, 48):
        total = total + ((bits >> np.uint64(shift)) & np.uint64(0xFFFF))
    # Each part is uniform on 0 to n - 1, n = 2^16: mean (n - 1) / 2, variance (n^2 - 1) / 12.
    return (total.astype(np.float64) - 2.0 * (2**16 - 1)) / math.sqrt((2.0**32 - 1.0) / 3.0)
