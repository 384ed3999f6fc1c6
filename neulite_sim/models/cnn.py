"""A small convolutional network: conv32-conv32-pool, conv64-conv64-pool, a hidden layer of 128 and the classifier.

3x3 convolutions that keep the size, 2x2 max-pooling, ReLU; two blocks. A usual network of federated-learning studies.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.later import nn
from neulite_sim.registry import Component, Options
from neulite_sim.samples import ImageShape, Shape

if TYPE_CHECKING:
    from neulite_sim.models.contract import BlockModel, ImageArchitecture

CHANNELS = (32, 64)
HIDDEN = 128
SMALLEST_SIDE = 4


class CnnOptions(Options):
    """Options of `cnn`: none."""


def cnn(input_shape: ImageShape, num_classes: int, width: float) -> BlockModel:
    """Return the network; each block halves the sides, rounded down.

    Raises:
        ScenarioError: a side of the image is below 4 and nothing would be left of it.
    """
    from neulite_sim.models.contract import BlockModel, scaled
    from neulite_sim.models.initialisation import initialise

    channels_in, height, side = input_shape
    if min(height, side) < SMALLEST_SIDE:
        shape = "x".join(map(str, input_shape))
        finding = f"cnn halves images twice and needs sides of at least {SMALLEST_SIDE}, the input is {shape}"
        hint = "use larger images (data.image_size, data.shape or workload.input_shape), or model logistic"
        raise ScenarioError([Problem.advising(key="model", found=finding, hint=hint)])
    blocks: list[nn.Module] = []
    shapes: list[Shape] = []
    for channels in (scaled(base, width) for base in CHANNELS):
        blocks.append(_block(channels_in, channels))
        height, side = height // 2, side // 2
        shapes.append((channels, height, side))
        channels_in = channels
    hidden = scaled(HIDDEN, width)
    head = nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(channels_in * height * side, hidden),
            relu=nn.ReLU(inplace=True),
            fc2=nn.Linear(hidden, num_classes),
        )
    )
    num_blocks = len(blocks)
    tails, layers = (("conv2",),) * num_blocks, ((("conv1",), ("conv2",)),) * num_blocks
    model = BlockModel(blocks, head, tails=tails, block_shapes=tuple(shapes), layers=layers)
    initialise(model)
    return model


def _block(channels_in: int, channels_out: int) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels_in, channels_out, 3, padding=1),
            relu1=nn.ReLU(inplace=True),
            conv2=nn.Conv2d(channels_out, channels_out, 3, padding=1),
            relu2=nn.ReLU(inplace=True),
            pool=nn.MaxPool2d(2),
        )
    )


def _build(_options: CnnOptions) -> ImageArchitecture:
    return cnn


COMPONENT = Component(
    kind="cnn",
    summary="conv32-conv32-pool, conv64-conv64-pool, fc128: two blocks",
    source="this project, after the small networks common in federated learning",
    options=CnnOptions,
    build=_build,
)
