"""ResNet18 and ResNet34 for small images, as four blocks.

K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, with the stem that is usual
for 32x32 images: one 3x3 convolution of stride 1 and no max-pooling. The four residual stages are the blocks; the stem
belongs to the first. Widths 64, 128, 256, 512; where shape changes, a 1x1 convolution with BatchNorm on the shortcut.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import TYPE_CHECKING

from neulite_sim.later import homes, nn
from neulite_sim.registry import Component, Options
from neulite_sim.samples import ImageShape, Shape

if TYPE_CHECKING:
    from neulite_sim.models.contract import BlockModel, ImageArchitecture, Layers

__getattr__ = homes(__name__, BasicBlock="neulite_sim.models.residual")

CHANNELS = (64, 128, 256, 512)


class ResNetOptions(Options):
    """Options of `resnet18` and `resnet34`: none."""


def resnet(input_shape: ImageShape, num_classes: int, width: float, *, layers: tuple[int, ...]) -> BlockModel:
    """Return a ResNet with `layers[b]` basic blocks in block b. Every image size works: sides halve, rounded up."""
    from neulite_sim.models.contract import BlockModel, scaled
    from neulite_sim.models.initialisation import initialise
    from neulite_sim.models.residual import BasicBlock

    channels_in, height, side = input_shape
    blocks: list[nn.Module] = []
    shapes: list[Shape] = []
    for index, (base, depth) in enumerate(zip(CHANNELS, layers, strict=True)):
        channels, stride = scaled(base, width), 1 if index == 0 else 2
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        if index == 0:
            parts["stem"] = _stem(channels_in, channels)
            channels_in = channels
        for layer in range(depth):
            first = layer == 0
            parts[f"layer{layer}"] = BasicBlock(channels_in if first else channels, channels, stride if first else 1)
        blocks.append(nn.Sequential(parts))
        height, side = -(-height // stride), -(-side // stride)
        shapes.append((channels, height, side))
        channels_in = channels
    head = nn.Sequential(OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(),
                                     fc=nn.Linear(channels_in, num_classes)))  # fmt: skip
    named = tuple(_named_layers(block) for block in blocks)
    tails = tuple(paths[-1] for paths in named)
    model = BlockModel(blocks, head, tails=tails, block_shapes=tuple(shapes), layers=named)
    initialise(model)
    return model


def _named_layers(block: nn.Module) -> Layers:
    """Return the stem and the convolutions of the basic blocks; one on a shortcut reads what the first one reads."""
    from neulite_sim.models.residual import BasicBlock

    paths: list[tuple[str, ...]] = []
    for name, part in block.named_children():
        if not isinstance(part, BasicBlock):
            paths.append((name,))
            continue
        beside = () if isinstance(part.shortcut, nn.Identity) else (f"{name}.shortcut",)
        paths += [(f"{name}.conv1", f"{name}.bn1", *beside), (f"{name}.conv2", f"{name}.bn2")]
    return tuple(paths)


def _stem(channels_in: int, channels_out: int) -> nn.Module:
    conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(channels_out), relu=nn.ReLU(inplace=True)))


def _component(depth: int, layers: tuple[int, ...]) -> Component:
    def build(_options: ResNetOptions) -> ImageArchitecture:
        return functools.partial(resnet, layers=layers)

    return Component(
        kind=f"resnet{depth}",
        summary=f"ResNet{depth} with a 3x3 stem for small images: four blocks of {', '.join(map(str, layers))} layers",
        source="He et al., CVPR 2016, https://arxiv.org/abs/1512.03385",
        options=ResNetOptions,
        build=build,
    )


RESNET18 = _component(18, (2, 2, 2, 2))
RESNET34 = _component(34, (3, 4, 6, 3))
