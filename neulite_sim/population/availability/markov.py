"""Devices with exponential times online and offline: a stationary two-state Markov chain in continuous time.

The state with the shorter mean duration (the *visit*) is laid over the other by marks: a Poisson process whose rate
is one over the longer mean, and for each mark an exponential duration of the shorter mean, cut off by the next mark.
Because both are memoryless, the union of these visits is exactly the chain (a mark during a visit only draws the rest
of it anew), and the state at any time depends on the last mark alone. So any stretch of time can be made without
the ones before it, save for a look back to the last mark. At time 0 a device is in a visit with the stationary
probability, shorter / (shorter + longer), for an exponential rest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neulite_sim.ahead import made_ahead
from neulite_sim.arrays import Floats, Integers
from neulite_sim.seeding import stream
from neulite_sim.traces.intervals import Intervals, above_on_grid, merged, nearest_tick, on_grid, stacked

MARKS_PER_CHUNK = 4.0
DEVICES_PER_BLOCK = 2**16
_KEPT_RESTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Marks:
    """The marks of a block of devices in one chunk, each device led by a placeholder at 0 for the visit under way."""

    first: int
    head: Integers
    """Index of each device's placeholder."""
    tail: Integers
    """Index of each device's last mark; the placeholder itself where there is no mark."""
    rows: Integers
    start_s: Floats
    duration_s: Floats


class MarkovSource:
    """Chunks of the chain for `num_devices` devices; a chunk is four mean durations of the longer state."""

    look_ahead = 1000

    def __init__(self, *, mean_on_s: float, mean_off_s: float, num_devices: int, seed: int) -> None:
        self._shorter_s, self._longer_s = sorted((mean_on_s, mean_off_s))
        self._visits_are_online = mean_on_s <= mean_off_s
        self._num_devices = num_devices
        self._seed = seed
        self.length_s = nearest_tick(MARKS_PER_CHUNK * self._longer_s)
        # How long the visit under way at a chunk's start still lasts; kept for the latest chunks only.
        self._rests: OrderedDict[int, Floats] = OrderedDict()

    def chunk(self, index: int) -> Intervals:
        """Return when each device is online in chunk `index`, in seconds since its start."""
        rest_s = self._rest_s(index)
        rest_after_s = np.empty_like(rest_s)
        chunk = stacked(self._parts(index, rest_s, rest_after_s))
        self._keep(index + 1, rest_after_s)
        return chunk

    def _parts(self, index: int, rest_s: Floats, rest_after_s: Floats) -> Iterator[Intervals]:
        """Yield the intervals of block after block, and fill in how long visits last beyond the end of the chunk."""
        for marks in made_ahead(self._marks(index)):
            block = slice(marks.first, marks.first + len(marks.head))
            marks.duration_s[marks.head] = rest_s[block]
            end_s = marks.start_s + marks.duration_s
            rest_after_s[block] = np.maximum(end_s[marks.tail] - self.length_s, 0.0)
            next_s = np.empty_like(end_s)
            next_s[:-1] = marks.start_s[1:]
            next_s[marks.tail] = self.length_s
            np.minimum(end_s, next_s, out=end_s)
            online = (marks.start_s, end_s) if self._visits_are_online else (end_s, next_s)
            yield merged(marks.rows, *online, num_rows=len(marks.head))

    def _marks(self, index: int) -> Iterator[_Marks]:
        """Yield the marks of chunk `index`, block after block from the chunk's own stream."""
        rng = stream(self._seed, "availability", index)
        for first in range(0, self._num_devices, DEVICES_PER_BLOCK):
            num_devices = min(DEVICES_PER_BLOCK, self._num_devices - first)
            counts = rng.poisson(self.length_s / self._longer_s, num_devices)
            tail = np.cumsum(counts + 1) - 1
            head = tail - counts
            rows = np.repeat(np.arange(num_devices), counts + 1)
            # n ordered uniform times are the first n of n + 1 summed exponentials, divided by the whole sum.
            sums = np.zeros(tail[-1] + 2)
            np.cumsum(rng.standard_exponential(tail[-1] + 1), out=sums[1:])
            base, whole = sums[head], sums[tail + 1] - sums[head]
            start_s = sums[:-1] - base[rows]
            start_s *= (self.length_s / whole)[rows]
            yield _Marks(
                first=first,
                head=head,
                tail=tail,
                rows=rows,
                start_s=np.minimum(on_grid(start_s), self.length_s),
                duration_s=above_on_grid(rng.standard_exponential(tail[-1] + 1) * self._shorter_s),
            )

    def _rest_s(self, index: int) -> Floats:
        """Return how long each device's visit under way at the start of chunk `index` still lasts; 0 where none is."""
        if index in self._rests:
            return self._rests[index]
        rest_s = np.empty(self._num_devices)
        unknown = np.ones(self._num_devices, np.bool_)
        for earlier in range(index - 1, -1, -1):
            since_s = (index - earlier) * self.length_s
            for marks in self._marks(earlier):
                devices = np.flatnonzero(
                    unknown[marks.first : marks.first + len(marks.head)] & (marks.tail > marks.head)
                )
                last = marks.tail[devices]
                rest_s[marks.first + devices] = marks.start_s[last] + marks.duration_s[last] - since_s
                unknown[marks.first + devices] = False
            if not unknown.any():
                break
        if unknown.any():
            rest_s[unknown] = self._first_rest_s()[unknown] - index * self.length_s
        np.maximum(rest_s, 0.0, out=rest_s)
        self._keep(index, rest_s)
        return rest_s

    def _first_rest_s(self) -> Floats:
        rng = stream(self._seed, "availability-start")
        visiting = rng.random(self._num_devices) < self._shorter_s / (self._shorter_s + self._longer_s)
        rest_s = above_on_grid(rng.standard_exponential(self._num_devices) * self._shorter_s)
        return np.where(visiting, rest_s, 0.0)

    def _keep(self, index: int, rest_s: Floats) -> None:
        self._rests[index] = rest_s
        while len(self._rests) > _KEPT_RESTS:
            self._rests.popitem(last=False)
