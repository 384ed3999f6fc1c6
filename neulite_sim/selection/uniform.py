"""Uniform selection without replacement among all offers: the rule of FedAvg and of NeuLite's experiments.

McMahan et al., AISTATS 2017, algorithm 1: S_t is a random set of m clients.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neulite_sim.methods.contract import Offers
from neulite_sim.registry import Component
from neulite_sim.selection.contract import Selector, SelectorOptions, SelectorSetting


class Uniform(Selector):
    """Every offer is equally likely."""

    chooses_afresh = True

    def choose(self, offers: Offers, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return `count` positions drawn uniformly without replacement, or all where there are no more."""
        if len(offers) <= count:
            return np.arange(len(offers), dtype=np.int64)
        if count == 1:
            # The same draw as that of `choice`, which takes several times as long to make it.
            return np.array([rng.integers(len(offers))], np.int64)
        return np.sort(rng.choice(len(offers), size=count, replace=False)).astype(np.int64)


def _build(options: SelectorOptions, setting: SelectorSetting) -> Uniform:
    del options, setting
    return Uniform()


COMPONENT = Component(
    kind="uniform",
    summary="every device that could train is equally likely",
    source="McMahan et al., AISTATS 2017, arXiv 1602.05629, algorithm 1",
    options=SelectorOptions,
    build=_build,
)
