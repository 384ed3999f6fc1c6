"""The next moment at which a device is online and has the memory that it lacks now, without a look at each change."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from neulite_sim.arrays import Floats, Integers
from neulite_sim.methods.contract import Proposal
from neulite_sim.population.table import Population
from neulite_sim.units import DAY_S

HORIZON_S = 180 * DAY_S
"""Over so much time memory is looked at where the run sets no end; that in which nobody is online does not count."""
MOST_TRIES = 100_000
"""How many moments at which some device has the memory are looked at, before the search is given up."""
_PARTS = 32


class Chance(NamedTuple):
    """When somebody can be offered work, `inf` for never, and the offers and denials that were looked at last.

    Where it is `inf`, memory was looked at until `looked_until_s`; that is `inf` where nothing can change any more.
    """

    at_s: float
    proposal: Proposal
    looked_until_s: float = math.inf


class MemoryAhead:
    """The `idle` devices of a fleet while nothing but time passes, from a moment on.

    Of each it is known how much memory it needs: what it has and what the method says that it lacks, 0 where the
    method offers it something now.
    """

    def __init__(self, population: Population, idle: Integers, proposal: Proposal, at_s: float) -> None:
        self._availability = population.availability
        self._motion: Any = population.memory_motion
        self._devices = idle
        self._needed_bytes = np.zeros(len(idle), np.int64)
        self._from_s: Floats = np.full(len(idle), at_s)
        # Who has enough, and when first; `inf` for those of whom that is not known.
        self._enough_s: Floats = np.full(len(idle), math.inf)
        self._end_s = at_s
        self._num_tries = 0
        self.is_understood = self._take(proposal, at_s)

    def _take(self, proposal: Proposal, at_s: float) -> bool:
        """Take note of what each device needs; return False where the method does not say it of all denied."""
        num_told = int(np.count_nonzero(np.isin(self._devices, proposal.offers.devices)))
        for denial in proposal.denials:
            places = np.flatnonzero(np.isin(self._devices, denial.devices))
            missing_bytes = denial.shortfall_bytes
            if missing_bytes is None or len(places) != len(denial.devices) or not (missing_bytes > 0).all():
                return False
            num_told += len(places)
            needed_bytes = self._motion.available_bytes_of(denial.devices, at_s, 1) + missing_bytes
            more = np.flatnonzero(needed_bytes > self._needed_bytes[places])
            self._needed_bytes[places[more]] = needed_bytes[more]
            self._from_s[places[more]] = np.maximum(self._from_s[places[more]], at_s)
            self._enough_s[places[more]] = math.inf
        return num_told == len(self._devices)

    def chance(self, offers_at: Callable[[float], Proposal], proposal: Proposal, until_s: float) -> Chance:
        """Return the first chance up to `until_s`, or later; `proposal` is what was looked at last.

        It is of no use unless `is_understood` still holds afterwards: that the method says what each device lacks. It
        looks in stretches that grow, in each for the first moment at which somebody has enough.
        """
        if not self.is_understood:
            return Chance(at_s=math.inf, proposal=proposal, looked_until_s=self._end_s)
        length_s, left_s = _PARTS * (self._motion.next_change_s(self._end_s) - self._end_s), HORIZON_S
        while self._end_s < until_s and left_s > 0:
            begin_s = max(self._end_s, float(self._from_s.min(initial=math.inf)))
            if begin_s == math.inf:
                return Chance(at_s=math.inf, proposal=proposal)
            is_still = self._motion.next_change_s(begin_s) == math.inf
            self._end_s = math.inf if is_still else min(begin_s + length_s, until_s)
            length_s, left_s = 2 * length_s, left_s - (self._end_s - begin_s if until_s == math.inf else 0)
            self._look(self._from_s <= self._end_s)
            found = self._found(offers_at, proposal)
            if found.at_s < math.inf or found.looked_until_s < self._end_s:
                return found
            proposal = found.proposal
        return Chance(at_s=math.inf, proposal=proposal, looked_until_s=self._end_s)

    def _found(self, offers_at: Callable[[float], Proposal], proposal: Proposal) -> Chance:
        """Return the first chance in the stretch that was looked at."""
        while (at_s := float(self._enough_s.min())) < math.inf:
            self._num_tries += 1
            if self._num_tries > MOST_TRIES:
                return Chance(at_s=math.inf, proposal=proposal, looked_until_s=at_s)
            place = int(self._enough_s.argmin())
            if not self._is_online(place, at_s):
                continue
            proposal = offers_at(at_s)
            if (self._availability.next_online_s(proposal.offers.devices, at_s) == at_s).any():
                return Chance(at_s=at_s, proposal=proposal)
            if not self._take(proposal, at_s) or self._enough_s[place] == at_s:
                self.is_understood = False
                return Chance(at_s=math.inf, proposal=proposal, looked_until_s=at_s)
            self._look(self._from_s <= self._end_s)
        return Chance(at_s=math.inf, proposal=proposal, looked_until_s=self._end_s)

    def _look(self, is_meant: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
        """Look when some devices have enough, as far as the end of the stretch."""
        places = np.flatnonzero(is_meant & np.isinf(self._enough_s) & np.isfinite(self._from_s))
        found_s = self._motion.enough_from_s(
            self._devices[places], self._needed_bytes[places], self._from_s[places], self._end_s
        )
        self._enough_s[places] = found_s
        self._from_s[places] = np.where(np.isinf(found_s), self._end_s, found_s)

    def _is_online(self, place: int, at_s: float) -> bool:
        """Return whether a device is online that has enough; if not, look again from when it is back."""
        back_s = float(self._availability.next_online_s(self._devices[place : place + 1], at_s)[0])
        if back_s == at_s:
            return True
        self._from_s[place], self._enough_s[place] = back_s, math.inf
        if back_s <= self._end_s and back_s < math.inf:
            self._look(np.arange(len(self._devices)) == place)
        return False
