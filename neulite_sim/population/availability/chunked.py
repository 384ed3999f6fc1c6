"""Availability that is generated chunk by chunk of virtual time, as far as questions reach.

A chunk is a pure function of its number, so the answers do not depend on which were asked before; only the time they
take does. Chunks are kept in a small cache and made again when they are needed again.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Protocol

import numpy as np

from neulite_sim.arrays import Flags, Floats, Integers
from neulite_sim.population.availability.presence import Presence
from neulite_sim.traces.intervals import Intervals

CACHE_BYTES = 32 * 2**20
CACHE_CHUNKS = 3
STRETCHES_PER_CHUNK = 256
"""Changes of state are put in order a stretch at a time: few enough to sort, enough for many questions."""


class ChunkSource(Protocol):
    """Where chunks come from. `ChunkedAvailability` calls `chunk` with any number from 0 up, in any order.

    `length_s` is the length of a chunk, on the grid; after `look_ahead` further chunks without a change of state a
    device is taken never to change again.
    """

    length_s: float
    look_ahead: int

    def chunk(self, index: int) -> Intervals:
        """Return when each row is online in chunk `index`, in seconds since its start, cut to `[0, length_s]`."""
        ...


class ChunkedAvailability:
    """The lookups of `table.Availability` over a source of chunks.

    Device d is row d of the source, or `row_of_device[d]` where several devices share a row. `notes` say what a user
    should know of the source.
    """

    def __init__(
        self,
        source: ChunkSource,
        *,
        num_devices: int,
        row_of_device: Integers | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.notes = notes
        self._source = source
        self._num_devices = num_devices
        self._row_of_device = row_of_device
        self._cache: OrderedDict[int, Intervals] = OrderedDict()
        self._presence: tuple[int, Presence] | None = None

    def online(self, at_s: float) -> Flags:
        """Return for every device whether it is online at virtual time `at_s`.

        Raises:
            ValueError: `at_s` is negative or not finite.
        """
        index, since_s = self._locate(at_s)
        if self._presence is None or self._presence[0] != index:
            stretch_s = self._source.length_s / STRETCHES_PER_CHUNK
            self._presence = index, Presence(self._chunk(index), stretch_s=stretch_s)
        online = self._presence[1].online(since_s)
        return online if self._row_of_device is None else online[self._row_of_device]

    def online_until_s(self, devices: Integers, at_s: float, horizon_s: float = math.inf) -> Floats:
        """Return when each of `devices` goes offline next (`inf`: never); `at_s` for one that is offline now.

        What lies at or after `horizon_s` is not looked for, and no chunk made for it: the answer is then the start of
        a chunk from there on.

        Raises:
            ValueError: `at_s` is negative or not finite.
        """
        index, since_s = self._locate(at_s)
        rows, length_s = self._rows(devices), self._source.length_s
        until_s = np.full(len(rows), at_s, np.float64)
        chunk = self._chunk(index)
        found, inside = self._find(chunk, rows, since_s)
        end_s = chunk.end_s[found[inside]]
        until_s[inside] = index * length_s + end_s
        pending = np.flatnonzero(inside)[end_s >= length_s]
        for ahead in range(index + 1, index + 1 + self._source.look_ahead):
            if not len(pending) or ahead * length_s >= horizon_s:
                return until_s
            chunk = self._chunk(ahead)
            found, inside = self._find(chunk, rows[pending], 0.0)
            pending = pending[inside]
            end_s = chunk.end_s[found[inside]]
            until_s[pending] = ahead * length_s + end_s
            pending = pending[end_s >= length_s]
        until_s[pending] = math.inf
        return until_s

    def next_online_s(self, devices: Integers, at_s: float) -> Floats:
        """Return the first time >= `at_s` when each of `devices` is online; `inf` where that never happens.

        Raises:
            ValueError: `at_s` is negative or not finite.
        """
        index, since_s = self._locate(at_s)
        return self._next_online_s(self._rows(devices), index, since_s, at_s)

    def next_online_each_s(self, devices: Integers, at_s: Floats) -> Floats:
        """Return the first time >= `at_s[i]` when `devices[i]` is online; `inf` where that never happens.

        Every moment is finite and not negative.
        """
        rows, length_s = self._rows(devices), self._source.length_s
        indices = (at_s // length_s).astype(np.int64)
        next_s = np.empty(len(rows))
        for index in np.unique(indices):
            members = np.flatnonzero(indices == index)
            moments_s = at_s[members]
            next_s[members] = self._next_online_s(rows[members], int(index), moments_s - index * length_s, moments_s)
        return next_s

    def _next_online_s(self, rows: Integers, index: int, since_s: float | Floats, at_s: float | Floats) -> Floats:
        """Return when rows are online next, each from `since_s` into chunk `index` on, which is at `at_s`."""
        length_s = self._source.length_s
        chunk = self._chunk(index)
        found, inside = self._find(chunk, rows, since_s)
        next_s = np.full(len(rows), at_s, np.float64)
        pending, following = np.flatnonzero(~inside), found[~inside] + 1
        for ahead in range(index + 1, index + 2 + self._source.look_ahead):
            has = following < chunk.offsets[rows[pending] + 1]
            next_s[pending[has]] = (ahead - 1) * length_s + chunk.start_s[following[has]]
            pending = pending[~has]
            if not len(pending):
                return next_s
            chunk = self._chunk(ahead)
            following = chunk.offsets[rows[pending]]
        next_s[pending] = math.inf
        return next_s

    def _rows(self, devices: Integers) -> Integers:
        return devices if self._row_of_device is None else self._row_of_device[devices]

    def _locate(self, at_s: float) -> tuple[int, float]:
        """Return the chunk that holds `at_s` and the seconds since its start; both exact on the grid."""
        if not 0 <= at_s < math.inf:
            raise ValueError(f"virtual time {at_s} s is outside [0, inf); availability begins at 0")
        length_s = self._source.length_s
        index = int(at_s // length_s)
        return index, at_s - index * length_s

    @staticmethod
    def _find(chunk: Intervals, rows: Integers, since_s: float | Floats) -> tuple[Integers, Flags]:
        """Return the last interval that has started, and whether `since_s`, for all or for each, lies inside it."""
        found = chunk.last_started(rows, since_s)
        inside = found >= chunk.offsets[rows]
        inside[inside] = np.broadcast_to(since_s, inside.shape)[inside] < chunk.end_s[found[inside]]
        return found, inside

    def _chunk(self, index: int) -> Intervals:
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        chunk = self._cache[index] = self._source.chunk(index)
        while len(self._cache) > max(CACHE_CHUNKS, CACHE_BYTES // max(1, chunk.num_bytes)):
            self._cache.popitem(last=False)
        return chunk
