"""Random sets of a model's variables: which may be drawn at a share, and the largest they can be.

A share s of n variables is `ceil(s n)` of them, drawn without replacement. They differ in size by orders of magnitude:
of ResNet18's 62 variables the ten largest hold nine tenths of all weights. So that a share means something for memory
and traffic, a set may also hold no more than a budget of scalars; a variable that would exceed it is passed over.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from neulite_sim.seeding import stream

MASK = "trained_variables"
"""Name of the buffer that tells a device which variables it trains."""

NUM_TYPICAL = 101
"""Draws of which the one of median size stands for all, where seconds and bytes are charged."""


@dataclass(frozen=True, slots=True)
class Rung:
    """A share of the variables: how many are drawn, of which `sizes`, and how many scalars they may hold together."""

    count: int
    sizes: tuple[int, ...]
    budget: int

    @classmethod
    def of(cls, share: float, sizes: Sequence[int]) -> Rung:
        """Return the rung of a share of variables of these sizes, in the order of the forward pass.

        The budget is the size of the shortest run of last variables that holds the share of all scalars and no less
        than the largest variable, so that each can be drawn.
        """
        least = max(share * sum(sizes), max(sizes))
        sums = itertools.accumulate(reversed(sizes))
        budget = next(held for held in sums if held >= least)
        return cls(count=max(1, math.ceil(share * len(sizes))), sizes=tuple(sizes), budget=budget)

    def drawn(self, rng: np.random.Generator) -> tuple[bool, ...]:
        """Return a set as a flag for each variable: the first ones of a random order that keep within the budget."""
        chosen: set[int] = set()
        held = 0
        for place in rng.permutation(len(self.sizes)).tolist():
            if len(chosen) < self.count and held + self.sizes[place] <= self.budget:
                chosen.add(place)
                held += self.sizes[place]
        return tuple(place in chosen for place in range(len(self.sizes)))

    def held(self, mask: Iterable[bool]) -> int:
        """Return how many scalars the variables of a set hold."""
        return sum(size for size, is_in in zip(self.sizes, mask, strict=True) if is_in)

    def first_within_budget(self, order: Sequence[int]) -> set[int]:
        """Return the first variables of an order that fill the budget, and the largest one."""
        kept: set[int] = set()
        for place in order:
            if sum(self.sizes[each] for each in kept) >= self.budget:
                break
            kept.add(place)
        if max(self.sizes[each] for each in kept) < max(self.sizes):
            kept.add(self.sizes.index(max(self.sizes)))
        return kept


def typical_set(rung: Rung) -> tuple[bool, ...]:
    """Return the set of median size among draws of no flight in particular."""
    draws = (rung.drawn(stream(0, "typical-variables", number)) for number in range(NUM_TYPICAL))
    return sorted(draws, key=rung.held)[NUM_TYPICAL // 2]
