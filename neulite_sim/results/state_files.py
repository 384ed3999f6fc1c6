"""A method's state as files: tensors in safetensors, everything else as JSON; nothing is ever pickled.

States of one checkpoint share tensors that did not change between them; each is written once.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neulite_sim.errors import DataNotFoundError


class Packing:
    """Turns values into JSON, and collects their tensors under short names."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[int, str] = {}
        self._kept: list[Tensor] = []

    def pack(self, value: Any) -> Any:
        """Return `value` as JSON; what is neither plain nor a container nor a frozen dataclass is refused.

        Raises:
            TypeError: a value of another type.
        """
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, Tensor):
            return {"tensor": self._name(value)}
        if isinstance(value, np.ndarray):
            return {"array": self._name(torch.from_numpy(value))}
        if isinstance(value, np.generic):
            return self.pack(value.item())
        if isinstance(value, tuple):
            return {"tuple": [self.pack(item) for item in value]}
        if isinstance(value, list):
            return {"list": [self.pack(item) for item in value]}
        if isinstance(value, frozenset):
            return {"set": [self.pack(item) for item in sorted(value)]}
        if isinstance(value, Mapping):
            return {"map": [[self.pack(key), self.pack(item)] for key, item in value.items()]}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            own = type(value)
            fields = {item.name: self.pack(getattr(value, item.name)) for item in dataclasses.fields(value)}
            return {"class": f"{own.__module__}:{own.__qualname__}", "fields": fields}
        raise TypeError(f"a state holds {type(value).__name__}, which a checkpoint cannot keep")

    def _name(self, tensor: Tensor) -> str:
        name = self._names.get(id(tensor))
        if name is None:
            name = self._names[id(tensor)] = f"t{len(self._names)}"
            # Kept, so that no other tensor takes its id; cloned, because safetensors refuses shared storages.
            self._kept.append(tensor)
            self.tensors[name] = tensor.detach().cpu().contiguous().clone()
        return name


def unpack(packed: Any, tensors: Mapping[str, Tensor], *, packages: frozenset[str]) -> Any:
    """Return the value that was packed. Classes are taken from dataclasses of `packages` alone.

    Raises:
        DataNotFoundError: it names another class, or is no packed value.
    """
    if not isinstance(packed, dict):
        return packed
    (kind, content), *rest = packed.items()

    def inner(item: Any) -> Any:
        return unpack(item, tensors, packages=packages)

    if kind == "tensor":
        return tensors[content]
    if kind == "array":
        return tensors[content].numpy()
    if kind in ("tuple", "list", "set"):
        return {"tuple": tuple, "list": list, "set": frozenset}[kind](map(inner, content))
    if kind == "map":
        return {inner(key): inner(item) for key, item in content}
    if kind == "class" and rest:
        found = _class(content, packages)
        return found(**{name: inner(item) for name, item in rest[0][1].items()})
    raise DataNotFoundError(
        f"a checkpoint holds {kind!r}, which this version does not know; it was changed, and the run cannot be resumed"
    )


def _class(path: str, packages: frozenset[str]) -> Any:
    module, _, name = path.partition(":")
    if module.partition(".")[0] in packages:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        if isinstance(found, type) and dataclasses.is_dataclass(found):
            return found
    raise DataNotFoundError(
        f"a checkpoint names the class {path!r}, which is no part of a method's state; the run cannot be resumed"
    )
