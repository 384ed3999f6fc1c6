"""Fake tensors without PyTorch's compiler: shapes, strides and types are followed, nothing is computed.

PyTorch's `FakeTensorMode` imports the compiler and SymPy, for settings and for sizes that are symbols: most of the
seconds of PyTorch itself, and 75 MB. `FakeMode` answers the usual operators by itself, and becomes what PyTorch has as
soon as it is asked for more: another operator, another device, a tensor that is not plain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    FakeTensor,
    FakeTensorConverter,
    FakeTensorMode,
    in_kernel_invocation_manager,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only

from neulite_sim.models.fakes import layers, maps, numbers
from neulite_sim.models.fakes.maps import convolved, convolved_back
from neulite_sim.models.fakes.sketches import First, Rule, Sketch, operators
from neulite_sim.models.light_mode import LightMode

_Rule = Callable[["FakeMode", Any, tuple[Any, ...], Mapping[str, Any]], Any]

RULES: Mapping[Any, Rule] = {**numbers.RULES, **layers.RULES, **maps.RULES}
"""What comes out of operators, where that follows from what goes in alone."""
_OF_PYTORCH = frozenset(FakeTensorMode.__init__.__code__.co_names)
"""Among them are the names that its constructor gives to what a mode holds."""
_CPU, _META = torch.device("cpu"), torch.device("meta")
aten = torch.ops.aten
_COPIES = (aten._to_copy.default, aten.clone.default)


class FakeMode(LightMode, FakeTensorMode):
    """PyTorch's `FakeTensorMode` with its defaults; usual operators import nothing."""

    def __init__(self) -> None:
        import torch._functorch.config as settings

        TorchDispatchMode.__init__(self)  # type: ignore[no-untyped-call]
        self.fake_tensor_converter = FakeTensorConverter()
        self.allow_meta = settings.fake_tensor_allow_meta
        self._allow_unsafe_data_ptr_access = settings.fake_tensor_allow_unsafe_data_ptr_access
        self.in_kernel_invocation = False
        self.enter_stack = []
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE

    def __getattr__(self, name: str) -> Any:
        """Let PyTorch's constructor make what is not here; what is here stays."""
        if name in _OF_PYTORCH and "shape_env" not in self.__dict__:
            self.__dict__.update({**FakeTensorMode().__dict__, **self.__dict__})
            return getattr(self, name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name}")

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Return what an operator makes of fake tensors."""
        made = self.answer(func, tuple(args), kwargs or {})
        return self.dispatch(func, types, args, kwargs or {}) if made is NotImplemented else made

    def answer(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return what an operator makes of fake tensors, `NotImplemented` where that is for PyTorch to say."""
        rule = None if torch.is_inference_mode_enabled() else _RULES.get(func)
        return NotImplemented if rule is None else rule(self, func, args, kwargs)


def _by_rule(mode: FakeMode, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Make what a rule of this project says."""
    if not _are_plain(mode, (args, kwargs)):
        return NotImplemented
    found = RULES[func](*args, **kwargs)
    if found is None:
        # Of what is dense the kernel makes a copy without a look at anything else.
        return _by_kernel(mode, func, args, kwargs) if func in _COPIES else NotImplemented
    if isinstance(found, First):
        return args[0]
    return _made(mode, found) if isinstance(found, Sketch) else tuple(_made(mode, each) for each in found)


def _made(mode: FakeMode, sketch: Sketch | None, layout: torch.memory_format | None = None) -> FakeTensor | None:
    if sketch is None:
        return None
    with torch._C._DisableTorchDispatch():
        bare = torch.empty_strided(sketch.shape, sketch.stride, dtype=sketch.dtype, device=_META)
        return FakeTensor(mode, bare if layout is None else bare.to(memory_format=layout), _CPU)


def _by_kernel(mode: FakeMode, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Ask the kernel for tensors without numbers, as PyTorch does for these operators."""
    if kwargs.get("device") not in (None, _CPU) or not _are_plain(mode, (args, kwargs)):
        return NotImplemented
    known: dict[int, tuple[Tensor, Tensor]] = {}
    with torch._C._DisableTorchDispatch():
        for tensor in tree_iter((args, kwargs)):
            if isinstance(tensor, Tensor):
                known[id(tensor)] = tensor, _bare(tensor)

        def bare(tree: Any) -> Any:
            return tree_map_only(Tensor, lambda tensor: known[id(tensor)][1], tree)

        device = {"device": _META} if "device" in kwargs or not known else {}
        made = func(*bare(args), **{**bare(kwargs), **device})
        ours = {id(plain): tensor for tensor, plain in known.values()}

        def fake(each: Tensor) -> Tensor:
            found = ours.get(id(each))
            return FakeTensor(mode, each, _CPU) if found is None else found

        return tree_map_only(Tensor, fake, made)


def _bare(tensor: Tensor) -> Tensor:
    """Return a tensor on no device that looks at the storage of a fake one.

    Calls of operators import all of PyTorch's distributed tensors where they meet a type that is not PyTorch's own.
    """
    bare = torch.empty(0, dtype=tensor.dtype, device=_META)
    return bare.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())


