"""One operator of a step that is followed: what comes out, what it costs, and what it allocates inside.

Over fake tensors all of this follows from the operator and from shape, strides and type of what goes in. PyTorch works
it out in Python, for many operators in hundreds of lines; a step asks thousands of times, and mostly for the same. So
what was asked before is looked up, and new tensors are made without asking. It is not looked up where the answer could
depend on more than the key holds: for tensors with known values, without plain strides, or of another mode; for
operators that change the shape of what goes in, or are not PyTorch's own; and where an output shares its storage with
one of several inputs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves

from neulite_sim.models.fakes.mode import FakeMode
from neulite_sim.profiling.arithmetic import bytes_moved, flops_of, kind_of
from neulite_sim.profiling.roofline import OperatorKind
from neulite_sim.profiling.workspaces import workspaces_of

MOST_KNOWN = 2**17
"""Calls that are remembered; all are forgotten beyond."""

_PLAIN = frozenset(
    {int, float, bool, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format}
)  # fmt: skip
_BUILT_IN = frozenset({"aten", "prim", "prims"})
DEVICE = torch.ops.prim.device.default
DETACH = torch.ops.aten.detach.default
_FAKE = torch._C._TorchDispatchModeKey.FAKE
_META = torch.device("meta")


class Facts(NamedTuple):
    """What an operator costs and allocates, whatever the numbers in its tensors are."""

    name: str
    flops: int
    bytes_moved: int
    kind: OperatorKind
    workspaces: tuple[tuple[int | None, tuple[int, ...], tuple[int, ...]], ...]
    """`workspaces_of`, with the places of outputs in place of these."""


class Done(NamedTuple):
    """A call of an operator that was made; `inputs` and `outputs` are the tensors in arguments and result."""

    result: Any
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    facts: Facts


class _Call(NamedTuple):
    """A call on fake tensors, and what its answer depends on."""

    key: tuple[Any, ...]
    inputs: list[Any]
    mode: FakeTensorMode


class _Output(NamedTuple):
    """A tensor that comes out: it is an input, looks at the storage of one, or has a storage of its own."""

    is_input: int | None = None
    looks_at: int | None = None
    shape: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    offset: int = 0
    dtype: torch.dtype = torch.float32
    device: torch.device | None = None
    state: Mapping[str, Any] = {}
    """What a fake tensor holds besides its mode."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What came out of a call."""

    outputs: tuple[_Output | None, ...]
    gathers: Any
    """What makes the result of the outputs: a type of sequence; None where the result is the only output."""
    facts: Facts

    def again(self, call: _Call) -> Done:
        """Return the same call on other tensors."""
        if self.gathers is None:
            (output,) = self.outputs
            one = None if output is None else _made(output, call)
            return Done(one, call.inputs, () if one is None else (one,), self.facts)
        made = [None if output is None else _made(output, call) for output in self.outputs]
        return Done(self.gathers(made), call.inputs, [tensor for tensor in made if tensor is not None], self.facts)


_KNOWN: dict[tuple[Any, ...], _Known] = {}


