"""Methods that choose their submodels by the fleet: at each budget of a study those that a run there would have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np

from neulite_sim.arrays import Integers
from neulite_sim.engine.assembly import charge, prepare_variation
from neulite_sim.engine.charging import Remembering
from neulite_sim.engine.parts import Costing, Parts
from neulite_sim.methods.contract import Method
from neulite_sim.profiling.profile import Profile

_MOST_TRIES = 100


def looks_at_fleet(method: Method) -> bool:
    """Return whether a method chooses its submodels by what they cost on the fleet."""
    return type(method).settled is not Method.settled


class Settling:
    """An entrant as it is charged on fleets with other memory than its own.

    `profiler` is called once for a submodel, however many budgets have it: what it is called says all of it.
    """

    def __init__(self, own: Costing, profiler: Callable[..., Profile]) -> None:
        self._own, self._profiler = own, Remembering(profiler)
        # One method settles at all budgets, so that it need not ask again what its submodels need.
        self._unsettled = _unsettled(own) if looks_at_fleet(own.method) else None

    def at(self, memory_bytes: Integers) -> Costing:
        """Return what a run on a fleet with this memory would be charged; its own where that makes no difference."""
        if self._unsettled is None:
            return self._own
        population = replace(self._own.population, available_memory_bytes=memory_bytes, memory_motion=None)
        return charge(replace(self._unsettled, population=population), self._profiler)

    def least(self, needed_bytes: Callable[[Costing], Integers]) -> Costing:
        """Return what the smallest memory has to hold that lets every device take part, if all are given just that.

        Of a method that looks at the fleet that is what it asks for where all have a little less: with more memory it
        has other submodels, of which some may need less by themselves.
        """
        least, num_bytes = self._own, 0
        for _ in range(_MOST_TRIES if self._unsettled else 0):
            found = self.at(np.full(self._own.population.num_devices, num_bytes, dtype=np.int64))
            if (needed := int(needed_bytes(found).max())) <= num_bytes:
                break
            least, num_bytes = found, needed
        return replace(least, population=self._own.population)


def _unsettled(own: Costing) -> Parts:
    given: dict[str, Any] = {item.name: getattr(own, item.name) for item in fields(Parts)}
    return prepare_variation(Parts(**given), own.scenario)
