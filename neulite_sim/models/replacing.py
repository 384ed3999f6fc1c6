"""Layers inside a module that others take the place of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


def replaced(
    module: nn.Module, is_meant: Callable[[nn.Module], bool], replacing: Callable[[Any], nn.Module]
) -> nn.Module:
    """Put `replacing(layer)` in the place of each meant layer inside a module; return the module.

    A module that is itself meant is returned as what replaces it.
    """
    if is_meant(module):
        return replacing(module)
    made: dict[int, nn.Module] = {}
    for parent in list(module.modules()):
        for name, layer in parent.named_children():
            if is_meant(layer):
                # A layer in two places stays one layer.
                made.setdefault(id(layer), replacing(layer))
                setattr(parent, name, made[id(layer)])
    return module
