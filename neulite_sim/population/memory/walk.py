"""Available memory as a random walk, looked up at any step, and searched for the first step that crosses a bound."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from neulite_sim.arrays import Flags, Floats, Integers
from neulite_sim.population.memory.contract import FleetMemory
from neulite_sim.population.memory.searching import FIRST_LOOK, Wanted, earliest, scanned
from neulite_sim.seeding import words

_SHORTEST_CORRELATION = 1e-6
_MOST_BYTES = 2.0**60
_FURTHEST = 2.0 * (2**16 - 1) / math.sqrt((2.0**32 - 1.0) / 3.0) + 1e-6
"""No innovation lies further from 0, about 3.46."""
_MARGIN = 1e-9
"""By so much bounds of logarithms are wider than they need be, far more than they are rounded."""


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
        self._depths = _depths(self._halvings)

    def bytes_at(self, devices: Integers, steps: Integers) -> Integers:
        """Return the available bytes of each of `devices` in the step beside it."""
        return self._bytes(devices, self.log_share(devices, steps))

    def _bytes(self, devices: Integers, log_share: Floats) -> Integers:
        factor = np.exp(log_share)
        moved = np.rint(np.minimum(self._nominal_bytes[devices] * factor, _MOST_BYTES)).astype(np.int64)
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

    def is_possible(self, wanted: Wanted) -> Flags:
        """Return False for those of whom it is never so, because no innovation lies far enough from 0."""
        slack, _ = self._depths[0]
        return -_FURTHEST * self._deviation - slack <= self._bounds(wanted)

    def first_steps(self, wanted: Wanted, first: Integers, last: Integers) -> Integers:
        """Return the first step of each from `first` to `last` in which it is so; `NEVER` where there is none.

        Stretches of steps are halved as in `log_share`, all at once, but those left out within which no innovation
        reaches far enough from the values at both ends.
        """
        if len(wanted) == 1 and last[0] - first[0] < FIRST_LOOK:
            return scanned(self, wanted, first, last)
        bounds, sign = self._bounds(wanted), 1.0 if wanted.is_short else -1.0
        begin = first >> self._levels
        lengths = (last >> self._levels) - begin + 1
        row: Integers = np.repeat(np.arange(len(wanted)), lengths)
        low: Integers = (np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths - begin, lengths)) << self._levels
        left = self._deviation * self._innovation(wanted.devices[row], low)
        right = self._deviation * self._innovation(wanted.devices[row], low + (1 << self._levels))
        for (half, weight, deviation), (slack, share) in zip(self._halvings, self._depths, strict=False):
            nearest = np.minimum(sign * left, sign * right)
            nearest = np.where(nearest > 0, share * nearest, nearest) - slack
            near = np.flatnonzero(nearest <= bounds[row])
            row, low, left, right = row[near], low[near], left[near], right[near]
            between = weight * (left + right) + deviation * self._innovation(wanted.devices[row], low + half)
            row, low = np.concatenate([row, row]), np.concatenate([low, low + half])
            left, right = np.concatenate([left, between]), np.concatenate([between, right])
            asked = np.flatnonzero((low <= last[row]) & (low + half > first[row]))
            row, low, left, right = row[asked], low[asked], left[asked], right[asked]
        many = wanted.taken(row)
        return earliest(row, low, many.is_met(self._bytes(many.devices, left)), count=len(wanted))

    def _bounds(self, wanted: Wanted) -> Floats:
        """Return what x must not lie above, or, where enough is wanted, what -x must not: a little too high."""
        nominal_bytes, needed_bytes = self._nominal_bytes[wanted.devices], wanted.needed_bytes
        most_bytes = np.minimum(self._cap_bytes[wanted.devices], _MOST_BYTES)
        with np.errstate(divide="ignore", invalid="ignore"):
            # What is rounded up to as many bytes is enough.
            share = (needed_bytes if wanted.is_short else needed_bytes - 0.5) / nominal_bytes
            bounds = np.log(share) + _MARGIN if wanted.is_short else -np.log(share) + _MARGIN
        always, never = (math.inf, -math.inf) if wanted.is_short else (-math.inf, math.inf)
        return np.where(needed_bytes > most_bytes, always, np.where(needed_bytes <= 0, never, bounds))

    def _innovation(self, devices: Integers, steps: Integers) -> Floats:
        """Return numbers of mean 0 and variance 1: the sum of the four 16-bit parts of a word, scaled."""
        return standard(words(self._seed, "memory-walk", devices, steps))


def _depths(halvings: list[tuple[int, float, float]]) -> list[tuple[float, float]]:
    """Return how far what lies within a stretch may be below both its ends, before each halving and after all.

    With s and c it is above min(ends) - s, or c min(ends) - s where both ends are above 0.
    """
    found = [(0.0, 1.0)]
    for _, weight, deviation in reversed(halvings):
        slack, share = found[-1]
        found.append((slack + _FURTHEST * deviation, 2.0 * weight * share))
    return found[::-1]


def standard(bits: NDArray[np.uint64]) -> Floats:
    """Return numbers of mean 0 and variance 1, nearly normal (Irwin-Hall): the scaled sum of four 16-bit numbers."""
    total = np.zeros(bits.shape, np.uint64)
    for shift in (0, 16, 32, 48):
        total = total + ((bits >> np.uint64(shift)) & np.uint64(0xFFFF))
    # Each part is uniform on 0 to n - 1, n = 2^16: mean (n - 1) / 2, variance (n^2 - 1) / 12.
    return (total.astype(np.float64) - 2.0 * (2**16 - 1)) / math.sqrt((2.0**32 - 1.0) / 3.0)
