"""Candidates: who of some devices is online and free, each with a rank, kept up to date as devices come and go.

An asynchronous protocol asks after every arrival, and in between a few of a million devices have changed. So only these
are looked at, and the device of a rank is found by counts of blocks: the k-th candidate is in the first block up to
which more than k are counted. Whatever was asked before, the answers are those of a look at everybody.
"""

from __future__ import annotations

import bisect
import math
from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neulite_sim.arrays import Flags, Integers
from neulite_sim.population.availability.contract import Availability, Followed, Stretch

BLOCK_BITS = 10
"""A block of 1024: of a million devices there are about as many blocks as devices in a block."""
FEW = 32
"""Up to so many changes or questions are handled one by one."""


class Whereabouts:
    """Who is online at any moment, and who was free at any mark: the number of changes, in their order, until then.

    A device is free while it owns data and is not in flight.
    """

    def __init__(self, availability: Availability, owns: Flags) -> None:
        self._availability = availability
        self._followed = availability if isinstance(availability, Followed) else None
        self._is_free = owns.copy()
        # Twice the number of the device, and one more where it has become free.
        self._changes = array("q")

    @property
    def mark(self) -> int:
        """The mark of now."""
        return len(self._changes)

    def depart(self, devices: Sequence[int]) -> None:
        """Take note that free devices are in flight from now on."""
        self._change(devices, is_free=False)

    def land(self, devices: Sequence[int]) -> None:
        """Take note that devices in flight are free from now on."""
        self._change(devices, is_free=True)

    def _change(self, devices: Sequence[int], *, is_free: bool) -> None:
        for device in devices:
            self._is_free[device] = is_free
        self._changes.extend([2 * device + is_free for device in devices])

    def changes(self, after: int, until: int) -> Integers:
        """Return the changes between two marks: twice the device, and one more where it has become free."""
        return np.array(self._changes[after:until], np.int64)

    def few_changes(self, after: int, until: int) -> Sequence[int]:
        """Return the same as plain numbers: of a few an array would take longer."""
        return self._changes[after:until]

    def free(self, mark: int | None = None) -> Flags:
        """Return for every device whether it was free at a mark; now where none is given."""
        free = self._is_free.copy()
        if mark is not None:
            # Undone from the last back to the first: what a device was before its first change stands.
            undone = self.changes(mark, self.mark)[::-1]
            free[undone >> 1] = (undone & 1) == 0
        return free

    def online(self, at_s: float) -> Flags:
        """Return for every device whether it is online at a moment."""
        return self._availability.online(at_s)

    def stretch(self, at_s: float) -> Stretch | None:
        """Return who comes and goes in a stretch of time that holds `at_s`; None where that is not known."""
        return None if self._followed is None else self._followed.stretch(at_s)


