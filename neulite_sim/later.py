"""PyTorch for modules that are loaded without it: the names are there, and the first use of one imports it.

Checking a scenario and listing components load the modules that register components, and importing PyTorch takes
longer than all they do. Such a module takes its names from here, uses them in functions and annotations only, and
leaves classes that derive from PyTorch's to modules that are imported where a model is built.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

__all__ = ["F", "Tensor", "homes", "nn", "torch"]


class _Later:
    """Stands for a module or a class; whatever is asked of it is asked of the real one."""

    def __init__(self, module: str, name: str = "") -> None:
        self._place = module, name

    def __reduce__(self) -> tuple[type[_Later], tuple[str, str]]:
        return _Later, self._place

    def __getattr__(self, attribute: str) -> Any:
        # What Python itself looks for, as in copying, is asked of this object.
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        module, name = self._place
        found = importlib.import_module(module)
        return getattr(getattr(found, name) if name else found, attribute)


if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn
else:
    torch, nn, F = _Later("torch"), _Later("torch.nn"), _Later("torch.nn.functional")
    Tensor = _Later("torch", "Tensor")


def homes(module: str, **places: str) -> Callable[[str], Any]:
    """Return a `__getattr__` for a module, by which names that live in other modules are found in it as well."""

    def find(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return getattr(importlib.import_module(places[name]), name)

    return find
