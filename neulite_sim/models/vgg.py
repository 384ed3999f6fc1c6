"""VGG11 with BatchNorm for small images, as four blocks.

K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
configuration A with BatchNorm, and the head that is usual for 32x32 images: one linear layer from 512 channels instead
of three of 4096. Blocks are the four groups of ProgFed (Wang et al., ICML 2022): 64 M 128 M | 256 256 M | 512 512 M |
512 512 M, M being 2x2 max-pooling.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from neulite_sim.later import nn
from neulite_sim.registry import Component, Options
from neulite_sim.samples import ImageShape, Shape

if TYPE_CHECKING:
    from neulite_sim.models.contract import BlockModel, ImageArchitecture, Layers

POOL = "M"
GROUPS: tuple[tuple[int | str, ...], ...] = (
    (64, POOL, 128, POOL),
    (256, 256, POOL),
    (512, 512, POOL),
    (512, 512, POOL),
)


class VggOptions(Options):
    """Options of `vgg11_bn`: none."""


def vgg11_bn(input_shape: ImageShape, num_classes: int, width: float) -> BlockModel:
    """Return VGG11 with BatchNorm. Every image size works: each pooling halves the sides, rounded up."""
    from neulite_sim.models.contract import BlockModel, scaled
    from neulite_sim.models.initialisation import initialise
    from neulite_sim.models.output import pooled_head

    channels, height, side = input_shape
    blocks: list[nn.Module] = []
    shapes: list[Shape] = []
    layers: list[Layers] = []
    for group in GROUPS:
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        num_convs = num_pools = 0
        for item in group:
            if isinstance(item, str):
                num_pools += 1
                parts[f"pool{num_pools}"] = nn.MaxPool2d(2, ceil_mode=True)
                height, side = -(-height // 2), -(-side // 2)
                continue
            num_convs += 1
            parts[f"conv{num_convs}"] = nn.Conv2d(channels, scaled(item, width), 3, padding=1)
            channels = scaled(item, width)
            parts[f"bn{num_convs}"] = nn.BatchNorm2d(channels)
            parts[f"relu{num_convs}"] = nn.ReLU(inplace=True)
        blocks.append(nn.Sequential(parts))
        shapes.append((channels, height, side))
        layers.append(tuple((f"conv{number}", f"bn{number}") for number in range(1, num_convs + 1)))
    tails = tuple(paths[-1] for paths in layers)
    model = BlockModel(
        blocks, pooled_head(channels, num_classes), tails=tails, block_shapes=tuple(shapes), layers=tuple(layers)
    )  # fmt: skip
    initialise(model)
    return model


def _build(_options: VggOptions) -> ImageArchitecture:
    return vgg11_bn


COMPONENT = Component(
    kind="vgg11_bn",
    summary="VGG11 with BatchNorm and one linear layer as head: four blocks",
    source="Simonyan and Zisserman, ICLR 2015, https://arxiv.org/abs/1409.1556",
    options=VggOptions,
    build=_build,
)
