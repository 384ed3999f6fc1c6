"""What a network holds beside the tensors that travel: counters, buffers that are not kept, attributes of its layers.

A worker takes on one device after another with one network. Whatever a device left behind in it would be found by the
next one that happens to be trained there, so each training begins with all of it as it was when the network was built.
"""

from __future__ import annotations

import functools
import random
import sys
from collections import deque
from collections.abc import Callable, Iterable
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neulite_sim.models.walk import layers_of, state_of

_OF_MODULES = frozenset(vars(nn.Module())) | {"forward"}
_TRUSTED = frozenset({"torch", "neulite_sim", "numpy"}) | sys.stdlib_module_names - {"__main__"}
"""Packages whose layers and objects keep nothing from batch to batch but in buffers."""

Restore = Callable[[], object]


class Unsent:
    """What a network holds now, and what brings it back."""

    def __init__(self, network: nn.Module) -> None:
        layers = [layer for _, layer in layers_of(network)]
        loaded = {id(tensor) for tensor in state_of(network).values() if tensor.is_floating_point()}
        held = [buffer for layer in layers for buffer in layer._buffers.values() if buffer is not None]
        self._buffers = list({id(buffer): buffer for buffer in held if id(buffer) not in loaded}.values())
        self._before = [buffer.detach().clone() for buffer in self._buffers]
        met = {id(each) for each in (*layers, *network.parameters(), *held)}
        self._layers = [(layer, _own(layer)) for layer in layers if not _is_trusted(layer)]
        self._inner = [restore for _, own in self._layers for restore in _inner(own.values(), met)]

    def restore(self) -> None:
        """Bring back buffers and attributes; attributes that came later are gone."""
        if self._buffers:
            with torch.no_grad():
                torch._foreach_copy_(self._buffers, self._before)
        for layer, own in self._layers:
            for name in _own(layer).keys() - own.keys():
                del vars(layer)[name]
            vars(layer).update(own)
        for restore in self._inner:
            restore()


def _own(layer: nn.Module) -> dict[str, Any]:
    """Return the attributes that a layer has beyond those of every module."""
    return {name: value for name, value in vars(layer).items() if name not in _OF_MODULES}


def _is_trusted(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] in _TRUSTED


def _inner(values: Iterable[Any], met: set[int]) -> Iterable[Restore]:
    """Yield what brings back the content of each value that can change, and of those within."""
    for value in values:
        if id(value) in met:
            continue
        met.add(id(value))
        restore, within = _changing(value)
        if restore is not None:
            yield restore
        yield from _inner(within, met)


def _changing(value: Any) -> tuple[Restore | None, Iterable[Any]]:
    """Return what brings back the content of a value, None where it cannot change, and the values within it."""
    if isinstance(value, Tensor):
        tensor = value.detach().clone()
        return functools.partial(value.detach().copy_, tensor), ()
    if isinstance(value, np.ndarray):
        array = value.copy()
        return functools.partial(np.copyto, value, array), ()
    if (state := _state_of_generator(value)) is not None:
        return state, ()
    if isinstance(value, dict):
        pairs = dict(value)
        return functools.partial(_refill, value, value.update, pairs), tuple(pairs.values())
    if isinstance(value, set):
        return functools.partial(_refill, value, value.update, set(value)), ()
    if isinstance(value, list | deque | bytearray):
        items = tuple(value)
        return functools.partial(_refill, value, value.extend, items), items
    if isinstance(value, tuple | frozenset):
        return None, tuple(value)
    if isinstance(value, type | ModuleType | FunctionType | MethodType | nn.Module) or _is_trusted(value):
        return None, ()
    attributes = getattr(value, "__dict__", None)
    if not isinstance(attributes, dict):
        return None, ()
    kept = dict(attributes)
    return functools.partial(_refill, attributes, attributes.update, kept), tuple(kept.values())


def _refill(container: Any, fill: Callable[[Any], object], content: Any) -> None:
    container.clear()
    fill(content)


def _state_of_generator(value: Any) -> Restore | None:
    """Return what brings a generator of random numbers back to where it is; None for anything else."""
    if isinstance(value, torch.Generator):
        return functools.partial(value.set_state, value.get_state())
    if isinstance(value, random.Random):
        return functools.partial(value.setstate, value.getstate())
    if isinstance(value, np.random.RandomState):
        return functools.partial(value.set_state, value.get_state())
    if isinstance(value, np.random.Generator):
        return functools.partial(setattr, value.bit_generator, "state", value.bit_generator.state)
    return None
