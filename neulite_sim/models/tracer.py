"""Records what a `forward` does to what stands for its values, and does it at once to these values."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, fx, nn
from torch.autograd.function import _SingleLevelFunction
from torch.fx.immutable_collections import immutable_dict, immutable_list

from neulite_sim.models.traced import BATCHES, OpaqueError, Traced, Values, require_unchanged, stand_in, value_of

_ATTRIBUTE = -2
"""Stands for the place of a parameter or a buffer, which is no operation's."""
_FACTORIES: tuple[Callable[..., Any], ...] = (
    torch.arange, torch.empty, torch.eye, torch.full, torch.linspace, torch.normal, torch.ones, torch.rand,
    torch.randint, torch.randn, torch.randperm, torch.tensor, torch.zeros,
)  # fmt: skip
"""What makes tensors of numbers alone, as PyTorch has it when nothing is followed."""
_MODULE_CALL = nn.Module.__call__
_MODULE_GETATTR = nn.Module.__getattr__
_MODULE_SETATTR = nn.Module.__setattr__
_NAMED_MEMBERS = nn.Module._named_members

Answer = Callable[[fx.Node], Values | None]
"""What the call of a module comes to; None: it is to be called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The operations of one `forward` in order, with what they came to.

    `operations` leaves out parameters and buffers, which are read where they are used. `changed[k]` holds the places of
    operations whose value operation k changes in place; -1 is the input.
    """

    source: fx.Node
    operations: tuple[fx.Node, ...]
    result: fx.Node
    changed: tuple[frozenset[int], ...]

    def value(self, place: int) -> Values:
        """Return what an operation came to at both batch sizes; -1: the input."""
        return value_of(self.source if place < 0 else self.operations[place])

    def let_go(self) -> None:
        """Forget the tensors; what else operations came to stays known."""
        for node in self.source.graph.nodes:
            if "values" in node.meta:
                node.meta["values"] = tuple(None if holds_tensors(value) else value for value in value_of(node))


