"""Searching steps of memory for the first at which a device has too little, or has enough again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from neulite_sim.arrays import Flags, Integers

NEVER = -1
"""Stands for a step where there is none."""
FIRST_LOOK = 16
MOST_LOOKED = 2**18
"""So many steps of devices are looked at together at most."""


class StepSource(Protocol):
    """What memory is in each step."""

    def bytes_at(self, devices: Integers, steps: Integers) -> Integers:
        """Return the available bytes of each of `devices` in the step beside it, from 0 up; in any order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Of each of `devices`: that it has less than `needed_bytes`, or, without `is_short`, that it has as many."""

    devices: Integers
    needed_bytes: Integers
    is_short: bool

    def __len__(self) -> int:
        return len(self.devices)

    def taken(self, places: Integers) -> Wanted:
        """Return what is wanted of some."""
        return Wanted(devices=self.devices[places], needed_bytes=self.needed_bytes[places], is_short=self.is_short)

    def is_met(self, available_bytes: Integers) -> Flags:
        """Return whether it is so, by what each has."""
        is_less: Flags = available_bytes < self.needed_bytes
        return is_less if self.is_short else ~is_less


@runtime_checkable
class Searchable(StepSource, Protocol):
    """A source that can be searched without looking at each step."""

    def is_possible(self, wanted: Wanted) -> Flags:
        """Return False for those of whom it is never so, in any step; else True."""
        ...

    def first_steps(self, wanted: Wanted, first: Integers, last: Integers) -> Integers:
        """Return the first step of each from `first` to `last` in which it is so; `NEVER` where there is none."""
        ...


def first_steps(source: StepSource, wanted: Wanted, first: Integers, last: Integers) -> Integers:
    """Return the first step of each from `first` to `last` in which what is wanted is so; `NEVER` where there is none.

    The search goes on in stretches that grow, up to `MOST_LOOKED` steps of all devices together.
    """
    found = np.full(len(wanted), NEVER, np.int64)
    is_left = first <= last
    if isinstance(source, Searchable):
        is_left &= source.is_possible(wanted)
    begin, left, length = first.copy(), np.flatnonzero(is_left), FIRST_LOOK
    while len(left):
        length = min(length, max(1, MOST_LOOKED // len(left)))
        these, starts, ends = wanted.taken(left), begin[left], np.minimum(begin[left] + length - 1, last[left])
        if isinstance(source, Searchable):
            found[left] = source.first_steps(these, starts, ends)
        else:
            found[left] = scanned(source, these, starts, ends)
        begin[left] = ends + 1
        left = left[(found[left] == NEVER) & (ends < last[left])]
        length *= 2
    return found


def scanned(source: StepSource, wanted: Wanted, first: Integers, last: Integers) -> Integers:
    """Return what `first_steps` does, by looking at each step."""
    lengths = last - first + 1
    row = np.repeat(np.arange(len(wanted)), lengths)
    steps = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths - first, lengths)
    many = wanted.taken(row)
    return earliest(row, steps, many.is_met(source.bytes_at(many.devices, steps)), count=len(wanted))


def earliest(row: Integers, steps: Integers, is_met: Flags, *, count: int) -> Integers:
    """Return of each of `count` rows the first of its `steps` that is marked; `NEVER` where none is."""
    none = np.iinfo(np.int64).max
    found = np.full(count, none, np.int64)
    places = np.flatnonzero(is_met)
    np.minimum.at(found, row[places], steps[places])
    return np.where(found == none, NEVER, found)