def run(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Done:
    """Run an operator, or return what it made of the like before, on tensors of this call."""
    call = _call_of(func, args, kwargs)
    known = None if call is None else _KNOWN.get(call.key)
    if call is not None and known is not None:
        return known.again(call)
    before = None if call is None else [_described(tensor) for tensor in call.inputs]
    result = _result_of(func, args, kwargs)
    inputs = _tensors((args, kwargs)) if call is None else call.inputs
    done = Done(result, inputs, outputs := _tensors(result), _facts_of(func, args, kwargs, result, inputs, outputs))
    if call is not None and before == [_described(tensor) for tensor in call.inputs]:
        _remember(call, done)
    return done


def _result_of(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return what an operator gives; calling it imports PyTorch's distributed tensors where some are not plain."""
    mode = torch._C._get_dispatch_mode(_FAKE)
    result = mode.answer(func, args, kwargs) if type(mode) is FakeMode else NotImplemented
    return func(*args, **kwargs) if result is NotImplemented else result


def ask_device(args: tuple[Any, ...]) -> Any:
    """Return what the operator `DEVICE` says of a tensor."""
    (tensor,) = args
    is_asked_from_outside = type(tensor) is FakeTensor and not tensor.fake_mode.in_kernel_invocation
    return tensor.fake_device if is_asked_from_outside else DEVICE(tensor)


def device_of(tensor: Tensor) -> torch.device:
    """Return the device of a tensor; of a fake one that for which it stands."""
    return tensor.fake_device if type(tensor) is FakeTensor else tensor.device


def is_in_backward() -> bool:
    """Whether a backward pass runs in this thread."""
    return bool(torch._C._current_graph_task_id() != -1)


@functools.cache
def is_view(func: Any) -> bool:
    """Whether an operator only looks at its input's storage in another way."""
    aliases = [item.alias_info for item in func._schema.returns]
    return bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _facts_of(
    func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any, inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
) -> Facts:  # fmt: skip
    places = {id(output): place for place, output in enumerate(outputs)}
    # Views move no byte, and operators outside of ATen call those that do.
    counts = func.namespace == "aten" and not is_view(func)
    return Facts(
        name=func._overloadpacket.__name__,
        flops=flops_of(func, args, kwargs, result) if counts else 0,
        bytes_moved=bytes_moved(func, inputs, outputs) if counts else 0,
        kind=kind_of(func, args),
        workspaces=tuple(
            (None if output is None else places[id(output)], held, passing)
            for output, held, passing in workspaces_of(func, args, outputs)
        ),
    )


def _call_of(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Call | None:
    """Return what an answer depends on; None where that cannot be said."""
    mode = torch._C._get_dispatch_mode(_FAKE)
    if mode is None or func.namespace not in _BUILT_IN or torch.is_inference_mode_enabled():
        return None
    key: list[Any] = [func, torch.get_default_dtype(), torch._C._get_mkldnn_enabled(), len(args)]
    inputs: list[Any] = []
    if not _describe(args, key, inputs, mode):
        return None
    if kwargs and not (_describe(kwargs, key, inputs, mode) and _describe(kwargs.values(), key, inputs, mode)):
        return None
    return _Call(tuple(key), inputs, mode)


def _describe(values: Iterable[Any], key: list[Any], inputs: list[Any], mode: FakeTensorMode) -> bool:
    """Add what is decisive of values to a key, and the tensors among them to `inputs`; returns whether that is all."""
    for value in values:
        kind = type(value)
        if kind is FakeTensor:
            if value.fake_mode is not mode or value.constant is not None or not _is_plain(value):
                return False
            key.append(_described(value))
            inputs.append(value)
        elif kind in _PLAIN:
            # 1, 1.0 and True are equal, and give other types.
            key += (kind, value)
        elif kind is list or kind is tuple:
            key += (kind, len(value))
            if not _describe(value, key, inputs, mode):
                return False
        elif kind is torch.Generator:
            # Which numbers come is no matter where none are computed.
            key += (kind, value.device)
        else:
            return False
    return True


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.dtype.is_complex and not tensor.is_quantized


def _described(tensor: Any) -> tuple[Any, ...]:
    return (
        tensor.shape,
        tensor.stride(),
        tensor.storage_offset(),
        tensor.dtype,
        tensor.fake_device,
        tensor.requires_grad,
    )  # fmt: skip


def _remember(call: _Call, done: Done) -> None:
    """Remember what came out of a call, where making it again gives the same."""
    gathers = type(done.result) if isinstance(done.result, list | tuple) else None
    results = done.result if gathers else (done.result,)
    if gathers not in (None, list, tuple):
        return
    outputs = []
    for result in results:
        output = None if result is None else _output_of(result, call)
        if result is not None and output is None:
            return
        outputs.append(output)
    if len({id(result) for result in results if result is not None}) < len(done.outputs):
        return
    known = _Known(tuple(outputs), gathers, done.facts)
    made = known.again(call)
    if all(map(_are_alike, made.outputs, done.outputs)):
        if len(_KNOWN) >= MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[call.key] = known


def _output_of(result: Any, call: _Call) -> _Output | None:
    """Return where a result comes from; None where that cannot be said."""
    if type(result) is not FakeTensor or result.constant is not None or not _is_plain(result):
        return None
    same = [place for place, tensor in enumerate(call.inputs) if tensor is result]
    if same:
        return _Output(is_input=same[0]) if len(same) == 1 else None
    address = result.untyped_storage()._cdata
    looks = any(tensor.untyped_storage()._cdata == address for tensor in call.inputs)
    if looks and len(call.inputs) > 1:
        return None
    return _Output(
        looks_at=0 if looks else None,
        shape=tuple(result.shape),
        stride=result.stride(),
        offset=int(result.storage_offset()),
        dtype=result.dtype,
        device=result.fake_device,
        state={name: value for name, value in vars(result).items() if name != "fake_mode"},
    )


def _made(output: _Output, call: _Call) -> Any:
    if output.is_input is not None:
        return call.inputs[output.is_input]
    with torch._C._DisableTorchDispatch():
        plain = torch.empty_strided(output.shape, output.stride, dtype=output.dtype, device=_META)
        if output.looks_at is not None:
            storage = call.inputs[output.looks_at].untyped_storage()
            plain.set_(storage, output.offset, output.shape, output.stride)
        # As the constructor does, which takes four times as long.
        made = Tensor._make_subclass(
            FakeTensor, plain, False, dispatch_device=True, device_for_backend_keys=output.device
        )
    torch._C._set_throw_on_mutable_data_ptr(made)
    made.__dict__.update(output.state, fake_mode=call.mode)
    return made


def _are_alike(one: Any, other: Any) -> bool:
    same = one.untyped_storage().nbytes() == other.untyped_storage().nbytes()
    keys = torch._C._dispatch_key_set(one) == torch._C._dispatch_key_set(other)
    return same and keys and vars(one) == vars(other) and _described(one) == _described(other)
