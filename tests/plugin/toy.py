"""A package of its own that brings neulite-sim a method and a selector: what a user's plug-in is, as small as it gets.

`toy-1.0.dist-info` beside it is what an installation leaves behind. With this folder on the path Python sees an
installed distribution, here and in the worker processes of Ray.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from pydantic import Field

from neulite_sim.methods.contract import Offers, Setting, State, Update
from neulite_sim.methods.fedavg import FedAvg
from neulite_sim.registry import Component, Options
from neulite_sim.selection.contract import Selector, SelectorOptions, SelectorSetting


class ToyOptions(Options):
    """Options of `toy`."""

    step: float = Field(0.5, gt=0, le=1)
    """How far the global model goes towards the mean of the updates."""


class Toy(FedAvg):
    """FedAvg that goes only a part of the way."""

    def __init__(self, step: float) -> None:
        super().__init__(memory_limit=True, weighting="samples")
        self._step = step

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        """Return the state between the old one and FedAvg's next."""
        after = super().digest(state, updates)
        tensors = {name: torch.lerp(old, after.tensors[name], self._step) for name, old in state.tensors.items()}
        return replace(after, tensors=tensors)


class First(Selector):
    """The devices of the lowest numbers."""

    def choose(self, offers: Offers, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return the first positions."""
        return np.arange(min(count, len(offers)), dtype=np.int64)


def _build_method(options: ToyOptions, setting: Setting) -> Toy:
    return Toy(options.step)


def _build_selector(options: SelectorOptions, setting: SelectorSetting) -> First:
    return First()


METHOD = Component(
    kind="toy", summary="half a step of fedavg", source="the tests", options=ToyOptions, build=_build_method
)
SELECTOR = Component(
    kind="first", summary="the lowest numbers", source="the tests", options=SelectorOptions, build=_build_selector
)
