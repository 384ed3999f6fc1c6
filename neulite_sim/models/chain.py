"""A network as a chain: parts applied one after the other and a head, to be cut into the blocks of a `BlockModel`.

A part is the smallest piece at whose end the network can be cut: whatever branches and meets again within it, and what
it changes in place, stays inside. Between two parts passes one tensor.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from neulite_sim.models.chain_layers import layers_of
from neulite_sim.models.contract import BasicLayer, BlockModel, Layers
from neulite_sim.samples import Shape


@dataclass(frozen=True, slots=True)
class Part:
    """A link of the chain: its name in the block that gets it, its module, and the network's own stage it is in."""

    name: str
    module: nn.Module
    stage: int


class Permuted(nn.Module):
    """The same numbers with the dimensions in another order; a view."""

    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, maps: Tensor) -> Tensor:
        """Return the view."""
        return maps.permute(self.order)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Parts in order and what makes logits of the last one's map.

    Where the parts pass on something else than maps with channels first, `to_map` is the order of dimensions that turns
    it into one and `from_map` the one that turns it back; `head` reads what the parts pass on. `basic_layer` as in
    `BlockModel`.
    """

    parts: tuple[Part, ...]
    head: nn.Module
    to_map: tuple[int, ...] = ()
    from_map: tuple[int, ...] = ()
    basic_layer: BasicLayer | None = None

    def own_cuts(self) -> tuple[int, ...]:
        """Return where the network's own stages end, as numbers of parts before each cut."""
        pairs = itertools.pairwise(part.stage for part in self.parts)
        return tuple(number for number, (one, other) in enumerate(pairs, start=1) if one != other)

    def block_modules(self, cuts: Sequence[int]) -> list[nn.Sequential]:
        """Return the blocks that end at `cuts` (rising, each the number of parts before it) and at the end."""
        blocks = []
        for begin, end in itertools.pairwise((0, *cuts, len(self.parts))):
            modules = [(part.name, part.module) for part in self.parts[begin:end]]
            if self.from_map and begin:
                modules.insert(0, ("from_map", Permuted(*self.from_map)))
            if self.to_map:
                modules.append(("to_map", Permuted(*self.to_map)))
            blocks.append(nn.Sequential(OrderedDict(modules)))
        return blocks

    def head_module(self) -> nn.Module:
        """Return what makes logits of the last block's map."""
        if not self.from_map:
            return self.head
        return nn.Sequential(OrderedDict(from_map=Permuted(*self.from_map), classifier=self.head))

    def model(self, cuts: Sequence[int], block_shapes: tuple[Shape, ...]) -> BlockModel:
        """Return the network cut into blocks, with the tensors that it has; `block_shapes` as in `BlockModel`."""
        blocks = self.block_modules(cuts)
        layers = tuple(map(_layers, blocks))
        return BlockModel(
            list(blocks),
            self.head_module(),
            tails=tuple(paths[-1] if paths else () for paths in layers),
            layers=layers,
            block_shapes=block_shapes,
            basic_layer=self.basic_layer,
        )


def _layers(block: nn.Sequential) -> Layers:
    return tuple(
        tuple(f"{name}.{path}" if path else name for path in paths)
        for name, part in block.named_children()
        for paths in layers_of(part)
    )
