"""A tensor as it comes out of an operator: shape, strides and type.

Where an operator works number by number its result is dense, with the axes in the order of what goes in, as PyTorch's
`TensorIterator` has it (`aten/src/ATen/TensorIterator.cpp`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

CHANNELS_LAST = (1, 3, 2, 0)
"""Axes of maps from the densest."""
_KEEPS_NO_ODD_STRIDES = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 13)
"""Before, whether an axis of one place kept its stride was another matter."""


class Sketch(NamedTuple):
    """A tensor with a storage of its own, as it comes out."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


class First(NamedTuple):
    """The first argument comes out, written to."""


Rule = Callable[..., Sketch | First | tuple[Sketch | None, ...] | None]
"""Returns what comes out of an operator called in that way; None where PyTorch is to be asked."""


def operators(*names: str) -> tuple[Any, ...]:
    """Return operators of ATen, named with their overload where that is not the default."""
    parted = (name.partition(".") for name in names)
    return tuple(getattr(getattr(torch.ops.aten, packet), overload or "default") for packet, _, overload in parted)


def contiguous(shape: Iterable[int], dtype: torch.dtype) -> Sketch:
    """Return a tensor whose last axis lies densest."""
    shape = tuple(shape)
    return _packed(shape, range(len(shape) - 1, -1, -1), dtype)


def like(tensor: Tensor, dtype: torch.dtype | None = None) -> Sketch | None:
    """Return one of the shape of `tensor`, whose axes lie in the same order."""
    return elementwise(tensor, dtype=dtype)


def elementwise(*tensors: Tensor, dtype: torch.dtype | None = None) -> Sketch | None:
    """Return what is computed number by number of tensors of one type, which may be spread over each other."""
    first = tensors[0]
    if any(tensor.dtype != first.dtype for tensor in tensors):
        return None
    # One number beside others has no say in how these lie.
    deciding = [tensor for tensor in tensors if tensor.ndim]
    ndim = max((tensor.ndim for tensor in deciding), default=0)
    padded = [(1,) * (ndim - tensor.ndim) + tuple(tensor.shape) for tensor in deciding]
    sizes = [{size for size in column if size != 1} for column in zip(*padded, strict=True)]
    if any(len(column) > 1 or 0 in column for column in sizes):
        return None
    shape = tuple(max(column, default=1) for column in sizes)
    are_known = _KEEPS_NO_ODD_STRIDES and all(tensor.ndim == ndim for tensor in deciding)
    if 1 in shape and not (are_known or all(map(is_canonical, deciding))):
        return None
    return _lying(shape, [_spread(tensor, shape) for tensor in deciding], dtype or first.dtype)


def is_canonical(tensor: Tensor) -> bool:
    """Return whether a tensor lies as PyTorch makes one, contiguous or channels-last."""
    shape = tuple(tensor.shape)
    orders = [range(tensor.ndim - 1, -1, -1), *([CHANNELS_LAST] if tensor.ndim == 4 else [])]
    return any(_packed(shape, order, tensor.dtype).stride == tensor.stride() for order in orders)


def _spread(tensor: Tensor, shape: tuple[int, ...]) -> list[int]:
    """Return the strides of a tensor as one of a larger shape."""
    new = len(shape) - tensor.ndim
    each = zip(tensor.shape, tensor.stride(), shape[new:], strict=True)
    strides = [stride if size == wanted else 0 for size, stride, wanted in each]
    return [tensor.stride(0) * tensor.shape[0] if size == 1 else 0 for size in shape[:new]] + strides


def _lying(shape: tuple[int, ...], strides: Sequence[Sequence[int]], dtype: torch.dtype) -> Sketch:
    """Return a dense tensor whose axes are ordered as those of tensors with `strides`, the first that tells.

    As PyTorch's `TensorIterator` has it, with its way out where all are contiguous or all channels-last.
    """
    plain = tuple(range(len(shape) - 1, -1, -1))
    are_plain = all(is_packed(shape, stride, plain) for stride in strides)
    are_last = len(shape) == 4 and all(is_packed(shape, stride, CHANNELS_LAST) for stride in strides)
    if are_plain != are_last:
        return _packed(shape, plain if are_plain else CHANNELS_LAST, dtype)
    return _packed(shape, _order_of(shape, strides), dtype)


def is_packed(shape: Sequence[int], stride: Sequence[int], order: Iterable[int]) -> bool:
    """Return whether axes lie one behind the other in an order from the densest; those of one place lie anywhere."""
    step = 1
    for axis in order:
        if shape[axis] != 1 and stride[axis] != step:
            return False
        step *= shape[axis]
    return True


def _packed(shape: tuple[int, ...], order: Iterable[int], dtype: torch.dtype) -> Sketch:
    stride, step = [0] * len(shape), 1
    for axis in order:
        stride[axis] = step
        step *= max(shape[axis], 1)
    return Sketch(shape, tuple(stride), dtype)


def _order_of(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> list[int]:
    """Return the axes from the densest, by insertion; the first tensor that tells two apart decides."""

    def is_denser(one: int, other: int) -> bool | None:
        for stride in strides:
            if not stride[one] or not stride[other]:
                continue
            if stride[one] != stride[other]:
                return stride[one] < stride[other]
            if shape[one] > shape[other]:
                return False
        return None

    order = list(range(len(shape) - 1, -1, -1))
    for start in range(1, len(shape)):
        place = start
        for before in range(start - 1, -1, -1):
            found = is_denser(order[before], order[place])
            if found:
                break
            if found is False:
                order[before], order[place] = order[place], order[before]
                place = before
    return order


def laid_out_as(maps: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Sketch | None:
    """Return maps that are contiguous or channels-last as others are; None where these are both, or neither."""
    is_plain, is_last = maps.is_contiguous(), maps.is_contiguous(memory_format=torch.channels_last)
    if is_plain == is_last or not maps.numel() or not is_canonical(maps):
        return None
    return contiguous(shape, dtype) if is_plain else _packed(shape, CHANNELS_LAST, dtype)


def is_usual(tensor: Tensor) -> bool:
    """Return whether a tensor holds floating-point numbers, some, and lies plainly."""
    return tensor.is_floating_point() and lies_plainly(tensor) and tensor.numel() > 0


def lies_plainly(tensor: Tensor) -> bool:
    """Return whether a tensor is contiguous, in every stride, and could not be taken for a channels-last one."""
    is_last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return not is_last and contiguous(tensor.shape, tensor.dtype).stride == tensor.stride()


def are_numbers(values: Iterable[Any]) -> bool:
    """Return whether these are numbers, names or nothing, rather than tensors or anything else."""
    return all(value is None or type(value) in (int, float, str, bool) for value in values)
