"""The contract of a selector: it chooses among offers.

The engine calls `choose` once per dispatch with the offers of that moment; any selector works with any method,
because it sees devices, submodels and expected seconds and nothing else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from neulite_sim.methods.contract import Offers
from neulite_sim.registry import Options


class SelectorOptions(Options):
    """Options that every selector has."""

    devices_per_round: int = Field(10, ge=1)
    """How many devices train in a round; fewer where fewer can."""


class Selector:
    """Base of every selector."""

    def choose(self, offers: Offers, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the positions of at most `count` offers, ascending and without repetition.

        `rng` is the stream of this dispatch: the only randomness a selector may use.
        """
        raise NotImplementedError
