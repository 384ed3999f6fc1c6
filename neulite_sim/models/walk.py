"""What `nn.Module` says of a network's layers and tensors, for those who ask again and again.

A flight asks four times, and PyTorch goes through the network by generators within generators each time: of a network
of 60 layers that takes a twentieth of a short flight. Here the tree of layers is remembered, looked at in each call,
and walked anew where it has changed.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from torch import Tensor, nn

_Children = tuple[nn.Module | None, ...]


class _Visit(NamedTuple):
    """A layer, by the path at which it is met; `children` are those that it had then.

    The network itself is None: whatever is remembered of it must not keep it alive.
    """

    path: str
    layer: nn.Module | None
    children: _Children


class _Walk(NamedTuple):
    """All visits in the order in which PyTorch makes them; `below` has each layer once, but for the network itself."""

    visits: Sequence[_Visit]
    below: Sequence[tuple[str, nn.Module]]
    speaks_for_itself: bool
    """Whether a layer has a say in its own state beyond its tensors."""


_WALKS: weakref.WeakKeyDictionary[nn.Module, _Walk] = weakref.WeakKeyDictionary()


def state_of(network: nn.Module) -> dict[str, Tensor]:
    """Return what `network.state_dict(keep_vars=True)` holds, each tensor once, by its first name.

    Those are its parameters and persistent buffers. A tensor that has two names is one tensor: it travels once.
    """
    walk = _walk_of(network)
    visits = [(path, network if layer is None else layer) for path, layer, _ in walk.visits]
    if walk.speaks_for_itself or any(layer._state_dict_hooks or layer._state_dict_pre_hooks for _, layer in visits):
        return _once(network.state_dict(keep_vars=True).items())
    return _once(_tensors(visits))


def _tensors(visits: Iterable[tuple[str, nn.Module]]) -> Iterator[tuple[str, Tensor]]:
    for path, layer in visits:
        prefix = f"{path}." if path else ""
        for name, parameter in layer._parameters.items():
            if parameter is not None:
                yield prefix + name, parameter
        if layer._buffers:
            left_out = layer._non_persistent_buffers_set
            for name, buffer in layer._buffers.items():
                if buffer is not None and name not in left_out:
                    yield prefix + name, buffer


def _once(named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    met: set[int] = set()
    for name, tensor in named:
        if id(tensor) not in met:
            met.add(id(tensor))
            state[name] = tensor
    return state


def layers_of(network: nn.Module) -> Sequence[tuple[str, nn.Module]]:
    """Return what `network.named_modules()` yields: each layer once, with its path."""
    return [("", network), *_walk_of(network).below]


def parameters_of(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return what `network.named_parameters()` yields: each parameter once, by its first name."""
    found: dict[str, nn.Parameter] = {}
    met = set()
    for path, layer in layers_of(network):
        for name, parameter in layer._parameters.items():
            if parameter is not None and id(parameter) not in met:
                met.add(id(parameter))
                found[f"{path}.{name}" if path else name] = parameter
    return found


def set_training(network: nn.Module) -> None:
    """Do what `network.train()` does."""
    layers = layers_of(network)
    if any(type(layer).train is not nn.Module.train for _, layer in layers):
        network.train()
        return
    for _, layer in layers:
        # It sets a plain attribute, after looking for tensors and layers of that name.
        layer.__dict__["training"] = True


def _walk_of(network: nn.Module) -> _Walk:
    walk = _WALKS.get(network)
    if walk is None or any(
        children != tuple((network if layer is None else layer)._modules.values()) for _, layer, children in walk.visits
    ):
        walk = _WALKS[network] = _walked(network)
    return walk


def _walked(network: nn.Module) -> _Walk:
    visits: list[_Visit] = []

    def visit(path: str, layer: nn.Module) -> None:
        visits.append(_Visit(path, None if layer is network else layer, tuple(layer._modules.values())))
        for name, child in layer._modules.items():
            if child is not None:
                visit(f"{path}.{name}" if path else name, child)

    visit("", network)
    first: dict[int, tuple[str, nn.Module]] = {}
    for path, layer, _ in visits:
        if layer is not None:
            first.setdefault(id(layer), (path, layer))
    below = list(first.values())
    return _Walk(visits, below, any(map(_speaks_for_itself, (network, *(layer for _, layer in below)))))


def _speaks_for_itself(layer: nn.Module) -> bool:
    return any(
        getattr(type(layer), name) is not getattr(nn.Module, name)
        for name in ("state_dict", "_save_to_state_dict", "get_extra_state")
    )
