"""Profiles that the entrants of a study share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from neulite_sim.models.names import FULL
from neulite_sim.models.trainee import FullModel
from neulite_sim.profiling.profile import Profile, profile


class SharedProfiler:
    """`profile`, called once for the full model however many methods train it plainly in the same way.

    `before_each` is called before each profile that is made.
    """

    def __init__(self, before_each: Callable[[], None] | None = None) -> None:
        self._before_each = before_each
        self._known: dict[tuple[object, ...], Profile] = {}

    def __call__(self, submodel: str, build: Callable[[], Any], **how: Any) -> Profile:
        """Return what `profile` returns of the same arguments."""
        if submodel != FULL:
            return self._made(submodel, build, **how)
        with torch.device("meta"):
            trainee = build()
        if type(trainee) is not FullModel:
            return self._made(submodel, build, **how)
        training = how["training"]
        key = (how["spec"], how["batch_size"], training, *_shapes(trainee))
        if key not in self._known:
            self._known[key] = self._made(submodel, build, **how)
        return self._known[key]

    def _made(self, submodel: str, build: Callable[[], Any], **how: Any) -> Profile:
        if self._before_each is not None:
            self._before_each()
        return profile(submodel, build, **how)


def _shapes(trainee: FullModel) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(tensor.shape)) for name, tensor in trainee.state_dict().items()]
