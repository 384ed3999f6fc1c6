"""Who is online in a chunk of intervals, kept up while the moment moves forward.

Asynchronous protocols ask after every arrival, and in between only a few devices of a million come or go. The changes
of a chunk are noted a short stretch of time at a time, in order, and those that a question has come past are applied.
A question from before, or from farther ahead than the stretch is long, is answered from all intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neulite_sim.arrays import Flags, Floats, Integers
from neulite_sim.traces.intervals import Intervals


def inside(chunk: Intervals, at_s: float) -> Flags:
    """Return for every row whether one of its intervals holds `at_s`."""
    counts = np.zeros(len(chunk.start_s) + 1, np.int32)
    np.cumsum((chunk.start_s <= at_s) & (at_s < chunk.end_s), out=counts[1:])
    held: Flags = np.diff(counts[chunk.offsets]) > 0
    return held


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """The changes of the stretch `[begins_s, ends_s)` of a chunk, in the order of time; see `contract.Stretch`."""

    begins_s: float
    ends_s: float
    moments_s: Floats
    rows: Integers
    comes: Flags


class Presence:
    """The rows of `chunk` that are online at a moment; the answers do not depend on what was asked before.

    Changes are noted `stretch_s` at a time, at most 65535 stretches. All times are in seconds since the chunk's start.
    """

    def __init__(self, chunk: Intervals, *, stretch_s: float) -> None:
        self._chunk = chunk
        self._stretch_s = stretch_s
        # In which stretch each change lies: two bytes are looked through several times faster than eight.
        # Of whole ticks no quotient is rounded up to a whole number, so `/` says what `//` does in five times the time.
        self._comes_in = (chunk.start_s / stretch_s).astype(np.uint16)
        self._goes_in = (chunk.end_s / stretch_s).astype(np.uint16)
        self._row_of = np.repeat(np.arange(chunk.num_rows, dtype=np.int32), np.diff(chunk.offsets))
        self._notes = self._noted(0)
        self._at_s = 0.0
        self._online = inside(chunk, 0.0)

    def online(self, at_s: float) -> Flags:
        """Return for every row whether it is online at `at_s`. The array is the caller's own."""
        if not self._at_s <= at_s <= self._at_s + self._stretch_s:
            self._begin(at_s)
        notes = self.notes(self._at_s)
        first = int(notes.moments_s.searchsorted(self._at_s, side="right"))
        if at_s >= notes.ends_s:
            self._apply(notes, slice(first, None))
            notes, first = self.notes(at_s), 0
        self._apply(notes, slice(first, int(notes.moments_s.searchsorted(at_s, side="right"))))
        self._at_s = at_s
        return self._online.copy()

    def notes(self, at_s: float) -> Notes:
        """Return the changes of the stretch that holds `at_s`; those who are online from 0 on do not change there."""
        if not self._notes.begins_s <= at_s < self._notes.ends_s:
            self._notes = self._noted(int(at_s // self._stretch_s))
        return self._notes

    def _begin(self, at_s: float) -> None:
        """Look at all intervals."""
        self._online = inside(self._chunk, at_s)
        self._at_s = at_s

    def _apply(self, notes: Notes, which: slice) -> None:
        """Apply some of the notes; of a row that changes twice the later one stands."""
        self._online[notes.rows[which]] = notes.comes[which]

    def _noted(self, number: int) -> Notes:
        """Return the changes of a stretch by its number, from 0."""
        chunk = self._chunk
        comes, goes = np.flatnonzero(self._comes_in == number), np.flatnonzero(self._goes_in == number)
        if not number:
            comes = comes[chunk.start_s[comes] > 0]
        moments_s = np.concatenate([chunk.start_s[comes], chunk.end_s[goes]])
        places = np.concatenate([comes, goes])
        # Which of equal moments comes first does not matter: no row changes twice at one.
        order = np.argsort(moments_s)
        return Notes(
            begins_s=number * self._stretch_s,
            ends_s=(number + 1) * self._stretch_s,
            moments_s=moments_s[order],
            rows=self._row_of[places[order]].astype(np.int64),
            comes=order < len(comes),
        )
