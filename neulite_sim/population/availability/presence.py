"""Who is online in a chunk of intervals, kept up while the moment moves forward.

Asynchronous protocols ask after every arrival, and in between only a few devices of a million come or go. Presence
notes the changes of a short stretch of time once, in order, and applies those that a question has come past. A
question from before, or from farther ahead than the stretch is long, is answered from all intervals.
"""

from __future__ import annotations

import numpy as np

from neulite_sim.arrays import Flags, Floats, Integers
from neulite_sim.traces.intervals import Intervals


def inside(chunk: Intervals, at_s: float) -> Flags:
    """Return for every row whether one of its intervals holds `at_s`."""
    counts = np.zeros(len(chunk.start_s) + 1, np.int32)
    np.cumsum((chunk.start_s <= at_s) & (at_s < chunk.end_s), out=counts[1:])
    held: Flags = np.diff(counts[chunk.offsets]) > 0
    return held


class Presence:
    """The rows of `chunk` that are online at a moment; the answers do not depend on what was asked before.

    Changes are noted `stretch_s` at a time.
    """

    def __init__(self, chunk: Intervals, *, stretch_s: float) -> None:
        self._chunk = chunk
        self._stretch_s = stretch_s
        self._at_s = self._noted_until_s = 0.0
        self._begin(0.0)

    def online(self, at_s: float) -> Flags:
        """Return for every row whether it is online at `at_s`, in seconds since the start of the chunk.

        The array is the caller's own.
        """
        if not self._at_s <= at_s <= self._at_s + self._stretch_s:
            self._begin(at_s)
        while self._noted_until_s < at_s:
            self._apply(len(self._moments_s))
            self._note(self._noted_until_s, self._noted_until_s + self._stretch_s)
        self._apply(int(np.searchsorted(self._moments_s, at_s, side="right")))
        self._at_s = at_s
        return self._online.copy()

    def _begin(self, at_s: float) -> None:
        """Forget the notes and look at all intervals."""
        self._online = inside(self._chunk, at_s)
        self._at_s = self._noted_until_s = at_s
        self._moments_s: Floats = np.zeros(0)
        self._rows: Integers = np.zeros(0, np.int64)
        self._arrives: Flags = np.zeros(0, np.bool_)
        self._applied = 0

    def _note(self, after_s: float, until_s: float) -> None:
        """Note who comes or goes after one moment and up to another, in the order of time."""
        chunk = self._chunk
        comes = np.flatnonzero((chunk.start_s > after_s) & (chunk.start_s <= until_s))
        goes = np.flatnonzero((chunk.end_s > after_s) & (chunk.end_s <= until_s))
        moments_s = np.concatenate([chunk.start_s[comes], chunk.end_s[goes]])
        order = np.argsort(moments_s, kind="stable")
        places = np.concatenate([comes, goes])[order]
        self._moments_s = moments_s[order]
        self._rows = np.searchsorted(chunk.offsets, places, side="right") - 1
        self._arrives = order < len(comes)
        self._noted_until_s, self._applied = until_s, 0

    def _apply(self, until: int) -> None:
        """Apply the notes up to number `until`; of a row that changes twice the later one stands."""
        noted = slice(self._applied, until)
        self._online[self._rows[noted]] = self._arrives[noted]
        self._applied = max(until, self._applied)
