"""ResNet20 for 32x32 images, as three blocks.

K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2: a 3x3 stem of
16 channels, then three stages of three basic blocks with 16, 32 and 64 channels, which are the blocks; the stem belongs
to the first. Where the shape changes, the paper's shortcut has no parameters (option A, 269,722 parameters in all); the
usual 1x1 convolution with BatchNorm makes 272,474 of them.

The network of SLT (Pfeiffer, Khalili and Henkel, NeurIPS 2023, https://github.com/k1l1/SLT) has 294,874: 3x3
convolutions on the shortcuts, and a classifier that reads four places of the last map, not its mean. That is
`{kind: resnet20, shortcut: convolution, head_side: 2}`.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from neulite_sim.later import nn
from neulite_sim.registry import Component, Options
from neulite_sim.samples import ImageShape, Shape

if TYPE_CHECKING:
    from neulite_sim.models.contract import BlockModel, ImageArchitecture, Layers

CHANNELS = (16, 32, 64)
DEPTH = 3
"""Basic blocks in each block."""


Shortcut = Literal["padded", "pointwise", "convolution"]


class ResNet20Options(Options):
    """Options of `resnet20`."""

    shortcut: Shortcut = "padded"
    """Where the shape changes: the map itself padded with zeros, a 1x1 or a 3x3 convolution with BatchNorm."""
    head_side: int = Field(1, ge=1, le=64)
    """The classifier reads the means of so many times so many parts of the last map; 1 is the mean over all of it."""


def resnet20(
    input_shape: ImageShape, num_classes: int, width: float, *, shortcut: Shortcut = "padded", head_side: int = 1
) -> BlockModel:
    """Return ResNet20. Every image size works: sides halve, rounded up."""
    from neulite_sim.models.contract import BlockModel, scaled
    from neulite_sim.models.initialisation import initialise
    from neulite_sim.models.residual import BasicBlock

    channels_in, height, side = input_shape
    blocks: list[nn.Module] = []
    shapes: list[Shape] = []
    layers: list[Layers] = []
    for index, base in enumerate(CHANNELS):
        channels, stride = scaled(base, width), 1 if index == 0 else 2
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        paths: list[tuple[str, ...]] = []
        if index == 0:
            conv = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
            parts["stem"] = nn.Sequential(
                OrderedDict(conv=conv, bn=nn.BatchNorm2d(channels), relu=nn.ReLU(inplace=True))
            )
            paths.append(("stem",))
            channels_in = channels
        for layer in range(DEPTH):
            name = f"layer{layer}"
            block = BasicBlock(channels_in, channels, stride if layer == 0 else 1, shortcut)
            beside = (f"{name}.shortcut",) if any(True for _ in block.shortcut.parameters()) else ()
            paths += [(f"{name}.conv1", f"{name}.bn1", *beside), (f"{name}.conv2", f"{name}.bn2")]
            parts[name], channels_in = block, channels
        blocks.append(nn.Sequential(parts))
        height, side = -(-height // stride), -(-side // stride)
        shapes.append((channels, height, side))
        layers.append(tuple(paths))
    fc = nn.Linear(channels_in * head_side**2, num_classes)
    pool = nn.AdaptiveAvgPool2d(head_side)
    head = nn.Sequential(OrderedDict(pool=pool, flatten=nn.Flatten(), fc=fc))
    tails = tuple(paths[-1] for paths in layers)
    model = BlockModel(blocks, head, tails=tails, block_shapes=tuple(shapes), layers=tuple(layers))
    initialise(model)
    return model


def _build(options: ResNet20Options) -> ImageArchitecture:
    return functools.partial(resnet20, shortcut=options.shortcut, head_side=options.head_side)


COMPONENT = Component(
    kind="resnet20",
    summary="ResNet20 of 16, 32 and 64 channels for 32x32 images: three blocks of three basic blocks",
    source="He et al., CVPR 2016, section 4.2, https://arxiv.org/abs/1512.03385",
    options=ResNet20Options,
    build=_build,
)
