"""When somebody can be offered work again: availability and memory decide together."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from neulite_sim.methods.contract import Proposal
from neulite_sim.population.table import Integers, Population

MOST_CHANGES = 10_000
"""How many changes of memory are looked at before nobody is taken ever to fit again."""


def next_chance(
    population: Population, idle: Integers, offers_at: Callable[[float], Proposal], at_s: float
) -> tuple[float, Proposal]:
    """Return the first moment after `at_s` at which one of the `idle` devices is online and is offered work.

    `offers_at(moment_s)` are the offers to them with the memory of a moment. The moment is `inf` where there is none;
    beside it stand the offers that were looked at last.
    """
    moment_s = float(np.nextafter(at_s, math.inf))
    for _ in range(MOST_CHANGES):
        proposal = offers_at(moment_s)
        change_s = math.inf if population.memory_motion is None else population.memory_motion.next_change_s(moment_s)
        able_s = population.availability.next_online_s(proposal.offers.devices, moment_s).min(initial=math.inf)
        if able_s < change_s:
            return float(able_s), proposal
        # Until somebody is online at all, memory may change as it will.
        anybody_s = float(population.availability.next_online_s(idle, moment_s).min(initial=math.inf))
        moment_s = max(change_s, anybody_s)
        if moment_s == math.inf:
            break
    return math.inf, proposal
