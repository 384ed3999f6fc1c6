"""The row of layers of a network of which some can be left out, and models that hold so many of them.

Such layers are alike, follow each other and put out the shape that they read: those of transformers. A model of l
layers has l places; what stands in them differs from flight to flight, and the tensors of place j are those of the j-th
of the layers that were drawn, in their order.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.models.contract import BlockModel, Blueprint
from neulite_sim.models.noise import noise


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """Layers that are alike, by their names, in the order in which they are applied."""

    layers: tuple[str, ...]

    def place_of(self, name: str) -> int | None:
        """Return which layer a tensor is of; None where it is of none."""
        found = (place for place, layer in enumerate(self.layers) if name.startswith(f"{layer}."))
        return next(found, None)

    def at(self, name: str, drawn: Sequence[int]) -> str:
        """Return whose tensor stands under a name of a model that holds the layers `drawn` (from 0, rising)."""
        place = self.place_of(name)
        return name if place is None else self.layers[drawn[place]] + name.removeprefix(self.layers[place])


def layer_row(blueprint: Blueprint) -> LayerRow:
    """Return the layers of a blueprint's model that can be left out.

    Raises:
        ScenarioError: it has no two such layers.
    """
    try:
        found = _known_row(blueprint)
    except TypeError:
        # An architecture of others need not be hashable.
        found = _known_row.__wrapped__(blueprint)
    if found is None:
        name = blueprint.name or "the model"
        finding = f"method fedra leaves out whole layers, and {name} has no two alike that put out the shape they read"
        hint = "choose a transformer of several layers, such as gpt or vit"
        raise ScenarioError([Problem.advising(key="method", found=finding, hint=hint)])
    return found


@functools.lru_cache(maxsize=8)
def _known_row(blueprint: Blueprint) -> LayerRow | None:
    # Nothing of this look is part of what a profile follows.
    with _disable_current_modes():
        model = blueprint.build_meta()
        row = longest_row(model)
        if row is None:
            return None
        leave_out(model, row, 1)
        try:
            with torch.device("meta"):
                model(noise(blueprint.spec, 2))
        except Exception:  # Whatever its code makes of it, it cannot do without these layers.
            return None
        return row


def longest_row(model: BlockModel) -> LayerRow | None:
    """Return the most layers that are alike: of one class, of several parts, with tensors of the same shapes."""
    kinds: dict[object, list[str]] = {}
    for index, layers in enumerate(model.layers):
        for path in (paths[0] for paths in layers if len(paths) == 1):
            layer = model.blocks[index].get_submodule(path)
            shapes = tuple((name, tuple(tensor.shape)) for name, tensor in layer.state_dict().items())
            if any(True for _ in layer.children()):
                kinds.setdefault((type(layer), shapes), []).append(f"blocks.{index}.{path}".rstrip("."))
    rows = [LayerRow(layers=tuple(paths)) for paths in kinds.values() if len(paths) > 1]
    return max(rows, key=lambda row: len(row.layers), default=None)


def leave_out(model: BlockModel, row: LayerRow, num_left: int) -> None:
    """Let only the first `num_left` places of a model's row be layers, in place; what they hold a payload brings."""
    for layer in row.layers[num_left:]:
        path, _, own = layer.rpartition(".")
        setattr(model.get_submodule(path), own, PassingOn())


class PassingOn(nn.Module):
    """Stands where a layer is left out: returns the first thing that it is given, whatever else comes with it."""

    def forward(self, *given: Any, **named: Any) -> Any:
        """Return what the layer would have read."""
        return (*given, *named.values())[0]
