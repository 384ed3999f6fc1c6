"""Multinomial logistic regression on raw pixels: one block that only flattens, and a linear head.

It has no hidden layer, so there is nothing for the width to act on: every width is the same model.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING

from neulite_sim.later import nn
from neulite_sim.registry import Component, Options
from neulite_sim.samples import ImageShape

if TYPE_CHECKING:
    from neulite_sim.models.contract import BlockModel, ImageArchitecture


class LogisticOptions(Options):
    """Options of `logistic`: none."""


def logistic(input_shape: ImageShape, num_classes: int, _width: float) -> BlockModel:
    """Return the model. Its block puts out every pixel as a channel of a 1x1 map, as blocks put out maps."""
    from neulite_sim.models.contract import BlockModel
    from neulite_sim.models.initialisation import initialise

    pixels = math.prod(input_shape)
    block = nn.Sequential(OrderedDict(flatten=nn.Flatten(), as_map=nn.Unflatten(1, (pixels, 1, 1))))
    head = nn.Sequential(OrderedDict(flatten=nn.Flatten(), fc=nn.Linear(pixels, num_classes)))
    model = BlockModel([block], head, tails=((),), block_shapes=((pixels, 1, 1),))
    initialise(model)
    return model


def _build(_options: LogisticOptions) -> ImageArchitecture:
    return logistic


COMPONENT = Component(
    kind="logistic",
    summary="multinomial logistic regression on raw pixels: one block",
    source="McCullagh and Nelder, Generalized Linear Models, 1989, chapter 5",
    options=LogisticOptions,
    build=_build,
)
