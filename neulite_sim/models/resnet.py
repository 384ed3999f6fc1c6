"""ResNet18 and ResNet34 for small images, as four blocks.

K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, with the stem that is usual
for 32x32 images: one 3x3 convolution of stride 1 and no max-pooling. The four residual stages are the blocks; the stem
belongs to the first. Widths 64, 128, 256, 512; where shape changes, a 1x1 convolution with BatchNorm on the shortcut.
"""

from __future__ import annotations

import functools
from collections import OrderedDict

from torch import Tensor, nn

from neulite_sim.models.contract import BlockModel, ImageArchitecture, Layers, scaled
from neulite_sim.models.initialisation import initialise
from neulite_sim.models.pointwise import PointwiseConvolution
from neulite_sim.registry import Component, Options
from neulite_sim.samples import ImageShape, Shape

CHANNELS = (64, 128, 256, 512)


class ResNetOptions(Options):
    """Options of `resnet18` and `resnet34`: none."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm beside a shortcut; ReLU in place, as BatchNorm keeps its own input."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            conv = PointwiseConvolution(channels_in, channels_out, stride, bias=False)
            self.shortcut = nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(channels_out)))

    def forward(self, features_BCHW: Tensor) -> Tensor:
        """Return a map of `channels_out` channels, with sides divided by the stride and rounded up."""
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(features_BCHW)))))
        residual += self.shortcut(features_BCHW)
        activated: Tensor = self.relu(residual)
        return activated

    def halves(self) -> tuple[nn.Module, nn.Module]:
        """Return the first convolution beside the shortcut, and the second one with the sum."""
        return _FirstHalf(self), _SecondHalf(self)


class _FirstHalf(nn.Module):
    """Turns a map into what the second convolution of a basic block reads and what is added to its result."""

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu, self.shortcut = block.conv1, block.bn1, block.relu, block.shortcut

    def forward(self, features_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        return self.relu(self.bn1(self.conv1(features_BCHW))), self.shortcut(features_BCHW)


class _SecondHalf(nn.Module):
    """Turns both into the map that the block puts out."""

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.conv2, self.bn2, self.relu = block.conv2, block.bn2, block.relu

    def forward(self, halfway: tuple[Tensor, Tensor]) -> Tensor:
        residual = self.bn2(self.conv2(halfway[0]))
        residual += halfway[1]
        activated: Tensor = self.relu(residual)
        return activated


def resnet(input_shape: ImageShape, num_classes: int, width: float, *, layers: tuple[int, ...]) -> BlockModel:
    """Return a ResNet with `layers[b]` basic blocks in block b. Every image size works: sides halve, rounded up."""
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
