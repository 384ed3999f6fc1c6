"""Availability that is generated chunk by chunk of virtual time, as far as questions reach.

A chunk is a pure function of its number, so the answers do not depend on which were asked before; only the time they
take does. Chunks are kept in a small cache and made again when they are needed again.
"""

from __future__ import annotations

import bisect
import math
from collections import OrderedDict
from typing import Protocol

import numpy as np

from neulite_sim.arrays import Flags, Floats, Integers
from neulite_sim.population.availability.contract import Stretch
from neulite_sim.population.availability.presence import Presence
from neulite_sim.traces.intervals import TICKS_PER_SECOND, Intervals

CACHE_BYTES = 32 * 2**20
CACHE_CHUNKS = 3
STRETCHES_PER_CHUNK = 32
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


class Grouped:
    """The devices of each row, where several devices share one; `row_of_device[d]` is the row of device d."""

    def __init__(self, row_of_device: Integers) -> None:
        self._order = np.argsort(row_of_device, kind="stable")
        self._offsets = np.concatenate([[0], np.cumsum(np.bincount(row_of_device))])

    def members(self, rows: Integers) -> tuple[Integers, Integers]:
        """Return the devices of each of `rows`, one row after the other, and the place in `rows` that each is from."""
        # A trace may have rows beyond those of any device.
        first, after = (self._offsets[np.minimum(rows + more, len(self._offsets) - 1)] for more in (0, 1))
        counts = after - first
        places = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self._order[first[places] + within], places


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
        # Whole ticks: the moments at which stretches begin are exact then, as those of chunks are.
        self._stretch_s = math.ceil(source.length_s * TICKS_PER_SECOND / STRETCHES_PER_CHUNK) / TICKS_PER_SECOND
        self._presence: tuple[int, Presence] | None = None
        self._devices_of: Grouped | None = None

    def online(self, at_s: float) -> Flags:
        """Return for every device whether it is online at virtual time `at_s`.

        Raises:
            ValueError: `at_s` is negative or not finite.
        """
        index, since_s = self._locate(at_s)
        online = self._present(index).online(since_s)
        return online if self._row_of_device is None else online[self._row_of_device]

    def stretch(self, at_s: float) -> Stretch:
        """Return all changes of a stretch of time that holds `at_s`, within its chunk.

        Raises:
            ValueError: `at_s` is negative or not finite.
        """
        index, since_s = self._locate(at_s)
        notes, length_s = self._present(index).notes(since_s), self._source.length_s
        # Whoever is online until the chunk ends may stay so: the next chunk knows.
        inside = slice(int(np.searchsorted(notes.moments_s, length_s)))
        moments_s, rows, comes = notes.moments_s[inside], notes.rows[inside], notes.comes[inside]
        if notes.begins_s == 0 and index:
            changed, online = self._changed_between(index)
            moments_s = np.concatenate([np.zeros(len(changed)), moments_s])
            rows, comes = np.concatenate([changed, rows]), np.concatenate([online, comes])
        if self._row_of_device is not None:
            if self._devices_of is None:
                self._devices_of = Grouped(self._row_of_device)
            devices, places = self._devices_of.members(rows)
            rows, moments_s, comes = devices, moments_s[places], comes[places]
        return Stretch(
            begins_s=index * length_s + notes.begins_s,
            ends_s=index * length_s + min(notes.ends_s, length_s),
            moments_s=index * length_s + moments_s,
            devices=rows,
            comes=comes,
        )

    def forget(self) -> None:
        """Let go of the chunks: whoever asks again has them made again."""
        self._cache.clear()
        self._presence = None

    def _changed_between(self, index: int) -> tuple[Integers, Flags]:
        """Return the rows that change at the very moment at which chunk `index` begins, and whether they come."""
        before, chunk = self._chunk(index - 1), self._chunk(index)
        was_online, is_online = np.zeros((2, chunk.num_rows), np.bool_)
        until_the_end = np.flatnonzero(before.end_s >= self._source.length_s)
        was_online[np.searchsorted(before.offsets, until_the_end, side="right") - 1] = True
        from_the_start = np.flatnonzero(chunk.start_s == 0)
        is_online[np.searchsorted(chunk.offsets, from_the_start, side="right") - 1] = True
        changed = np.flatnonzero(was_online != is_online)
        return changed, is_online[changed]

    def _present(self, index: int) -> Presence:
        if self._presence is None or self._presence[0] != index:
            # Let go of first: of a million devices it is as large as half a chunk.
            self._presence = None
            self._presence = index, Presence(self._chunk(index), stretch_s=self._stretch_s)
        return self._presence[1]

    def online_until_s(self, devices: Integers, at_s: float, horizon_s: float = math.inf) -> Floats:
        """Return when each of `devices` goes offline next (`inf`: never); `at_s` for one that is offline now.

        What lies at or after `horizon_s` is not looked for, and no chunk made for it: the answer is then the start of
        a chunk from there on.

        Raises:
            ValueError: `at_s` is negative or not finite.
        """
        index, since_s = self._locate(at_s)
        rows, length_s = self._rows(devices), self._source.length_s
        if len(rows) == 1:
            return np.array([self._one_until_s(int(rows[0]), index, since_s, at_s, horizon_s)], np.float64)
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

    def _one_until_s(self, row: int, index: int, since_s: float, at_s: float, horizon_s: float) -> float:
        """Return the same of one row: an asynchronous protocol asks for one at a time, and arrays take their time."""
        length_s = self._source.length_s
        for ahead in range(index, index + 1 + self._source.look_ahead):
            if ahead > index and ahead * length_s >= horizon_s:
                return at_s
            chunk = self._chunk(ahead)
            first, after = int(chunk.offsets[row]), int(chunk.offsets[row + 1])
            place = bisect.bisect_right(chunk.start_s, since_s, first, after) - 1
            if place < first or since_s >= chunk.end_s[place]:
                return at_s
            since_s, end_s = 0.0, float(chunk.end_s[place])
            at_s = ahead * length_s + end_s
            if end_s < length_s:
                return at_s
        return math.inf

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
