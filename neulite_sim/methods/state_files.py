"""A method's state as files: tensors in safetensors, everything else as JSON; nothing is ever pickled.

States of one checkpoint share tensors that did not change between them; each is written once. What could not be read
again is refused when it is packed: by then nothing is lost, and the field is known by its name.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neulite_sim.errors import NotResumableError, SimulationError

OWN_PACKAGE = "neulite_sim"

_PLAIN = (type(None), bool, int, float, str)
_MAPPINGS = (dict, OrderedDict, MappingProxyType)
_SORTS = "biufc"
"""Kinds of NumPy that have a type in PyTorch, as far as their width has."""


def packages_of(method: object) -> frozenset[str]:
    """Return the packages of which a method's state may hold dataclasses: neulite-sim's and that of the method."""
    return frozenset({OWN_PACKAGE, type(method).__module__.partition(".")[0]})


class Packing:
    """Turns values into JSON, and collects their tensors under short names.

    Of classes, only dataclasses of `packages` are kept.
    """

    def __init__(self, packages: frozenset[str]) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._packages = packages
        self._names: dict[int, str] = {}
        self._kept: list[Tensor] = []

    def pack(self, value: Any, where: str) -> Any:
        """Return `value` as JSON that `unpack` turns into an equal value; `where` is what messages call it.

        Raises:
            SimulationError: it holds what would not come back as it is; names the field.
        """
        packed = self._packed(value, where)
        try:
            again = json.loads(json.dumps(packed))
            unpack(again, self.tensors, packages=self._packages)
        except (NotResumableError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise SimulationError(f"{where} could not be read back from a checkpoint: {error}") from error
        return packed

    def _packed(self, value: Any, where: str) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if isinstance(value, Tensor):
            return {"tensor": self._name(value, where)}
        if kind is np.ndarray or isinstance(value, np.generic):
            return {"array" if kind is np.ndarray else "scalar": self._name(_as_tensor(value, where), where)}
        if kind in (tuple, list):
            return {kind.__name__: self._all(value, where)}
        if kind is frozenset:
            return {"set": self._all(_sorted(value, where), where)}
        if kind in _MAPPINGS:
            items = [[self._packed(key, f"{where}, a key"), self._packed(item, f"{where}[{key!r}]")]
                     for key, item in value.items()]  # fmt: skip
            return {"map": items}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._packed_fields(value, where)
        raise _refused(where, kind, "plain values, tensors, arrays, tuples, lists, dicts, frozensets or dataclasses")

    def _all(self, items: Iterable[Any], where: str) -> list[Any]:
        return [self._packed(item, f"{where}[{place}]") for place, item in enumerate(items)]

    def _packed_fields(self, value: Any, where: str) -> Any:
        own = type(value)
        if own.__module__.partition(".")[0] not in self._packages:
            raise _refused(where, own, f"dataclasses of {' and '.join(sorted(self._packages))} only")
        found = dataclasses.fields(value)
        if unset := [item.name for item in found if not item.init]:
            raise _refused(where, own, f"dataclasses whose fields can all be given (not {unset[0]})")
        fields = {item.name: self._packed(getattr(value, item.name), f"{where}.{item.name}") for item in found}
        return {"class": f"{own.__module__}:{own.__qualname__}", "fields": fields}

    def _name(self, tensor: Tensor, where: str) -> str:
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise _refused(where, f"a tensor of layout {tensor.layout}", "dense tensors")
        name = self._names.get(id(tensor))
        if name is None:
            name = self._names[id(tensor)] = f"t{len(self._names)}"
            # Kept, so that no other tensor takes its id; cloned, because safetensors refuses shared storages.
            self._kept.append(tensor)
            self.tensors[name] = tensor.detach().cpu().contiguous().clone()
        return name


def _as_tensor(value: Any, where: str) -> Tensor:
    try:
        if value.dtype.kind not in _SORTS:
            raise TypeError(f"of {value.dtype}")
        return torch.from_numpy(np.array(value, order="C"))
    except (TypeError, ValueError):
        raise _refused(
            where, f"{type(value).__name__} of {value.dtype}", "arrays of numbers that PyTorch has"
        ) from None


def _sorted(values: frozenset[Any], where: str) -> list[Any]:
    try:
        return sorted(values)
    except TypeError as error:
        raise SimulationError(f"{where} is a set without an order ({error})", hint="keep a tuple instead") from None


def _refused(where: str, kind: type | str, wish: str) -> SimulationError:
    name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    return SimulationError(f"{where} is {name}, which a checkpoint cannot keep", hint=f"a state holds {wish}")


def unpack(packed: Any, tensors: Mapping[str, Tensor], *, packages: frozenset[str]) -> Any:
    """Return the value that was packed. Classes are taken from dataclasses of `packages` alone.

    Raises:
        NotResumableError: it names another class, or is no packed value.
    """
    if not isinstance(packed, dict):
        return packed
    (kind, content), *rest = packed.items()

    def inner(item: Any) -> Any:
        return unpack(item, tensors, packages=packages)

    if kind == "tensor":
        return tensors[content]
    if kind in ("array", "scalar"):
        array = tensors[content].numpy()
        return array if kind == "array" else array[()]
    if kind in ("tuple", "list", "set"):
        return {"tuple": tuple, "list": list, "set": frozenset}[kind](map(inner, content))
    if kind == "map":
        return {inner(key): inner(item) for key, item in content}
    if kind == "class" and rest:
        found = _class(content, packages)
        return found(**{name: inner(item) for name, item in rest[0][1].items()})
    raise NotResumableError(f"a checkpoint holds {kind!r}, which this version does not know", because="it was changed")


def _class(path: str, packages: frozenset[str]) -> Any:
    module, _, name = path.partition(":")
    if module.partition(".")[0] in packages:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        if isinstance(found, type) and dataclasses.is_dataclass(found):
            return found
    raise NotResumableError(f"a checkpoint names the class {path!r}, which is no part of a method's state")
