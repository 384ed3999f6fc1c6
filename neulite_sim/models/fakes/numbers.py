"""What comes out of operators that work number by number, or over axes. None where PyTorch is to be asked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from neulite_sim.models.fakes.sketches import (
    First,
    Rule,
    Sketch,
    are_numbers,
    contiguous,
    elementwise,
    is_canonical,
    is_packed,
    is_usual,
    like,
    operators,
)


def _unary(tensor: Tensor, *numbers: Any, **settings: Any) -> Sketch | None:
    """Return what comes of each number alone, with numbers of the call beside it."""
    if not tensor.is_floating_point() or not are_numbers((*numbers, *settings.values())):
        return None
    return like(tensor)


def _clipped(tensor: Tensor, *bounds: Any) -> Sketch | None:
    """Return numbers brought between bounds; PyTorch has its own way with strides of axes of one place there."""
    return _unary(tensor, *bounds) if is_canonical(tensor) or 1 not in tensor.shape else None


def _unary_of_any(tensor: Tensor, number: Any, times: Any = 1) -> Sketch | None:
    """Return what comes of whole numbers with a whole number, or as `_unary`."""
    if tensor.dtype is torch.int64 and type(number) is int and type(times) is int:
        return like(tensor)
    return _unary(tensor, number, times)


def _binary(one: Tensor, other: Any, *numbers: Any, **settings: Any) -> Sketch | None:
    """Return what comes of two tensors of floating-point numbers."""
    if not are_numbers((*numbers, *settings.values())) or not one.is_floating_point():
        return None
    if isinstance(other, Tensor):
        return elementwise(one, other)
    return like(one) if are_numbers([other]) else None


def _slope(gradient: Tensor, numbers: Tensor, *others: Any, **settings: Any) -> Sketch | None:
    """Return a gradient that depends on what was computed at its place."""
    found = _binary(gradient, numbers, *others, **settings)
    return found if gradient.stride() == numbers.stride() else None


def _threshold_back(gradient: Tensor, numbers: Tensor, threshold: Any) -> Sketch | None:
    """Return the gradient where numbers are greater than a threshold; these decide how it lies."""
    return _binary(numbers, gradient, threshold) if is_canonical(numbers) or 1 not in numbers.shape else None


def _product_added(added: Tensor, one: Tensor, other: Tensor, **settings: Any) -> Sketch | None:
    """Return a tensor and a product of two, where it does not matter which of them is asked first how it lies."""
    if not added.is_floating_point() or not are_numbers(settings.values()):
        return None
    found = elementwise(added, one, other)
    return found if found == elementwise(one, other, added) else None


def _compared(one: Tensor, other: Any) -> Sketch | None:
    if isinstance(other, Tensor):
        return elementwise(one, other, dtype=torch.bool)
    return like(one, torch.bool)


def _where(condition: Tensor, one: Tensor, other: Tensor) -> Sketch | None:
    if condition.dtype is not torch.bool or condition.shape != one.shape or condition.stride() != one.stride():
        return None
    usual = is_canonical(one) and (one.shape == other.shape or not other.ndim)
    return elementwise(one, other) if usual else None


def _bitwise(one: Tensor, other: Any) -> Sketch | None:
    return elementwise(one, other) if isinstance(other, Tensor) else None


def _masked(tensor: Tensor, mask: Tensor, number: Any) -> Sketch | None:
    """Return a tensor with a number in some of its places."""
    usual = is_usual(tensor) and mask.is_contiguous() and are_numbers([number])
    fits = tuple(mask.shape) == tuple(tensor.shape)[tensor.ndim - mask.ndim :] and mask.ndim <= tensor.ndim
    return contiguous(tensor.shape, tensor.dtype) if usual and fits else None


def _in_place(target: Tensor, *others: Any, **settings: Any) -> First | None:
    """Return the first, into which tensors of its shape, or one number, are written."""
    for other in (*others, *settings.values()):
        if isinstance(other, Tensor):
            if other.dtype != target.dtype or (other.shape != target.shape and other.ndim):
                return None
        elif not are_numbers([other]):
            return None
    return First() if target.is_floating_point() else None


def _in_place_of_any(target: Tensor, *others: Any, **settings: Any) -> First | None:
    """Return the first, into which whole numbers are written where it has such, or as `_in_place`."""
    if target.dtype is not torch.int64:
        return _in_place(target, *others, **settings)
    whole = all(type(other) is int or isinstance(other, Tensor) for other in (*others, *settings.values()))
    found = (other for other in others if isinstance(other, Tensor))
    fits = all(other.dtype is torch.int64 and (other.shape == target.shape or not other.ndim) for other in found)
    return First() if whole and fits else None


def _reduced(tensor: Tensor, dims: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Sketch | None:
    """Return a sum or mean over axes."""
    if not tensor.is_floating_point() or dtype is not None or not tensor.numel():
        return None
    if any(not -tensor.ndim <= dim < tensor.ndim for dim in dims or ()):
        return None
    over = {dim % tensor.ndim for dim in dims} if dims else set(range(tensor.ndim))
    if dims and len(over) < len(dims):
        return None
    left = [axis for axis in range(tensor.ndim) if axis not in over and tensor.shape[axis] > 1]
    # Where the axes that are left lie in another order it is PyTorch that knows.
    if sorted(left, key=tensor.stride, reverse=True) != left:
        return None
    kept = [1 if axis in over else size for axis, size in enumerate(tensor.shape) if keepdim or axis not in over]
    return contiguous(kept, tensor.dtype)


def _mean(tensor: Tensor, *, dtype: Any = None) -> Sketch | None:
    return _reduced(tensor, dtype=dtype)


def _norm(tensor: Tensor, order: Any = 2, dims: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    return _reduced(tensor, dims, keepdim, dtype=dtype)


def _squares(one: Tensor, other: Tensor, reduction: int = 1) -> Sketch | None:
    found = _slope(one, other)
    return contiguous((), one.dtype) if found is not None and reduction else found


def _squares_back(gradient: Tensor, one: Tensor, other: Tensor, reduction: int) -> Sketch | None:
    usual = not gradient.ndim and gradient.dtype == one.dtype and one.shape == other.shape
    return _slope(one, other) if usual and one.is_contiguous() else None


def _copied_like(tensor: Tensor, **settings: Any) -> Sketch | None:
    """Return a copy, or a tensor of the same shape, in the layout that is asked for, or its own."""
    device, layout = settings.get("device"), settings.get("memory_format")
    if settings.get("layout") not in (None, torch.strided) or settings.get("pin_memory"):
        return None
    if (device is not None and device.type != "cpu") or layout not in (None, torch.preserve_format):
        return None
    return like(tensor, settings.get("dtype"))


def _copied(tensor: Tensor, **settings: Any) -> Sketch | None:
    """Return a copy of what has holes, or overlaps itself; a dense one keeps its strides to the last."""
    order = sorted(range(tensor.ndim), key=tensor.stride)
    is_dense = is_packed(tensor.shape, tensor.stride(), (axis for axis in order if tensor.shape[axis] != 1))
    return None if is_dense else _copied_like(tensor, **settings)


_UNARY = ("neg", "sqrt", "exp", "log", "reciprocal", "expm1", "rsqrt", "tanh", "sigmoid", "pow.Tensor_Scalar")
_COMPARED = ("ne.Tensor", "eq.Tensor", "gt.Scalar", "le.Scalar", "ge.Scalar", "lt.Scalar")
_IN_PLACE = ("addcdiv_", "addcmul_", "clamp_min_", "div_.Scalar", "div_.Tensor", "lerp_.Scalar", "sigmoid_", "sqrt_")
RULES: dict[Any, Rule] = {
    **dict.fromkeys(operators(*_UNARY, "silu", "gelu"), _unary),
    **dict.fromkeys(operators("clamp", "clamp_min", "hardtanh", "relu"), _clipped),
    **dict.fromkeys(operators("div.Scalar", "rsub.Scalar"), _unary),
    **dict.fromkeys(operators("add.Scalar", "sub.Scalar", "mul.Scalar", "remainder.Scalar"), _unary_of_any),
    **dict.fromkeys(operators("add.Tensor", "sub.Tensor", "mul.Tensor", "div.Tensor"), _binary),
    **dict.fromkeys(
        operators("tanh_backward", "sigmoid_backward", "silu_backward", "gelu_backward", "xlogy.Tensor"), _slope
    ),
    **dict.fromkeys(operators(*_COMPARED), _compared),
    **dict.fromkeys(operators(*_IN_PLACE), _in_place),
    **dict.fromkeys(operators("add_.Tensor", "mul_.Tensor", "sub_.Tensor"), _in_place_of_any),
    **dict.fromkeys(operators("sum.dim_IntList", "mean.dim"), _reduced),
    **dict.fromkeys(operators("empty_like", "ones_like", "zeros_like"), _copied_like),
    **dict.fromkeys(operators("_to_copy", "clone"), _copied),
    **dict.fromkeys(operators("bitwise_and.Tensor"), _bitwise),
    **dict.fromkeys(operators("mean"), _mean),
    **dict.fromkeys(operators("linalg_vector_norm"), _norm),
    **dict.fromkeys(operators("masked_fill.Scalar"), _masked),
    **dict.fromkeys(operators("mse_loss"), _squares),
    **dict.fromkeys(operators("mse_loss_backward"), _squares_back),
    **dict.fromkeys(operators("addcmul"), _product_added),
    **dict.fromkeys(operators("threshold_backward"), _threshold_back),
    **dict.fromkeys(operators("where.self"), _where),
}
"""Rules by operator."""
