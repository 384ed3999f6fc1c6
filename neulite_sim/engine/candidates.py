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

from neulite_sim.arrays import Flags, Integers
from neulite_sim.population.availability.contract import Availability, Followed, Stretch

BLOCK_BITS = 10
"""A block of 1024: of a million devices there are about as many blocks as devices in a block."""
KEPT_CHANGES = 512
"""So many changes before the latest departure are kept at least, and twice as many at most."""
FEW = 32
"""Up to so many changes or questions are handled one by one."""


class Whereabouts:
    """Who is online at any moment, and who was free at any mark: the number of changes, in their order, until then.

    A device is free while it owns data and is not in flight. Marks of long before the latest departure are given up.
    """

    def __init__(self, availability: Availability, owns: Flags) -> None:
        self._availability = availability
        self._followed = availability if isinstance(availability, Followed) else None
        self._is_free = owns.copy()
        # Twice the number of the device, and one more where it has become free.
        self._changes = array("q")
        self.first_mark = 0
        self.num_retracted = 0
        """How often changes have been taken back: marks from before may stand for others since."""
        self.held_from: int | None = None
        """No change from this mark on is given up; None: as said above."""

    @property
    def mark(self) -> int:
        """The mark of now."""
        return self.first_mark + len(self._changes)

    def depart(self, devices: Sequence[int]) -> None:
        """Take note that free devices are in flight from now on."""
        # Who departs was seen at the mark of now: what was seen long before is not asked for again.
        if len(self._changes) > 2 * KEPT_CHANGES:
            given_up = len(self._changes) - KEPT_CHANGES
            if self.held_from is not None:
                given_up = min(given_up, self.held_from - self.first_mark)
            self.first_mark += given_up
            del self._changes[:given_up]
        self._change(devices, is_free=False)

    def land(self, devices: Sequence[int]) -> None:
        """Take note that devices in flight are free from now on."""
        self._change(devices, is_free=True)

    def retract(self, mark: int) -> None:
        """Take back all changes since a mark, of which no more than `KEPT_CHANGES` are before the latest departure."""
        undone = self.changes(mark, self.mark)[::-1]
        for change in undone.tolist():
            self._is_free[change >> 1] = not change & 1
        del self._changes[mark - self.first_mark :]
        self.num_retracted += 1

    def _change(self, devices: Sequence[int], *, is_free: bool) -> None:
        for device in devices:
            self._is_free[device] = is_free
        self._changes.extend([2 * device + is_free for device in devices])

    def changes(self, after: int, until: int) -> Integers:
        """Return the changes between two marks: twice the device, and one more where it has become free."""
        return np.array(self.few_changes(after, until), np.int64)

    def few_changes(self, after: int, until: int) -> Sequence[int]:
        """Return the same as plain numbers: of a few an array would take longer."""
        assert after >= self.first_mark, f"changes after {after} are given up, up to {self.first_mark}"
        return self._changes[after - self.first_mark : until - self.first_mark]

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


class _Places:
    """Where each member stands: at its own number, or in the order of `ordered`, which names all members."""

    def __init__(self, members: Flags, ordered: Integers | None) -> None:
        self.is_member = members
        self._ordered = ordered
        self._place_of: Integers | None = None
        self.num_places = len(members)
        if ordered is not None:
            self.num_places = len(ordered)
            self._place_of = np.zeros(len(members), np.int64)
            self._place_of[ordered] = np.arange(len(ordered))

    def of(self, device: int) -> int:
        """Return the place of a member."""
        return device if self._place_of is None else int(self._place_of[device])

    def of_each(self, devices: Integers) -> Integers:
        """Return the places of some members."""
        return devices if self._place_of is None else self._place_of[devices]

    def devices(self, places: Integers) -> Integers:
        """Return who stands at some places."""
        return places if self._ordered is None else self._ordered[places]

    def device(self, place: int) -> int:
        """Return who stands at a place."""
        return place if self._ordered is None else int(self._ordered[place])

    def arranged(self, of_devices: Flags) -> Flags:
        """Return the flags of members by their places; False where no member stands."""
        return of_devices & self.is_member if self._ordered is None else of_devices[self._ordered]


class _Changes:
    """The changes of a stretch of time that concern members: when, where, and how many are online after each."""

    def __init__(self, stretch: Stretch, places: _Places) -> None:
        kept = np.flatnonzero(places.is_member[stretch.devices])
        self.ends_s, self.length_s = stretch.ends_s, stretch.ends_s - stretch.begins_s
        # A view that gives plain numbers: bisection asks for few of them.
        self.moments_s = stretch.moments_s[kept].data
        self.places = places.of_each(stretch.devices[kept])
        self.blocks = self.places >> BLOCK_BITS
        self.comes = stretch.comes[kept]
        self.signs: Integers = np.where(self.comes, 1, -1)
        self._net = np.cumsum(self.signs)

    def __len__(self) -> int:
        return len(self.places)

    def net(self, count: int) -> int:
        """Return how many more are online after the first `count` changes."""
        return int(self._net[count - 1]) if count else 0


