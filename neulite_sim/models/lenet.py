"""LeNet-5 as two blocks: conv6-pool, conv16-pool, and a head of 120 and 84 units.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition", Proc. IEEE 1998,
with ReLU and max-pooling as in today's versions. 5x5 convolutions without padding on a field of 32x32: as in the paper,
smaller images are set into the middle of it (28x28 digits get two pixels of zeros), so every image size works.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from neulite_sim.later import nn
from neulite_sim.registry import Component, Options
from neulite_sim.samples import ImageShape, Shape

if TYPE_CHECKING:
    from neulite_sim.models.contract import BlockModel, ImageArchitecture

FIELD = 32
CHANNELS = (6, 16)
HIDDEN = (120, 84)
KERNEL = 5


class LenetOptions(Options):
    """Options of `lenet`: none."""


def lenet(input_shape: ImageShape, num_classes: int, width: float) -> BlockModel:
    """Return the network for images of any size; sides below 32 are padded to 32 or 33."""
    from neulite_sim.models.contract import BlockModel, scaled
    from neulite_sim.models.initialisation import initialise

    channels, height, side = input_shape
    padding = tuple(max(0, (FIELD + 1 - length) // 2) for length in (height, side))
    height, side = height + 2 * padding[0], side + 2 * padding[1]
    blocks: list[nn.Module] = []
    shapes: list[Shape] = []
    for base in CHANNELS:
        conv = nn.Conv2d(channels, scaled(base, width), KERNEL, padding=(0, 0) if blocks else (padding[0], padding[1]))
        blocks.append(nn.Sequential(OrderedDict(conv=conv, relu=nn.ReLU(inplace=True), pool=nn.MaxPool2d(2))))
        channels, height, side = conv.out_channels, (height - KERNEL + 1) // 2, (side - KERNEL + 1) // 2
        shapes.append((channels, height, side))
    hidden1, hidden2 = (scaled(units, width) for units in HIDDEN)
    head = nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(channels * height * side, hidden1),
            relu1=nn.ReLU(inplace=True),
            fc2=nn.Linear(hidden1, hidden2),
            relu2=nn.ReLU(inplace=True),
            fc3=nn.Linear(hidden2, num_classes),
        )
    )
    model = BlockModel(blocks, head, tails=(("conv",),) * len(blocks), block_shapes=tuple(shapes))
    initialise(model)
    return model


def _build(_options: LenetOptions) -> ImageArchitecture:
    return lenet


COMPONENT = Component(
    kind="lenet",
    summary="LeNet-5 with ReLU and max-pooling: two blocks",
    source="LeCun et al., Proceedings of the IEEE, 1998, https://doi.org/10.1109/5.726791",
    options=LenetOptions,
    build=_build,
)
