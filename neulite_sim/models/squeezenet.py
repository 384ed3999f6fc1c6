"""SqueezeNet 1.0 for small images, as three blocks that end before the max-poolings.

F. Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", 2016,
https://arxiv.org/abs/1602.07360. Changes for 32x32 images: the stem is a 3x3 convolution of stride 1 (instead of 7x7,
stride 2), and there is no dropout before the classifier. Blocks: stem, pool, fire 2 to 4 | pool, fire 5 to 8 | pool,
fire 9. The head is the classifier: a 1x1 convolution to the classes, ReLU, and the mean over the pixels.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from neulite_sim.later import homes, nn
from neulite_sim.registry import Component, Options
from neulite_sim.samples import ImageShape, Shape

if TYPE_CHECKING:
    from neulite_sim.models.contract import BlockModel, ImageArchitecture, Layers

__getattr__ = homes(__name__, Fire="neulite_sim.models.fire", ClassifierConvolution="neulite_sim.models.fire")

STEM = 96
FIRES = (
    ((16, 64), (16, 64), (32, 128)),
    ((32, 128), (48, 192), (48, 192), (64, 256)),
    ((64, 256),),
)
"""Per block, each fire module's channels after its squeeze and in each half of its expansion."""


class SqueezeNetOptions(Options):
    """Options of `squeezenet`: none."""


def squeezenet(input_shape: ImageShape, num_classes: int, width: float) -> BlockModel:
    """Return SqueezeNet 1.0. Every image size works: each pooling halves the sides, rounded down, to one at least."""
    from neulite_sim.models.contract import BlockModel, scaled
    from neulite_sim.models.fire import Fire
    from neulite_sim.models.initialisation import initialise

    channels_in, height, side = input_shape
    channels = scaled(STEM, width)
    blocks: list[nn.Module] = []
    shapes: list[Shape] = []
    layers: list[Layers] = []
    number = 2
    for fires in FIRES:
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        paths: list[tuple[str, ...]] = [] if blocks else [("conv1",)]
        if not blocks:
            parts["conv1"] = nn.Conv2d(channels_in, channels, 3, padding=1)
            parts["relu1"] = nn.ReLU(inplace=True)
        # With rounding up, a window of 3 and stride 2 halve n to n // 2; sides below 3 take what there is.
        parts["pool"] = nn.MaxPool2d((min(3, height), min(3, side)), 2, ceil_mode=True)
        height, side = max(1, height // 2), max(1, side // 2)
        for squeezed, expanded in fires:
            parts[f"fire{number}"] = Fire(channels, scaled(squeezed, width), scaled(expanded, width))
            paths += [(f"fire{number}.squeeze",), (f"fire{number}.expand1x1", f"fire{number}.expand3x3")]
            channels = 2 * scaled(expanded, width)
            number += 1
        blocks.append(nn.Sequential(parts))
        shapes.append((channels, height, side))
        layers.append(tuple(paths))
    tails = tuple(paths[-1] for paths in layers)
    model = BlockModel(
        blocks, _classifier(channels, num_classes), tails=tails, block_shapes=tuple(shapes), layers=tuple(layers)
    )
    initialise(model)
    return model


def _classifier(channels: int, num_classes: int) -> nn.Module:
    from neulite_sim.models.fire import ClassifierConvolution

    return nn.Sequential(
        OrderedDict(
            conv=ClassifierConvolution(channels, num_classes, 1),
            relu=nn.ReLU(inplace=True),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
        )
    )


def _build(_options: SqueezeNetOptions) -> ImageArchitecture:
    return squeezenet


COMPONENT = Component(
    kind="squeezenet",
    summary="SqueezeNet 1.0 with a 3x3 stem for small images: three blocks cut at the max-poolings",
    source="Iandola et al., 2016, https://arxiv.org/abs/1602.07360",
    options=SqueezeNetOptions,
    build=_build,
)
