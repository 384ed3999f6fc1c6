"""One basic layer between maps of any shape: what NeuLite takes for a later block of a user's own network."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from neulite_sim.models.contract import BlockModel, Layers
from neulite_sim.samples import Shape

KERNEL = 3
_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class BasicLayer(nn.Module):
    """A layer from maps of shape `before` to maps of shape `after`, channels first, without normalisation or ReLU.

    Over maps of one to three dimensions of places it is a bias-free convolution of 3 wide kernels, strided where the
    places get fewer and followed by average pooling where they must be fewer still; between vectors it is linear. From
    a map to a vector the mean of its places is taken, and a vector becomes a map by standing at each place. Between
    maps of different dimensions the places are taken as one row.
    """

    def __init__(self, before: Shape, after: Shape) -> None:
        super().__init__()
        self._places = after[1:]
        self._is_row = len(before) > 1 and len(after) > 1 and len(before) != len(after)
        places = (math.prod(before[1:]),) if self._is_row else before[1:]
        wanted = (math.prod(after[1:]),) if self._is_row else after[1:]
        self._wanted = wanted
        if len(before) == 1 or len(after) == 1 or len(places) not in _CONVOLUTIONS:
            self.fc = nn.Linear(before[0], after[0])
            self._is_linear = True
            return
        self._is_linear = False
        stride = tuple(max(1, one // other) for one, other in zip(places, wanted, strict=True))
        make: Any = _CONVOLUTIONS[len(places)]
        self.conv = make(before[0], after[0], KERNEL, stride, padding=KERNEL // 2, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Return `[B, *after]`."""
        if self._is_linear:
            vectors: Tensor = self.fc(maps.flatten(2).mean(dim=2) if maps.ndim > 2 else maps)
            shape = (*vectors.shape, *[1] * len(self._places))
            return vectors.view(shape).expand(*vectors.shape, *self._places) if self._places else vectors
        found: Tensor = self.conv(maps.flatten(2) if self._is_row else maps)
        if found.shape[2:] != self._wanted:
            found = _pooled(found, self._wanted)
        return found.reshape(len(maps), -1, *self._places) if self._is_row else found


def _pooled(maps: Tensor, places: Shape) -> Tensor:
    """Return maps of so many places: means where there are fewer, the nearest where there are more."""
    pool: Any = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}[len(places)]
    pooled: Tensor = pool(maps, list(places))
    return pooled


def block_model(
    blocks: list[nn.Module], head: nn.Module, layers: tuple[Layers, ...], shapes: tuple[Shape, ...]
) -> BlockModel:
    """Return blocks and a head as a model; `BasicLayer` stands for a layer where maps are not those of images."""
    return BlockModel(
        blocks,
        head,
        tails=tuple(each[-1] if each else () for each in layers),
        layers=layers,
        block_shapes=shapes,
        basic_layer=None if all(len(shape) == 3 for shape in shapes) else BasicLayer,
    )