class Candidates:
    """Which of the `members` are candidates, in ascending order, or in that of `ordered`, which names them all."""

    def __init__(self, whereabouts: Whereabouts, members: Flags, *, ordered: Integers | None = None) -> None:
        self._whereabouts = whereabouts
        self._places = _Places(members, ordered)
        num_blocks = max(1, -(-self._places.num_places >> BLOCK_BITS))
        self._online, self._free = np.zeros((2, num_blocks << BLOCK_BITS), np.bool_)
        self._counts, self._sums = np.zeros((2, num_blocks), np.int64)
        # The moment and the mark, and how often changes had been taken back by then.
        self._stands_at = -math.inf, 0, 0
        # The changes of the present stretch, how many are applied, and how many members were online before them.
        self._changes: _Changes | None = None
        self._applied = 0
        self._num_online_before = 0
        self._length_s = math.inf

    def move(self, at_s: float, mark: int) -> None:
        """Move to a moment and a mark: along the changes if they lie ahead and not too far, else by a new look."""
        if self.is_at(at_s, mark):
            return
        from_s, from_mark, num_retracted = self._stands_at
        is_ahead = at_s >= from_s and mark >= from_mark >= self._whereabouts.first_mark
        is_ahead = is_ahead and num_retracted == self._whereabouts.num_retracted
        changes = self._reach(at_s) if is_ahead else None
        if changes is None:
            self._look(at_s, mark)
        else:
            self._apply(changes, bisect.bisect_right(changes.moments_s, at_s, self._applied))
            self._apply_flights(from_mark, mark)
        self._stands_at = at_s, mark, self._whereabouts.num_retracted
        self._counts.cumsum(out=self._sums)

    def is_at(self, at_s: float, mark: int) -> bool:
        """Whether the answers are those of a moment and a mark."""
        return self._stands_at == (at_s, mark, self._whereabouts.num_retracted)

    def __len__(self) -> int:
        return int(self._sums[-1])

    @property
    def num_online(self) -> int:
        """How many members are online, those in flight included."""
        return self._num_online_before + (self._changes.net(self._applied) if self._changes else 0)

    def nth(self, rank: int) -> int:
        """Return the candidate of a rank, from 0."""
        return self._places.device(self.place(rank))

    def place(self, rank: int) -> int:
        """Return where among the members, in their order, the candidate of a rank stands."""
        block = int(self._sums.searchsorted(rank, side="right"))
        before = int(self._sums[block - 1]) if block else 0
        first = block << BLOCK_BITS
        span = slice(first, first + (1 << BLOCK_BITS))
        return first + int((self._online[span] & self._free[span]).nonzero()[0][rank - before])

    def taken(self, ranks: Integers) -> Integers:
        """Return the candidates of some ranks."""
        if len(ranks) <= FEW:
            return np.array([self.nth(rank) for rank in ranks.tolist()], np.int64)
        return self._places.devices(np.flatnonzero(self._online & self._free)[ranks])

    def _look(self, at_s: float, mark: int) -> None:
        """Look at everybody."""
        online = self._places.arranged(self._whereabouts.online(at_s))
        free = self._places.arranged(self._whereabouts.free(mark))
        self._online[: len(online)], self._free[: len(free)] = online, free
        inside = (self._online & self._free).reshape(-1, 1 << BLOCK_BITS)
        self._counts[:] = np.count_nonzero(inside, axis=1)
        self._num_online_before, self._applied, self._changes = int(np.count_nonzero(online)), 0, None

    def _reach(self, at_s: float) -> _Changes | None:
        """Return the changes of the stretch that holds `at_s`; None where they are unknown, or it is too far ahead."""
        changes = self._changes
        if changes is not None and at_s < changes.ends_s:
            return changes
        stands_at_s = self._stands_at[0]
        from_s = stands_at_s if changes is None else changes.ends_s
        if from_s == -math.inf or at_s > from_s + self._length_s:
            return None
        if changes is None:
            stretch = self._whereabouts.stretch(stands_at_s)
            if stretch is None:
                return None
            changes = self._prepare(stretch)
            self._applied = bisect.bisect_right(changes.moments_s, stands_at_s)
            self._num_online_before -= changes.net(self._applied)
        while at_s >= changes.ends_s:
            self._apply(changes, len(changes))
            self._num_online_before = self.num_online
            stretch = self._whereabouts.stretch(changes.ends_s)
            assert stretch is not None, "an availability that tells its changes tells them all"
            changes = self._prepare(stretch)
        return changes

    def _prepare(self, stretch: Stretch) -> _Changes:
        self._changes, self._applied = _Changes(stretch, self._places), 0
        self._length_s = self._changes.length_s
        return self._changes

    def _apply(self, changes: _Changes, until: int) -> None:
        """Apply the changes of the stretch up to number `until`; of one device's the last stands."""
        if until == self._applied:
            return
        noted = slice(self._applied, until)
        places = changes.places[noted]
        self._online[places] = changes.comes[noted]
        np.add.at(self._counts, changes.blocks[noted], changes.signs[noted] * self._free[places])
        self._applied = until

    def _apply_flights(self, after: int, until: int) -> None:
        """Apply what has become free, or no longer is, between two marks."""
        if until - after > FEW:
            self._apply_many_flights(self._whereabouts.changes(after, until))
            return
        for change in self._whereabouts.few_changes(after, until):
            device, is_free = change >> 1, change & 1
            if not self._places.is_member[device]:
                continue
            place = self._places.of(device)
            self._free[place] = is_free
            if self._online[place]:
                self._counts[place >> BLOCK_BITS] += 1 if is_free else -1

    def _apply_many_flights(self, changes: Integers) -> None:
        changes = changes[np.flatnonzero(self._places.is_member[changes >> 1])]
        becomes_free = (changes & 1) == 1
        places = self._places.of_each(changes >> 1)
        np.add.at(self._counts, places >> BLOCK_BITS, np.where(becomes_free, 1, -1) * self._online[places])
        self._free[places] = becomes_free