def _of_constants(mode: FakeMode, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Write numbers into one that is known; other tensors as the rule or the kernel says."""
    target = args[0]
    if not isinstance(target, FakeTensor) or target.constant is None:
        return (_by_rule if func in RULES else _by_kernel)(mode, func, args, kwargs)
    if target.fake_mode is not mode or any(isinstance(leaf, Tensor) for leaf in tree_iter((args[1:], kwargs))):
        return NotImplemented
    with torch._C._DisableTorchDispatch():
        func(target.constant, *args[1:], **kwargs)
    return target


def _at_random(mode: FakeMode, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Fill a tensor with random numbers, of which there are none; what cannot be drawn is for PyTorch to say."""
    usual = _are_plain(mode, (args, kwargs)) and args[0].is_floating_point() and _CAN_BE_DRAWN[func](*args[1:])
    return args[0] if usual else NotImplemented


def _counted(mode: FakeMode, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Make a tensor of whole numbers that follow each other."""
    start, end, step = {1: (0, *args, 1), 2: (*args, 1), 3: args}[len(args)]
    plain = all(type(each) is int for each in (start, end, step)) and kwargs.get("dtype") is None
    # Which steps lead nowhere is for PyTorch to say.
    plain = plain and step != 0 and (end - start) * step >= 0
    if not plain or not _is_wanted_here(kwargs):
        return NotImplemented
    with torch._C._DisableTorchDispatch():
        numbers = torch.empty(max(0, -(-(end - start) // step)), dtype=torch.int64, device=_META)
        return FakeTensor(mode, numbers, _CPU)


def _is_wanted_here(kwargs: Mapping[str, Any]) -> bool:
    """Return whether a new tensor is to be a plain one on a processor."""
    return kwargs.get("device") in (None, _CPU) and kwargs.get("layout") in (None, torch.strided)


def _new_at_random(mode: FakeMode, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Make a tensor of random numbers, of which there are none."""
    (shape,) = (each for each in args if isinstance(each, list | tuple))
    if not _is_wanted_here(kwargs):
        return NotImplemented
    dtype = kwargs.get("dtype") or (torch.int64 if "randint" in func.name() else torch.get_default_dtype())
    with torch._C._DisableTorchDispatch():
        return FakeTensor(mode, torch.empty(shape, dtype=dtype, device=_META), _CPU)


def _outright(mode: FakeMode, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call what has nothing to do with tensors: optimizers tell a profiler of each of their steps."""
    with torch._C._DisableTorchDispatch():
        return func(*args, **kwargs)


def _taken_over(mode: FakeMode, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Follow a tensor that was made of numbers; one number is kept, as counters of optimizers are asked for theirs."""
    (real,) = args
    if type(real) is not Tensor or real.device != _CPU or real.requires_grad or not _is_plain(real):
        return NotImplemented
    with torch._C._DisableTorchDispatch():
        bare = torch.empty_strided(real.shape, real.stride(), dtype=real.dtype, device=_META)
        if real.numel() > 1:
            return FakeTensor(mode, bare, _CPU)
        kept = func(real).clone()
        fake = FakeTensor(mode, bare, _CPU, constant=kept)
    mode.fake_tensor_converter.set_tensor_memo(kept, fake)
    mode.fake_tensor_converter.add_constant_storage_mapping(fake)
    return fake


def _convolution(mode: FakeMode, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Convolve as `_by_kernel`; results lie in memory as the backend that is chosen for a processor lays them out."""
    if kwargs or not _are_plain(mode, args):
        return NotImplemented
    is_forward = func is aten.convolution.default
    found = convolved(*args) if is_forward else convolved_back(*args)
    if found is None:
        return NotImplemented
    maps, weight = args[:2] if is_forward else args[1:3]
    names = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
    bias, bias_sizes = (args[2], None) if is_forward else (None, args[3])
    chosen: dict[str, Any] = dict(zip(names, args[3:9] if is_forward else args[4:10], strict=True), bias=bias)
    if bias is None:
        chosen["bias_sizes"] = bias_sizes
    with mode:
        backend = torch._C._select_conv_backend(maps, weight, **chosen)
        layout = torch._C._conv_determine_backend_memory_format(maps, weight, backend)
    if isinstance(found, Sketch):
        return _made(mode, found, layout)
    of_maps, of_weight, of_bias = found
    return _made(mode, of_maps, layout), _made(mode, of_weight, layout), _made(mode, of_bias)


def _turned(mode: FakeMode, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Let a tensor look at its storage in another way from now on."""
    if kwargs or not _are_plain(mode, args):
        return NotImplemented
    with in_kernel_invocation_manager(mode):
        return args[0].as_strided_(*args[1:])


def _are_plain(mode: FakeMode, tree: Any) -> bool:
    """Return whether all tensors are plain ones of a mode, without a value, on a processor."""
    return all(
        type(tensor) is FakeTensor
        and tensor.fake_mode is mode
        and tensor.fake_device == _CPU
        and tensor.constant is None
        and _is_plain(tensor)
        for tensor in tree_iter(tree)
        if isinstance(tensor, Tensor)
    )


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.dtype.is_complex and not tensor.is_quantized


_VIEWS = (
    *("_unsafe_view", "alias", "as_strided", "detach", "diagonal", "expand", "permute", "select.int", "slice.Tensor"),
    *("split.Tensor", "split_with_sizes", "squeeze.dim", "t", "transpose.int", "unbind.int", "unsqueeze", "view"),
)
_NEW = (
    "empty.memory_format",
    "empty_strided",
    "full.default",
    "new_empty",
    "new_empty_strided",
    "new_zeros",
    "ones",
    "zeros",
)
_BY_KERNEL = operators(*_VIEWS, *_NEW, "copy_", "relu_", "scalar_tensor", "sum")
_CAN_BE_DRAWN: dict[Any, Callable[..., bool]] = {
    aten.bernoulli_.float: lambda chance=0.5: 0 <= chance <= 1,
    aten.normal_.default: lambda mean=0.0, deviation=1.0: deviation >= 0,
    aten.uniform_.default: lambda low=0.0, high=1.0: low <= high,
}
_NEW_AT_RANDOM = operators("rand", "rand.generator", "randn", "randn.generator", "randint", "randint.low")
_RULES: dict[Any, _Rule] = {
    **dict.fromkeys(RULES, _by_rule),
    **dict.fromkeys(_BY_KERNEL, _by_kernel),
    **dict.fromkeys(operators("add_.Tensor", "fill_.Scalar", "mul_.Tensor", "zero_"), _of_constants),
    **dict.fromkeys(_CAN_BE_DRAWN, _at_random),
    **dict.fromkeys(_NEW_AT_RANDOM, _new_at_random),
    **dict.fromkeys(operators("arange", "arange.start", "arange.start_step"), _counted),
    **dict.fromkeys(operators("convolution", "convolution_backward"), _convolution),
    aten.lift_fresh.default: _taken_over,
    aten.as_strided_.default: _turned,
    torch.ops.profiler._record_function_enter_new.default: _outright,
    torch.ops.profiler._record_function_exit._RecordFunction: _outright,
}