class Candidates:
    """Which of the `members` are candidates, in ascending order, or in that of `ordered`, which names them all."""

    def __init__(self, whereabouts: Whereabouts, members: Flags, *, ordered: Integers | None = None) -> None:
        self._whereabouts = whereabouts
        self._members = members
        self._ordered = ordered
        self._place_of: Integers | None = None
        if ordered is not None:
            self._place_of = np.zeros(len(members), np.int64)
            self._place_of[ordered] = np.arange(len(ordered))
        num_places = len(members) if ordered is None else len(ordered)
        num_blocks = -(-num_places >> BLOCK_BITS) if num_places else 1
        self._online, self._free = np.zeros((2, num_blocks << BLOCK_BITS), np.bool_)
        self._counts: Integers = np.zeros(num_blocks, np.int64)
        self._sums: Integers = np.zeros(num_blocks, np.int64)
        self._at_s = -math.inf
        self._mark = 0
        # The stretch of time whose changes are prepared; how many of them are applied.
        self._is_prepared = False
        self._ends_s = -math.inf
        self._length_s = math.inf
        self._num_online_before = 0
        self._applied = 0

    def move(self, at_s: float, mark: int) -> None:
        """Move to a moment and a mark: along the changes if they lie ahead and not too far, else by a new look."""
        if at_s == self._at_s and mark == self._mark:
            return
        if at_s < self._at_s or mark < self._mark or not self._reach(at_s):
            self._look(at_s, mark)
        else:
            self._apply(bisect.bisect_right(self._moments_s, at_s, self._applied))
            self._apply_flights(mark)
        self._at_s, self._mark = at_s, mark
        self._counts.cumsum(out=self._sums)

    def is_at(self, at_s: float, mark: int) -> bool:
        """Whether the answers are those of a moment and a mark."""
        return at_s == self._at_s and mark == self._mark

    def __len__(self) -> int:
        return int(self._sums[-1])

    @property
    def num_online(self) -> int:
        """How many members are online, those in flight included."""
        return self._num_online_before + (int(self._net[self._applied - 1]) if self._applied else 0)

    def nth(self, rank: int) -> int:
        """Return the candidate of a rank, from 0."""
        return self._device(self._place(rank))

    def place(self, rank: int) -> int:
        """Return where among the members, in their order, the candidate of a rank stands."""
        return self._place(rank)

    def taken(self, ranks: Integers) -> Integers:
        """Return the candidates of some ranks."""
        if len(ranks) <= FEW:
            return np.array([self.nth(int(rank)) for rank in ranks], np.int64)
        places = np.flatnonzero(self._online & self._free)[ranks]
        return places if self._ordered is None else self._ordered[places]

    def _device(self, place: int) -> int:
        return place if self._ordered is None else int(self._ordered[place])

    def _place(self, rank: int) -> int:
        block = int(self._sums.searchsorted(rank, side="right"))
        before = int(self._sums[block - 1]) if block else 0
        first = block << BLOCK_BITS
        span = slice(first, first + (1 << BLOCK_BITS))
        return first + int((self._online[span] & self._free[span]).nonzero()[0][rank - before])

    def _look(self, at_s: float, mark: int) -> None:
        """Look at everybody."""
        online, free = self._whereabouts.online(at_s), self._whereabouts.free(mark)
        if self._ordered is None:
            online = online & self._members
        else:
            online, free = online[self._ordered], free[self._ordered]
        self._online[: len(online)], self._free[: len(free)] = online, free
        inside = (self._online & self._free).reshape(-1, 1 << BLOCK_BITS)
        self._counts[:] = np.count_nonzero(inside, axis=1)
        self._num_online_before, self._applied, self._is_prepared = int(np.count_nonzero(online)), 0, False

    def _reach(self, at_s: float) -> bool:
        """Prepare the changes of the stretch that holds `at_s`; False where it is unknown, or too far ahead."""
        if self._is_prepared and at_s < self._ends_s:
            return True
        from_s = self._ends_s if self._is_prepared else self._at_s
        if from_s == -math.inf or at_s > from_s + self._length_s:
            return False
        if not self._is_prepared:
            stretch = self._whereabouts.stretch(self._at_s)
            if stretch is None:
                return False
            self._prepare(stretch)
            passed = bisect.bisect_right(self._moments_s, self._at_s)
            self._num_online_before -= int(self._net[passed - 1]) if passed else 0
            self._applied = passed
        while at_s >= self._ends_s:
            self._apply(len(self._moments_s))
            self._num_online_before = self.num_online
            stretch = self._whereabouts.stretch(self._ends_s)
            assert stretch is not None
            self._prepare(stretch)
        return True

    def _prepare(self, stretch: Stretch) -> None:
        kept = np.flatnonzero(self._members[stretch.devices])
        devices = stretch.devices[kept]
        self._places = devices if self._place_of is None else self._place_of[devices]
        self._blocks = self._places >> BLOCK_BITS
        self._comes = stretch.comes[kept]
        self._signs: NDArray[np.int64] = np.where(self._comes, 1, -1)
        self._net = np.cumsum(self._signs)
        self._moments_s, self._applied = memoryview(stretch.moments_s[kept]), 0
        self._ends_s, self._length_s = stretch.ends_s, stretch.ends_s - stretch.begins_s
        self._is_prepared = True

    def _apply(self, until: int) -> None:
        """Apply the changes of the stretch up to number `until`; of one device's the last stands."""
        if until == self._applied:
            return
        noted = slice(self._applied, until)
        places = self._places[noted]
        self._online[places] = self._comes[noted]
        np.add.at(self._counts, self._blocks[noted], self._signs[noted] * self._free[places])
        self._applied = until

    def _apply_flights(self, until: int) -> None:
        """Apply what has become free, or no longer is, up to a mark."""
        if until - self._mark > FEW:
            self._apply_many_flights(self._whereabouts.changes(self._mark, until))
            return
        for change in self._whereabouts.few_changes(self._mark, until):
            device, is_free = change >> 1, change & 1
            if not self._members[device]:
                continue
            place = device if self._place_of is None else self._place_of[device]
            self._free[place] = is_free
            if self._online[place]:
                self._counts[place >> BLOCK_BITS] += 1 if is_free else -1

    def _apply_many_flights(self, changes: Integers) -> None:
        changes = changes[np.flatnonzero(self._members[changes >> 1])]
        devices, becomes_free = changes >> 1, (changes & 1) == 1
        places = devices if self._place_of is None else self._place_of[devices]
        signs = np.where(becomes_free, 1, -1)
        np.add.at(self._counts, places >> BLOCK_BITS, signs * self._online[places])
        self._free[places] = becomes_free
