"""Blocks and a head that somebody gives as they are: the modules joined, and where they may be grouped into fewer."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.models.balancing import balanced_cuts, burden
from neulite_sim.models.basic_layer import block_model
from neulite_sim.models.chain import Permuted
from neulite_sim.models.chain_layers import layers_of
from neulite_sim.models.contract import BlockModel, Layers
from neulite_sim.models.failures import failure_of
from neulite_sim.models.map_axes import Shapes, batch_axis, channels_of, inverse, map_order
from neulite_sim.models.traced import BATCHES
from neulite_sim.models.tracing import samples_without_numbers, without_numbers
from neulite_sim.samples import InputSpec, Shape


class Joined(nn.Module):
    """Blocks by their names, applied in order, and a head on the last one's map."""

    def __init__(self, blocks: Mapping[str, nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(OrderedDict(blocks))
        self.head = head

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.head(self.blocks(inputs))
        return logits


def joined(value: Any) -> Joined | None:
    """Return `(blocks, head)` or `{"blocks": ..., "head": ...}` as a module; None where a value is neither.

    Blocks are a list, a mapping by name, an `nn.Sequential` or an `nn.ModuleList`.
    """
    if isinstance(value, Mapping) and set(value) == {"blocks", "head"}:
        value = (value["blocks"], value["head"])
    if not isinstance(value, tuple | list) or len(value) != 2 or not isinstance(value[1], nn.Module):
        return None
    blocks, head = value
    if isinstance(blocks, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        blocks = dict(blocks.named_children())
    elif isinstance(blocks, tuple | list):
        blocks = {str(number): block for number, block in enumerate(blocks)}
    is_right = isinstance(blocks, Mapping) and blocks and all(isinstance(block, nn.Module) for block in blocks.values())
    return Joined({str(name): block for name, block in blocks.items()}, head) if is_right else None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class JoinedPlan:
    """How the blocks of a `Joined` follow each other, for samples of one kind: a part is one of the given blocks."""

    spec: InputSpec
    shapes: tuple[Shape, ...]
    orders: tuple[tuple[int, ...], ...]
    remarks: tuple[str, ...] = ()

    @property
    def num_parts(self) -> int:
        """Number of given blocks."""
        return len(self.shapes)

    def model(self, module: nn.Module, cuts: Sequence[int]) -> BlockModel:
        """Return the blocks grouped between `cuts`, with the tensors of `module`, which is not to be used any more."""
        assert isinstance(module, Joined), "the plan of joined blocks"
        bounds = (0, *cuts, self.num_parts)
        blocks = [self._group(module, *pair) for pair in itertools.pairwise(bounds)]
        head = module.head
        if self.orders[-1]:
            turned: OrderedDict[str, nn.Module] = OrderedDict(from_map=Permuted(*inverse(self.orders[-1])))
            head = nn.Sequential(OrderedDict([*turned.items(), ("head", head)]))
        layers_by_block = tuple(map(_layers, blocks))
        shapes = tuple(self.shapes[end - 1] for end in bounds[1:])
        return block_model(blocks, head, layers_by_block, shapes)

    def balanced(self, module: nn.Module, num_blocks: int, *, batch_size: int, state_copies: int) -> tuple[int, ...]:
        """Return the cuts into so many groups whose largest stage takes least memory; called `without_numbers`."""
        assert isinstance(module, Joined), "the plan of joined blocks"
        if num_blocks == self.num_parts:
            return tuple(range(1, self.num_parts))
        modules = [*module.blocks, module.head]
        samples = samples_without_numbers(self.spec, max(batch_size, 2))
        found = burden(modules, samples, state_copies=state_copies)
        return balanced_cuts(found.num_parts, num_blocks, found.peak_bytes)

    def _group(self, module: Joined, begin: int, end: int) -> nn.Module:
        names = list(module.blocks._modules)[begin:end]
        children: OrderedDict[str, nn.Module] = OrderedDict((name, module.blocks.get_submodule(name)) for name in names)
        before = self.orders[begin - 1] if begin else ()
        after = self.orders[end - 1]
        if len(names) == 1 and not before and not after:
            return children[names[0]]
        around: OrderedDict[str, nn.Module] = OrderedDict()
        if before:
            around["from_map"] = Permuted(*inverse(before))
        around.update(children)
        if after:
            around["to_map"] = Permuted(*after)
        return nn.Sequential(around)


def plan_of_joined(module: Joined, spec: InputSpec, name: str) -> JoinedPlan:
    """Return how given blocks follow each other, of modules on the meta device.

    Raises:
        ScenarioError: a block cannot read what the one before puts out, puts out no map, or shares a parameter with
            another or with the head.
    """
    _require_apart(module, name)
    shapes, orders = [], []
    channels = None
    with without_numbers():
        values: list[Any] = [samples_without_numbers(spec, size) for size in BATCHES]
        for number, (key, block) in enumerate(module.blocks.named_children()):
            before = tuple(values[0].shape[1:])
            try:
                values = [block(value) for value in values]
            except Exception as failure:
                source = f"what block {number - 1} puts out, {before}" if number else f"samples of shape {before}"
                raise _refused(
                    f"block {number} of {name} cannot read {source}: {failure_of(failure, block)}",
                    "give blocks of which each reads what the one before puts out",
                ) from failure
            if not isinstance(values[0], Tensor) or batch_axis(_shapes(values)) is None:
                finding = f"block {number} of {name} ({key}) does not put out one tensor with a row per sample"
                raise _refused(finding, "let each block return one map [B, channels, ...]")
            channels = channels_of(block) or channels
            order = map_order(_shapes(values), channels)
            orders.append(order)
            shape = values[0].shape
            shapes.append(tuple(shape[axis] for axis in (order or range(len(shape)))[1:]))
    return JoinedPlan(spec=spec, shapes=tuple(shapes), orders=tuple(orders))


def _shapes(values: list[Tensor]) -> Shapes:
    return tuple(values[0].shape), tuple(values[1].shape)


def _require_apart(module: Joined, name: str) -> None:
    owners: dict[int, str] = {}
    parts = [(f"block {number}", block) for number, block in enumerate(module.blocks)]
    for part, held in (*parts, ("the head", module.head)):
        for path, parameter in held.named_parameters():
            owner = owners.setdefault(id(parameter), part)
            if owner != part:
                finding = f"{name}: {path} of {part} is also a parameter of {owner}"
                raise _refused(finding, "put what shares parameters into one block")


def _layers(block: nn.Module) -> Layers:
    layers = layers_of(block)
    held = [id(parameter) for paths in layers for path in paths for parameter in block.get_submodule(path).parameters()]
    return layers if len(held) == len(set(held)) else ()


def _refused(finding: str, hint: str) -> ScenarioError:
    return ScenarioError([Problem.advising(key="model", found=finding, hint=hint)])
