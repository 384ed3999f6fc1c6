"""Available memory drawn anew in every step, and searched for the first step that crosses a bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import numpy as np

from neulite_sim.arrays import Flags, Integers
from neulite_sim.population.memory.contract import FleetMemory
from neulite_sim.population.memory.distributions import capped_draw, drawn_range, varies
from neulite_sim.population.memory.searching import NEVER, Wanted
from neulite_sim.registry import Choice
from neulite_sim.seeding import brief_stream, streams

DEVICES_PER_BLOCK = 1024
CACHE_BYTES = 16 * 2**20
STRETCH = 256
"""Of so many steps it is kept what each device has at the least and at the most."""

_MANY = 16
"""From so many generators on it pays to make them together."""


class Redraws:
    """Each step is a draw from the distribution that the nominal memory was drawn from; step 0 is the nominal one.

    Devices are drawn in blocks of 1024 of one distribution, so that one device does not cost the draws of a million.
    Where every draw is the same (`explicit`, `installed`), devices keep their nominal memory.
    """

    def __init__(self, memory: FleetMemory, *, seed: int) -> None:
        self._memory = memory
        self._seed = seed
        self._members: list[tuple[Choice, Integers]] = []
        self._block = np.zeros(memory.num_devices, np.int32)
        self._place = np.zeros(memory.num_devices, np.int16)
        for index, chosen in enumerate(memory.choices):
            members = np.flatnonzero(memory.choice_index == index)
            for first in range(0, len(members), DEVICES_PER_BLOCK):
                block = members[first : first + DEVICES_PER_BLOCK]
                self._block[block], self._place[block] = len(self._members), np.arange(len(block))
                self._members.append((chosen, block))
        self._cache: OrderedDict[tuple[int, int], Integers] = OrderedDict()
        self._cached_bytes = self._extreme_bytes = 0
        self._extremes: OrderedDict[tuple[int, int], tuple[Integers, Integers]] = OrderedDict()
        ranges = np.array([drawn_range(chosen) for chosen in memory.choices], np.int64)[memory.choice_index]
        is_moving = np.array([varies(chosen) for chosen in memory.choices])[memory.choice_index]
        least, most = (
            np.where(is_moving, np.minimum(ranges[:, end], memory.usable_bytes), memory.nominal_bytes) for end in (0, 1)
        )
        # The first step is the nominal memory, whatever it was drawn from.
        self._least_bytes = np.minimum(least, memory.nominal_bytes)
        self._most_bytes = np.maximum(most, memory.nominal_bytes)

    def bytes_at(self, devices: Integers, steps: Integers) -> Integers:
        """Return the available bytes of each of `devices` in the step beside it."""
        found = self._memory.nominal_bytes[devices]
        later = np.flatnonzero(steps > 0)
        key = steps[later] * len(self._members) + self._block[devices[later]]
        order = np.argsort(key, kind="stable")
        cuts = np.flatnonzero(np.diff(key[order])) + 1
        for part in np.split(order, cuts) if len(order) else ():
            step, block = divmod(int(key[part[0]]), len(self._members))
            found[later[part]] = self._draw(step, block)[self._place[devices[later[part]]]]
        return found

    def _draw(self, step: int, block: int) -> Integers:
        """Return what all devices of a block have in a step."""
        return self._drawn(range(step, step + 1), block)[0]

    def _drawn(self, steps: range, block: int) -> list[Integers]:
        """Return the same of many steps; the generators of those that are not known are made together."""
        chosen, members = self._members[block]
        nominal_bytes = self._memory.nominal_bytes[members]
        if not varies(chosen):
            return [nominal_bytes] * len(steps)
        known = {step: self._cache[step, block] for step in steps if (step, block) in self._cache}
        new = [step for step in steps if step and step not in known]
        draw = capped_draw(
            chosen,
            installed_memory_bytes=self._memory.installed_bytes[members],
            usable_memory_bytes=self._memory.usable_bytes[members],
        )
        for step, rng in zip(new, self._generators(new, block), strict=True):
            known[step] = self._cache[step, block] = draw(rng)
            self._cached_bytes += _entry_bytes(known[step])
        while self._cached_bytes > CACHE_BYTES:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= _entry_bytes(dropped)
        return [nominal_bytes if step == 0 else known[step] for step in steps]

    def _generators(self, steps: list[int], block: int) -> Iterator[np.random.Generator]:
        """Yield the generator of each step of a block; the next is the same one, set anew."""
        if len(steps) < _MANY:
            return (brief_stream(self._seed, "memory-redrawn", step, block) for step in steps)
        blocks = np.full(len(steps), block, np.int64)
        return streams(self._seed, "memory-redrawn", np.array(steps, np.int64), blocks)

    def is_possible(self, wanted: Wanted) -> Flags:
        """Return False for those of whom it is never so, because their distribution does not reach so far."""
        extreme = self._least_bytes if wanted.is_short else self._most_bytes
        return wanted.is_met(extreme[wanted.devices])

    def first_steps(self, wanted: Wanted, first: Integers, last: Integers) -> Integers:
        """Return the first step of each from `first` to `last` in which it is so; `NEVER` where there is none."""
        found = np.full(len(wanted), NEVER, np.int64)
        blocks = self._block[wanted.devices]
        order = np.argsort(blocks, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(blocks[order])) + 1) if len(order) else ():
            found[rows] = self._first_of(int(blocks[rows[0]]), wanted.taken(rows), first[rows], last[rows])
        return found

    def _first_of(self, block: int, wanted: Wanted, first: Integers, last: Integers) -> Integers:
        """Return the same where all devices are of one block: a stretch at a time, as far as anybody is left."""
        found, places = np.full(len(wanted), NEVER, np.int64), self._place[wanted.devices]
        step, end = 0, int(last.max())
        while (is_open := (found == NEVER) & (last >= step)).any():
            step = max(step, int(first[is_open].min()))
            following = (step // STRETCH + 1) * STRETCH
            steps = range(step, min(following, end + 1))
            if len(steps) < STRETCH or wanted.is_met(self._extreme(step, block, wanted.is_short)[places]).any():
                columns = np.array(self._drawn(steps, block))[:, places]
                numbers = np.arange(steps.start, steps.stop)[:, None]
                is_met = wanted.is_met(columns) & (numbers >= first) & (numbers <= last)
                is_new = is_met.any(axis=0) & (found == NEVER)
                found[is_new] = steps.start + is_met.argmax(axis=0)[is_new]
            step = steps.stop
        return found

    def _extreme(self, step: int, block: int, is_least: bool) -> Integers:
        """Return the least that each device of a block has in the stretch that begins with a step, or the most."""
        at = step, block
        if at not in self._extremes:
            drawn = np.array(self._drawn(range(step, step + STRETCH), block))
            self._extremes[at] = drawn.min(axis=0), drawn.max(axis=0)
            self._extreme_bytes += 2 * _entry_bytes(drawn[0])
            while self._extreme_bytes > CACHE_BYTES:
                _, (dropped, _) = self._extremes.popitem(last=False)
                self._extreme_bytes -= 2 * _entry_bytes(dropped)
        return self._extremes[at][0 if is_least else 1]


def _entry_bytes(drawn: Integers) -> int:
    return drawn.nbytes + 256
