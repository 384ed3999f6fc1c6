"""Which layers of a model are called, and by whom else their weights are read: found by a step without numbers."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

from neulite_sim.models.company import is_known
from neulite_sim.models.contract import BlockModel, Blueprint
from neulite_sim.models.fakes.mode import FakeMode
from neulite_sim.models.noise import noise
from neulite_sim.models.tracing import without_numbers

_LIKE = frozenset({
    "type_as", "view_as", "expand_as", "reshape_as", "new_empty", "new_full", "new_ones", "new_tensor", "new_zeros",
    "empty_like", "full_like", "ones_like", "rand_like", "randn_like", "zeros_like",
})  # fmt: skip
"""What looks at a tensor's shape, type and device alone."""


def called_alone(blueprint: Blueprint) -> frozenset[str] | None:
    """Return the layers of a model's blocks whose weight nothing reads but their own calls, by name.

    Layers that are never called are none of them, and neither are those that stand in two places. None: the model is
    made of known layers, which call theirs; or it cannot be found out, since the model looks at numbers.
    """
    if all(map(is_known, blueprint.look().modules())):
        return None
    try:
        return _known(blueprint)
    except TypeError:
        # An architecture of others need not be hashable.
        return _looked(blueprint)


@functools.lru_cache(maxsize=8)
def _known(blueprint: Blueprint) -> frozenset[str] | None:
    return _looked(blueprint)


def _looked(blueprint: Blueprint) -> frozenset[str] | None:
    # Nothing of this look is part of what a profile follows.
    with _disable_current_modes():
        with without_numbers():
            found = _watched(blueprint)
        if found is None:
            # As PyTorch has it on the processor; slower, and some of its rules are imported for it.
            with torch.random.fork_rng(devices=[]), FakeMode(), torch.device("cpu"):
                found = _watched(blueprint)
    return found


def _watched(blueprint: Blueprint) -> frozenset[str] | None:
    try:
        model = blueprint.build().train()
        watch = _Watch(model)
        with watch, torch.no_grad():
            model(noise(blueprint.spec, 2))
    except Exception:
        return None
    return watch.called_alone()


class _Watch(TorchFunctionMode):
    """Notes which layers are called, and whose weights a function is given outside of a call."""

    def __init__(self, model: BlockModel) -> None:
        super().__init__()
        places = [(name, layer) for name, layer in model.named_modules(remove_duplicate=False)
                  if isinstance(layer._parameters.get("weight"), Tensor)]  # fmt: skip
        count = [id(layer) for _, layer in places]
        self._names = {id(layer): name for name, layer in places if count.count(id(layer)) == 1}
        self._readers: dict[int, set[int]] = {}
        for _, layer in places:
            self._readers.setdefault(id(layer.weight), set()).add(id(layer))
            layer.register_forward_pre_hook(self._enter)
            layer.register_forward_hook(self._leave, always_call=True)
        self._within: list[int] = []
        self._called: set[int] = set()
        self._read: set[int] = set()

    def _enter(self, layer: nn.Module, _inputs: Any) -> None:
        self._within.append(id(layer))
        self._called.add(id(layer))

    def _leave(self, _layer: nn.Module, _inputs: Any, _output: Any) -> None:
        self._within.pop()

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Let a function do what it does, and note whose weight it was given."""
        given = tree_leaves((args, kwargs or {}))
        owners = [
            self._readers[id(value)] for value in given if isinstance(value, Tensor) and id(value) in self._readers
        ]
        result = func(*args, **(kwargs or {}))
        if owners and not _looks_only(func, args, self._readers) and any(map(_is_number, tree_leaves(result))):
            within = self._within[-1:]
            for layers in owners:
                self._read |= layers.difference(within)
        return result

    def called_alone(self) -> frozenset[str]:
        """Return the names of the layers that were called and whose weight nobody else was given."""
        return frozenset(self._names[layer] for layer in self._called - self._read if layer in self._names)


def _is_number(value: Any) -> bool:
    return isinstance(value, Tensor | float)


def _looks_only(func: Any, args: Sequence[Any], weights: Collection[int]) -> bool:
    name = getattr(func, "__name__", "")
    return name in _LIKE or (name == "to" and bool(args) and id(args[0]) not in weights)
