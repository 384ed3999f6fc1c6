"""A model as an ordered stack of blocks and a head, and the blueprint that builds one.

Parameter names are the interface between methods, devices and aggregation: `blocks.0.…` to `blocks.{T-1}.…` and
`head.…`. The stem belongs to the first block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

BasicLayer = Callable[[tuple[int, int, int], tuple[int, int, int]], nn.Module]
Layers = tuple[tuple[str, ...], ...]
"""The layers of a block in order, each as the paths of the modules that hold it."""


class BlockModel(nn.Module):
    """Blocks applied in order, then a head that turns the last map into logits.

    `tails[b]` names the modules (paths inside block b) that are its last layer: NeuLite trains them together with
    block b + 1. `layers[b]` names those of each of its layers, from the one that reads the block's input to the tail:
    one layer is what has weights and what normalises it, and layers side by side are one. Where it is not given, a
    block is known by its tail alone. `block_shapes[b]` is the shape `(C, H, W)` that block b puts out, without the
    batch. `basic_layer` makes one basic layer of this architecture from the shape it reads and the shape it puts out;
    NeuLite's output modules take it in place of a convolution where it is given.
    """

    def __init__(
        self,
        blocks: list[nn.Module],
        head: nn.Module,
        *,
        tails: tuple[tuple[str, ...], ...],
        block_shapes: tuple[tuple[int, int, int], ...],
        basic_layer: BasicLayer | None = None,
        layers: tuple[Layers, ...] | None = None,
    ) -> None:
        super().__init__()
        assert len(blocks) == len(tails) == len(block_shapes)
        self.blocks = nn.ModuleList(blocks)
        self.head = head
        self.tails = tails
        self.layers = layers if layers is not None else tuple((tail,) if tail else () for tail in tails)
        self.block_shapes = block_shapes
        self.basic_layer = basic_layer

    @property
    def num_blocks(self) -> int:
        """Number of blocks, T."""
        return len(self.blocks)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return logits `[B, classes]`."""
        features = images_BCHW
        for block in self.blocks:
            features = block(features)
        logits: Tensor = self.head(features)
        return logits


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """How to build one model: an architecture at an input shape, a number of classes and a width.

    `architecture(input_shape, num_classes, width)` returns a `BlockModel`; it must be a module-level callable or a
    `functools.partial` of one, so that a blueprint can travel to a worker process. The workload and the proxy of a
    scenario are two blueprints of one architecture.
    """

    architecture: Callable[[tuple[int, int, int], int, float], BlockModel]
    input_shape: tuple[int, int, int]
    num_classes: int
    width: float = 1.0
    name: str = field(default="")

    def build(self) -> BlockModel:
        """Return a freshly initialised model on PyTorch's current default device and generator."""
        return self.architecture(self.input_shape, self.num_classes, self.width)

    def build_meta(self) -> BlockModel:
        """Return the model on the meta device: shapes and names without memory."""
        with torch.device("meta"):
            return self.build()

    def build_seeded(self, seed: int) -> BlockModel:
        """Return a model whose initial weights depend on `seed` alone; global generators are left as they were."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.build()

    def at_width(self, width: float) -> Blueprint:
        """Return the blueprint of the same model at another width."""
        return replace(self, width=width)


def scaled(channels: int, width: float) -> int:
    """Return `ceil(width * channels)`, at least one: the channel count of a width-scaled layer."""
    return max(1, -int(-width * channels // 1))
