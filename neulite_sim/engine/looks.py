"""Looks of the server at a fleet of which nobody was listed: who was offline, in flight or too small in how many.

A look is a moment, a mark and who is too small for all that is offered. They are collected, and worked out together:
each coming and going is gone through once, not each device for each look. With counts `s(k)` of the looks of some kind
among the first k, a device that is online at the first look and changes before looks k1, k2, ... was online in
`s(K) - (s(K) - s(k1)) + (s(K) - s(k2)) - ...` of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neulite_sim.arrays import Counts, Flags, Integers
from neulite_sim.engine.comings import Comings
from neulite_sim.engine.stays import Airtime, Stays
from neulite_sim.engine.views import Look

MOST_LOOKS = 1024
MOST_KINDS = 4
MOST_HELD = 2**18
"""From so many looks, sets of too small devices or held departures and landings on all are worked out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """In how many of `num_looks` looks every device was so; each is int32 `[N]`. `unable` are online and not aloft."""

    num_looks: int
    online: Counts
    aloft: Counts
    """In flight, and online."""
    unable: Counts


class Looks:
    """Collects looks, in the order of time."""

    def __init__(self, comings: Comings, airtime: Airtime) -> None:
        self._comings = comings
        self._airtime = airtime
        self._moments_s: list[float] = []
        self._marks: list[int] = []
        self._kinds: list[int] = []
        self._unable: list[Flags] = []

    def add(self, look: Look) -> None:
        """Take one in."""
        assert look.unable is not None, "a look at everybody"
        kind = next((place for place, known in enumerate(self._unable) if known is look.unable), len(self._unable))
        if kind == len(self._unable):
            self._unable.append(look.unable)
        self._moments_s.append(look.at_s)
        self._marks.append(look.mark)
        self._kinds.append(kind)

    @property
    def are_many(self) -> bool:
        """Whether it is time to work them out."""
        is_full = len(self._moments_s) >= MOST_LOOKS or len(self._unable) > MOST_KINDS
        return is_full or (self._airtime.num_held > MOST_HELD and bool(self._moments_s))

    def worked_out(self) -> Seen | None:
        """Return what the collected looks come to, and forget them; None where there are none."""
        if not self._moments_s:
            return None
        moments_s, kinds, marks = np.array(self._moments_s), np.array(self._kinds), np.array(self._marks, np.int64)
        among = [np.ones(len(kinds), np.bool_), *(kinds == kind for kind in range(len(self._unable)))]
        ranks = [np.concatenate([[0], np.cumsum(each)]) for each in among]
        stays = self._airtime.until(marks)
        is_flyer = np.zeros(len(self._comings.online), np.bool_)
        is_flyer[stays.devices] = True
        was_online = self._comings.online.copy()
        online: list[Counts] = [was_online * np.int32(rank[-1]) for rank in ranks]
        of_flyers: list[tuple[Integers, Integers, Integers]] = []
        for changes in self._comings.until(float(moments_s[-1])):
            places = np.searchsorted(moments_s, changes.moments_s)
            for counts, rank in zip(online, ranks, strict=True):
                np.add.at(counts, changes.devices, (changes.signs * (rank[-1] - rank[places])).astype(np.int32))
            mine = np.flatnonzero(is_flyer[changes.devices])
            of_flyers.append((changes.devices[mine], places[mine], changes.signs[mine]))
        flown = _Flown(stays, was_online, of_flyers, num_looks=len(kinds))
        aloft, *aloft_by_kind = (flown.online(rank) for rank in ranks)
        unable: Counts = np.zeros(len(is_flyer), np.int32)
        for is_unable, counts, away in zip(self._unable, online[1:], aloft_by_kind, strict=True):
            unable += np.where(is_unable, counts - away, 0)
        self._moments_s, self._marks, self._kinds, self._unable = [], [], [], []
        return Seen(num_looks=len(kinds), online=online[0], aloft=aloft, unable=unable)


class _Flown:
    """In which of the looks that fall into its stays in the air a device was online."""

    def __init__(
        self,
        stays: Stays,
        was_online: Flags,
        changes: list[tuple[Integers, Integers, Integers]],
        *,
        num_looks: int,
    ) -> None:
        self._stays = stays
        self._was_online = was_online
        nothing = np.zeros(0, np.int64)
        parts = [(nothing, nothing, nothing), *changes]
        devices, places, signs = (np.concatenate(column) for column in zip(*parts, strict=True))
        # One number for device and look, so that all that a device did before a look is found by bisection.
        self._per_device = num_looks + 1
        keys = devices * self._per_device + places
        order = np.argsort(keys, kind="stable")
        self._keys, self._places, self._signs = keys[order], places[order], signs[order]

    def online(self, rank: Integers) -> Counts:
        """Return for every device in how many looks of a kind it was online in the air; `rank[k]` are among the k."""
        counts: Counts = np.zeros(len(self._was_online), np.int32)
        signs = np.concatenate([[0], np.cumsum(self._signs)])
        shares = np.concatenate([[0], np.cumsum(self._signs * rank[self._places])])
        for looks, sign in ((self._stays.begins, -1), (self._stays.ends, 1)):
            devices = self._stays.devices
            first = np.searchsorted(self._keys, devices * self._per_device)
            after = np.searchsorted(self._keys, devices * self._per_device + looks)
            before = self._was_online[devices] * rank[looks]
            since = (signs[after] - signs[first]) * rank[looks] - (shares[after] - shares[first])
            np.add.at(counts, devices, (sign * (before + since)).astype(np.int32))
        return counts