class Tracer(fx.Tracer):
    """Records what is done to proxies, and does it at once to the values that they stand for."""

    def __init__(self, root: nn.Module, answer: Answer) -> None:
        super().__init__()
        self.root = root
        self.graph = fx.Graph(tracer_cls=fx.Tracer)
        self._answer = answer
        self._paths = _paths_of_tensors(root)
        self._modules = {id(module): path for path, module in root.named_modules()}
        self._attributes: dict[str, fx.Proxy] = {}
        self._is_computing = False
        self._known: list[tuple[Tensor, int, int]] = []
        self._operations: list[fx.Node] = []
        self._changed: list[frozenset[int]] = []
        self._inputs: Values = (None, None)
        self._made: list[Traced] = []
        self._source: Any = None

    def start(self, inputs: Values) -> Any:
        """Return the proxy of the module's input."""
        self._inputs = inputs
        self._source = self.create_proxy("placeholder", "features", (), {})
        return self._source

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within, calls of modules and what reads or writes their attributes are recorded or refused."""
        with ExitStack() as stack:
            for name, function in (
                ("__call__", self._called), ("__getattr__", self._read), ("__setattr__", self._written)
            ):  # fmt: skip
                stack.enter_context(patch.object(nn.Module, name, _bound(function)))
            for factory in _FACTORIES:
                stack.enter_context(patch.object(torch, factory.__name__, self._made_by(factory)))
            stack.enter_context(patch.object(nn.Module, "_named_members", _bound(self._listed)))
            stack.enter_context(patch.object(_SingleLevelFunction, "apply", classmethod(self._applied_whole)))
            yield

    def recording(self, source: fx.Node, result: fx.Node) -> Recording:
        """Return what was recorded, without sizes that nothing came of.

        Raises:
            OpaqueError: a tensor was changed without a record of it.
        """
        require_unchanged(self._made)
        places = [place for place, node in enumerate(self._operations) if node.users or not _only_asks(node)]
        renamed = {-1: -1, **{place: number for number, place in enumerate(places)}}
        changed = [frozenset(renamed[old] for old in self._changed[place] if old in renamed) for place in places]
        return Recording(
            source=source,
            operations=tuple(self._operations[place] for place in places),
            result=result,
            changed=tuple(changed),
        )

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return the proxy of a new node, whose value is computed first."""
        if torch._C._autograd._top_saved_tensors_default_hooks(True) is not None:
            raise OpaqueError("it says itself what is kept for the backward pass")
        if not torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            raise OpaqueError("it switches gradients or precision")
        node.meta["values"] = self._computed(node)
        if node.op not in ("get_attr", "placeholder"):
            self._operations.append(node)
            self._changed.append(self._changes())
        place = {"get_attr": _ATTRIBUTE, "placeholder": -1}.get(node.op, len(self._operations) - 1)
        self._known += [(tensor, tensor._version, place) for tensor in _tensors_in(value_of(node)[0])]
        self._made.append(stand_in(node, self))
        return self._made[-1]

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Refuse to decide by a value."""
        raise OpaqueError(f"it decides by {_what_is_asked(obj.node)}")

    def create_proxy(
        self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *rest: Any, **named: Any
    ) -> Any:
        """Return the proxy of an operation. What a weight is asked for its device, the input is: they are on one."""
        if target is getattr and args[1] == "device" and args[0].node.op == "get_attr" and self._source is not None:
            args = self._source, "device"
        try:
            return super().create_proxy(kind, target, args, kwargs, *rest, **named)
        except AttributeError as error:
            # A proxy would take it for an attribute of its own that is missing, and ask itself for ever.
            raise OpaqueError(f"it asks for what is not there: {error}") from error

    def create_arg(self, a: Any) -> Any:
        """Return an argument as a graph holds it."""
        if issubclass(type(a), fx.Proxy):
            return a.node
        if isinstance(a, Tensor):
            if id(a) not in self._paths:
                raise OpaqueError("it uses a tensor that was made elsewhere")
            return self._attribute(self._paths[id(a)]).node
        if isinstance(a, nn.Module):
            raise OpaqueError("it passes a module on")
        if isinstance(a, torch.device) and a.type == "meta":
            raise OpaqueError("it asks a tensor that it holds for its device in a way that cannot be followed")
        try:
            return super().create_arg(a)
        except (NotImplementedError, AttributeError):
            # What `torch.fx` would make an attribute of the root is no constant either.
            raise OpaqueError(f"it passes on an object ({type(a).__name__})") from None

    def _computed(self, node: fx.Node) -> Values:
        if node.op == "placeholder":
            return self._inputs
        self._is_computing = True
        try:
            known = self._answer(node) if node.op == "call_module" else None
            first, second = known or [self._done(node, number) for number in range(len(BATCHES))]
        finally:
            self._is_computing = False
        return first, second

    def _done(self, node: fx.Node, number: int) -> Any:
        if node.op == "get_attr":
            owner, _, name = str(node.target).rpartition(".")
            return getattr(self.root.get_submodule(owner), name)
        args, kwargs = _thawed(fx.map_arg((node.args, node.kwargs), lambda found: value_of(found)[number]))
        before = _thawed((args, kwargs))
        result = self._applied(node, args, kwargs)
        if not _are_same(before, (args, kwargs)):
            raise OpaqueError("it passes on a list that is changed there")
        return result

    def _applied(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if node.op == "call_function":
            return node.target(*args, **kwargs)  # type: ignore[operator]
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return self.root.get_submodule(str(node.target))(*args, **kwargs)

    def _changes(self) -> frozenset[int]:
        changed = frozenset(place for tensor, version, place in self._known if tensor._version != version)
        if _ATTRIBUTE in changed:
            raise OpaqueError("it changes a tensor of its own in place")
        if changed:
            self._known = [(tensor, tensor._version, place) for tensor, _, place in self._known]
        return changed

    def _called(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if self._is_computing:
            return _MODULE_CALL(module, *args, **kwargs)
        if id(module) not in self._modules:
            raise OpaqueError("it calls a module that it does not hold")
        if not self._modules[id(module)]:
            raise OpaqueError("it calls itself")
        return self.create_proxy("call_module", self._modules[id(module)], args, kwargs)

    def _read(self, module: nn.Module, name: str) -> Any:
        return self._as_read(_MODULE_GETATTR(module, name))

    def _as_read(self, found: Any) -> Any:
        if self._is_computing or not isinstance(found, Tensor):
            return found
        if id(found) not in self._paths:
            raise OpaqueError("it reads a tensor of a module that it does not hold")
        return self._attribute(self._paths[id(found)])

    def _listed(self, module: nn.Module, *args: Any, **kwargs: Any) -> Iterator[tuple[str, Any]]:
        """Yield what `parameters`, `buffers` and their like list."""
        for name, found in _NAMED_MEMBERS(module, *args, **kwargs):
            yield name, self._as_read(found)

    def _applied_whole(self, kind: Any, *args: Any) -> Any:
        """Record an autograd function as one operation: what it does within has a backward pass of its own."""
        if self._is_computing or not any(issubclass(type(value), fx.Proxy) for value in args):
            return super(_SingleLevelFunction, kind).apply(*args)  # type: ignore[misc]
        return self.create_proxy("call_function", _whole(kind), args, {})

    def _written(self, module: nn.Module, name: str, value: Any) -> None:
        if not self._is_computing:
            raise OpaqueError(f"it sets {name} of {type(module).__name__} anew")
        _MODULE_SETATTR(module, name, value)

    def _attribute(self, path: str) -> fx.Proxy:
        if path not in self._attributes:
            self._attributes[path] = self.create_proxy("get_attr", path, (), {})
        return self._attributes[path]

    def _made_by(self, factory: Callable[..., Any]) -> Callable[..., Any]:
        def make(*args: Any, **kwargs: Any) -> Any:
            if self._is_computing:
                return factory(*args, **kwargs)
            return self.create_proxy("call_function", factory, args, kwargs)

        return make


@functools.cache
def _whole(kind: Any) -> Callable[..., Any]:
    """Return what applies an autograd function, under the name of its class and as no part of PyTorch."""

    def apply(*args: Any) -> Any:
        return kind.apply(*args)

    apply.__name__ = apply.__qualname__ = kind.__name__
    return apply


def _bound(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that a class makes a method of, with the instance as its first argument."""

    def method(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return function(module, *args, **kwargs)

    return method


def _thawed(value: Any) -> Any:
    """Return a value with lists and mappings of its own, as a caller would have made them."""
    if type(value) in (dict, immutable_dict):
        return {key: _thawed(item) for key, item in value.items()}
    if type(value) in (list, immutable_list):
        return [_thawed(item) for item in value]
    return tuple(map(_thawed, value)) if type(value) is tuple else value


def _are_same(one: Any, other: Any) -> bool:
    """Return whether lists and mappings hold the same things in the same places."""
    if type(one) is dict:
        return one.keys() == other.keys() and all(_are_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and type(one) in (list, tuple):
        return len(one) == len(other) and all(map(_are_same, one, other))
    return one is other


def _what_is_asked(node: fx.Node) -> str:
    """Return in words what a value that is no constant was made of."""
    if isinstance(value_of(node)[0], Tensor):
        return "the numbers of a tensor"
    for read in node.all_input_nodes:
        if not isinstance(value_of(read)[0], Tensor):
            return _what_is_asked(read)
    name = node.args[1] if node.target is getattr else getattr(node.target, "__name__", node.target)
    return "the size of the batch" if name == "size" else f"{name} of a tensor"


def _only_asks(node: fx.Node) -> bool:
    return (node.op, node.target) == ("call_method", "size") or node.target is getattr


def _tensors_in(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [tensor for item in value for tensor in _tensors_in(item)] if isinstance(value, list | tuple) else []


def holds_tensors(value: Any) -> bool:
    """Return whether a value is a tensor or holds one."""
    return bool(_tensors_in(value))


def _paths_of_tensors(root: nn.Module) -> dict[int, str]:
    """Return where the tensors that a module holds are, those too that it does not register, by identity."""
    paths: dict[int, str] = {}
    for path, module in root.named_modules():
        owned = {**vars(module), **module._parameters, **module._buffers}
        for name, value in owned.items():
            if isinstance(value, Tensor):
                paths.setdefault(id(value), f"{path}.{name}" if path else name)
    return paths
