"""What stands for a value while a `forward` is followed: it records what is done to it.

What stands for a tensor is one, without numbers: code in C that knows nothing of recording may take it as well. What
such code does is in no recording, and is found out: its results are nobody's, and a change shows in a counter.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, fx

_NEVER = frozenset({"_is_param", "is_nested", "is_sparse", "is_quantized"})
"""What no value between two layers of a network is, asked by PyTorch's own layers."""
_LEFT = frozenset({
    "__annotations__", "__dict__", "__doc__", "__init__", "__module__", "__new__", "__torch_dispatch__",
    "__torch_function__", "__weakref__",
})  # fmt: skip
"""Of a tensor's own names: those that make it one."""

BATCHES = (7, 11)
"""Two sizes that nothing in a network has but by its batch."""
Values = tuple[Any, Any]
"""One per batch size of `BATCHES`."""


class OpaqueError(Exception):
    """A `forward` that cannot be taken apart without the danger of computing something else."""


def value_of(node: fx.Node) -> Values:
    """Return what a node came to at both batch sizes."""
    found: Values = node.meta["values"]
    return found


class Traced(fx.Proxy):
    """Stands for a value while it is followed."""

    @property
    def _at_both(self) -> Values:
        return value_of(self.node)

    @property
    def shape(self) -> tuple[Any, ...]:
        """The sizes; a symbol where it is the batch's."""
        return tuple(self.size(dim) for dim in range(self.ndim))

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return int(self._at_both[0].ndim)

    def dim(self) -> int:
        """Return the number of dimensions."""
        return self.ndim

    def size(self, dim: int | None = None) -> Any:
        """Return one size, or all."""
        if dim is None:
            return self.shape
        first, second = (value.shape[dim] for value in self._at_both)
        return first if first == second else self.tracer.create_proxy("call_method", "size", (self, dim), {})

    def __getattr__(self, name: str) -> Any:
        if name in _NEVER:
            return False
        if name in ("T", "mT"):
            return self.tracer.create_proxy("call_function", getattr, (self, name), {})
        return super().__getattr__(name)

    def __iter__(self) -> Iterator[Any]:
        return iter([operator.getitem(self, index) for index in range(len(self))])

    def __len__(self) -> int:
        value = self._at_both[0]
        if isinstance(value, Tensor) and value.shape[0] != self._at_both[1].shape[0]:
            raise OpaqueError("it asks how many samples there are")
        return len(value)

    def __eq__(self, other: object) -> Any:
        return True if _are_one_size(self, other) else super().__eq__(other)

    def __ne__(self, other: object) -> Any:
        return False if _are_one_size(self, other) else super().__ne__(other)

    __hash__ = object.__hash__


def _are_one_size(one: fx.Proxy, other: object) -> bool:
    """Return whether two sizes depend on the batch in the same way: they are equal for two batches, so for all."""
    if not issubclass(type(other), fx.Proxy):
        return False
    assert isinstance(other, fx.Proxy), "its type is one"
    pairs = value_of(one.node), value_of(other.node)
    return all(type(size) is int for pair in pairs for size in pair) and pairs[0] == pairs[1]


class TracedTensor(Traced, Tensor):  # type: ignore[misc, override]
    """Stands for a tensor, and is one."""

    __format__ = object.__format__
    __hash__ = object.__hash__
    __dir__ = object.__dir__
    __dlpack_c_exchange_api__ = None


def stand_in(node: fx.Node, tracer: fx.Tracer) -> Traced:
    """Return what stands for the value of a node."""
    value = value_of(node)[0]
    if not isinstance(value, Tensor):
        return Traced(node, tracer)
    # A tensor of its own, so that a change of the value's does not count as one of its own.
    made: TracedTensor = Tensor._make_subclass(TracedTensor, value.detach().clone())
    fx.Proxy.__init__(made, node, tracer)
    return made


def require_unchanged(made: Iterable[Traced]) -> None:
    """Refuse what changed a stand-in in place without a record of it.

    Raises:
        OpaqueError: something did.
    """
    with torch._C.DisableTorchFunctionSubclass():
        counts = [Tensor._version.__get__(one) for one in made if issubclass(type(one), TracedTensor)]  # type: ignore[attr-defined]
    if any(counts):
        raise OpaqueError("it changes a tensor by code that cannot be followed")


class _Recorded:
    """An attribute of tensors, read of one that stands for another."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Traced | None, owner: type) -> Any:
        return self if instance is None else Traced.__getattr__(instance, self._name)

    def __set__(self, instance: Traced, value: object) -> None:
        raise OpaqueError(f"it sets {self._name} of a tensor")


def _refusing(name: str) -> Callable[..., Any]:
    def refuse(self: Traced, *args: Any, **kwargs: Any) -> Any:
        raise OpaqueError(f"it looks at the numbers of a tensor, sets or copies them ({name})")

    return refuse


def _in_place(name: str) -> Callable[[Any, Any], Any]:
    function = getattr(operator, name)

    def apply(self: fx.Proxy, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return apply


for _name in ("iadd", "iand", "ifloordiv", "ilshift", "imod", "imul", "ior", "ipow", "irshift", "isub", "itruediv",
              "ixor"):  # fmt: skip
    setattr(Traced, f"__{_name}__", _in_place(_name))
for _name in {name for kind in (Tensor, torch._C.TensorBase) for name in vars(kind)} - _LEFT - set(dir(Traced)):
    if _name not in vars(TracedTensor):
        setattr(TracedTensor, _name, _refusing(_name) if _name.startswith("__") else _Recorded(_name))
for _name in ("__copy__", "__deepcopy__", "__getstate__", "__reduce_ex__"):
    setattr(Traced, _name, _refusing(_name))
