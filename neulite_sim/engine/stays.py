"""Stays in the air: in which of the server's looks each device was in flight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neulite_sim.arrays import Integers
from neulite_sim.engine.candidates import Whereabouts


@dataclass(frozen=True, slots=True, kw_only=True)
class Stays:
    """Device `devices[i]` was in flight in the looks from number `begins[i]` to before `ends[i]`, at least one."""

    devices: Integers
    begins: Integers
    ends: Integers


class Airtime:
    """Goes through departures and landings once, in their order. They are held for it until then."""

    def __init__(self, whereabouts: Whereabouts) -> None:
        self._whereabouts = whereabouts
        self._mark = whereabouts.held_from = whereabouts.mark
        self._aloft: Integers = np.zeros(0, np.int64)

    @property
    def num_held(self) -> int:
        """How many changes have not been gone through."""
        return self._whereabouts.mark - self._mark

    def until(self, marks: Integers) -> Stays:
        """Return who was in flight in which of the looks at `marks`, ascending, at least one; come to the last."""
        last = int(marks[-1])
        changes = self._whereabouts.changes(self._mark, last)
        # A look sees the changes before its mark.
        seen_from = np.searchsorted(marks, np.arange(self._mark, last), side="right")
        devices = np.concatenate([self._aloft, changes >> 1])
        lands = np.concatenate([np.zeros(len(self._aloft), np.bool_), (changes & 1) == 1])
        moments = np.concatenate([np.zeros(len(self._aloft), np.int64), seen_from])
        order = np.argsort(devices, kind="stable")
        devices, lands, moments = devices[order], lands[order], moments[order]
        departs = np.flatnonzero(~lands)
        following = np.minimum(departs + 1, len(devices) - 1)
        # Whoever has left lands next, unless it has not landed yet.
        has_landed = (following > departs) & (devices[following] == devices[departs])
        ends = np.where(has_landed, moments[following], len(marks))
        begins, flyers = moments[departs], devices[departs]
        self._aloft = flyers[~has_landed]
        self._mark = self._whereabouts.held_from = last
        is_seen = ends > begins
        return Stays(devices=flyers[is_seen], begins=begins[is_seen], ends=ends[is_seen])
