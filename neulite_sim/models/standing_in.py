"""Modules that stand in a network where a layer stood, and answer to what the code around them asks of that layer."""

from __future__ import annotations

from typing import Any

from torch import nn

_PARAMETERS = frozenset({"weight", "bias"})
_BUFFERS = frozenset({"running_mean", "running_var", "num_batches_tracked"})


class StandIn(nn.Module):
    """Has the plain attributes of the layer that it stands for, and what that layer's class gives it.

    So a block may go on reading `self.query.out_features`. What a subclass sets itself goes first; the tensors are its
    own affair.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.__dict__["_stands_for"] = type(layer)
        for name, value in vars(layer).items():
            self.__dict__.setdefault(name, value)

    def __getattr__(self, name: str) -> Any:
        """Return what a property, a method or a number of the layer's class comes to here."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            for kind in getattr(self.__dict__.get("_stands_for"), "__mro__", ()):
                if name in vars(kind):
                    found = vars(kind)[name]
                    return found.__get__(self, kind) if hasattr(found, "__get__") else found
            raise


def is_plain(layer: nn.Module) -> bool:
    """Return whether a layer holds its own tensors alone, and nothing on it acts before, after or in place of it."""
    hooks = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
    is_bare = not (hooks or "forward" in vars(layer) or layer._modules)
    return is_bare and layer._parameters.keys() <= _PARAMETERS and layer._buffers.keys() <= _BUFFERS
