"""Multinomial logistic regression on raw pixels, or on any numbers: one block that only flattens, and a linear head.

It has no hidden layer, so there is nothing for the width to act on: every width is the same model.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.later import nn
from neulite_sim.registry import Component, Options
from neulite_sim.samples import ImageShape, InputSpec

if TYPE_CHECKING:
    from neulite_sim.models.contract import Architecture, BlockModel


class LogisticOptions(Options):
    """Options of `logistic`: none."""


def logistic(input_shape: ImageShape, num_classes: int, _width: float) -> BlockModel:
    """Return the model for images. Its block puts out every pixel as a channel of a 1x1 map, as blocks put out maps."""
    return _of_numbers(math.prod(input_shape), num_classes)


def logistic_of(spec: InputSpec, _width: float) -> BlockModel:
    """Return the model for images, rows of a table or series of numbers.

    Raises:
        ScenarioError: samples are tokens, or have several targets.
    """
    if spec.vocabulary is not None or spec.target_shape:
        message = f"logistic reads numbers with one target, and the samples of data are {spec}; choose a model for them"
        raise ScenarioError([Problem(key="model", message=message)])
    return _of_numbers(math.prod(spec.shape), spec.num_classes)


def _of_numbers(pixels: int, num_classes: int) -> BlockModel:
    from neulite_sim.models.contract import BlockModel
    from neulite_sim.models.initialisation import initialise

    block = nn.Sequential(OrderedDict(flatten=nn.Flatten(), as_map=nn.Unflatten(1, (pixels, 1, 1))))
    head = nn.Sequential(OrderedDict(flatten=nn.Flatten(), fc=nn.Linear(pixels, num_classes)))
    model = BlockModel([block], head, tails=((),), block_shapes=((pixels, 1, 1),))
    initialise(model)
    return model


def _build(_options: LogisticOptions) -> Architecture:
    return logistic_of


COMPONENT = Component(
    kind="logistic",
    summary="multinomial logistic regression on raw pixels or on the numbers of a table: one block",
    source="McCullagh and Nelder, Generalized Linear Models, 1989, chapter 5",
    options=LogisticOptions,
    build=_build,
)
