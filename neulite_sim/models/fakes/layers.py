"""What comes out of products, losses and normalisations. None where PyTorch is to be asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from neulite_sim.models.fakes.sketches import (
    First,
    Rule,
    Sketch,
    are_numbers,
    contiguous,
    is_usual,
    lies_plainly,
    like,
    operators,
)


def _product(one: Tensor, other: Tensor) -> Sketch | None:
    """Return a product of two matrices."""
    return _products(one, other) if one.ndim == 2 else None


def _pairwise(one: Tensor, other: Tensor) -> Sketch | None:
    """Return products of as many pairs of matrices."""
    return _products(one, other) if one.ndim == 3 else None


def _products(one: Tensor, other: Tensor) -> Sketch | None:
    fits = one.dtype == other.dtype and one.ndim == other.ndim and one.shape[:-2] == other.shape[:-2]
    if not fits or one.shape[-1] != other.shape[-2] or not one.is_floating_point():
        return None
    return contiguous((*one.shape[:-1], other.shape[-1]), one.dtype)


def _product_and(added: Tensor, one: Tensor, other: Tensor, **settings: Any) -> Sketch | None:
    found = _product(one, other)
    if found is None or added.dtype != one.dtype or not are_numbers(settings.values()):
        return None
    return found if tuple(added.shape) in (found.shape, found.shape[-1:]) else None


def _product_onto(target: Tensor, one: Tensor, other: Tensor, **settings: Any) -> First | None:
    found = _product_and(target, one, other, **settings)
    return First() if found is not None and found.shape == tuple(target.shape) else None


def _softmax(tensor: Tensor, dim: int, half_to_float: bool) -> Sketch | None:
    usual = is_usual(tensor) and not half_to_float and -tensor.ndim <= dim < tensor.ndim
    return contiguous(tensor.shape, tensor.dtype) if usual else None


def _softmax_back(gradient: Tensor, output: Tensor, dim: int, dtype: torch.dtype) -> Sketch | None:
    usual = is_usual(gradient) and is_usual(output) and gradient.shape == output.shape
    return contiguous(gradient.shape, dtype) if usual and dtype == gradient.dtype == output.dtype else None


def _likelihood(scores: Tensor, labels: Tensor, weight: Any, reduction: int, ignored: int) -> Any:
    usual = is_usual(scores) and scores.ndim == 2 and labels.shape == scores.shape[:1] and weight is None
    if not usual or labels.dtype is not torch.int64:
        return None
    return contiguous(() if reduction else labels.shape, scores.dtype), contiguous((), scores.dtype)


def _likelihood_back(
    gradient: Tensor, scores: Tensor, labels: Tensor, weight: Any, reduction: int, ignored: int, total: Tensor
) -> Sketch | None:
    usual = is_usual(scores) and scores.ndim == 2 and labels.shape == scores.shape[:1] and weight is None
    return contiguous(scores.shape, scores.dtype) if usual and gradient.dtype == scores.dtype else None


def _normalised(
    maps: Tensor, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, momentum: float, eps: float
) -> Any:
    """Return normalised maps, with mean and deviation of each channel where these are those of the batch."""
    if not _is_normalisable(maps) or not _are_of_channels((weight, bias, mean, variance), maps):
        return None
    channels = contiguous(maps.shape[1:2] if training else (0,), maps.dtype)
    found = like(maps)
    return (found, channels, channels) if found is not None and found.stride == maps.stride() else None


def _normalised_back(
    gradient: Tensor, maps: Tensor, weight: Any, mean: Any, variance: Any, saved_mean: Any, saved_deviation: Any,
    training: bool, eps: float, wanted: Sequence[bool],
) -> Any:  # fmt: skip
    """Return gradients of maps, weight and bias; PyTorch follows that of maps whether or not it is wanted."""
    if not _is_normalisable(maps) or gradient.shape != maps.shape or gradient.dtype != maps.dtype:
        return None
    saved = (saved_mean, saved_deviation) if training else ()
    if weight is None or not _are_of_channels((weight, mean, variance, *saved), maps):
        return None
    channels = contiguous(maps.shape[1:2], maps.dtype)
    if gradient.stride() != maps.stride() or (found := like(maps)) is None or found.stride != maps.stride():
        return None
    return found, channels if wanted[1] else None, channels if wanted[2] else None


def _is_normalisable(maps: Tensor) -> bool:
    return maps.ndim >= 2 and maps.dtype is torch.float32 and maps.numel() > 0


def _are_of_channels(tensors: Iterable[Any], maps: Tensor) -> bool:
    return all(each is None or (each.shape == maps.shape[1:2] and each.dtype == maps.dtype) for each in tensors)


def _joined(tensors: Sequence[Tensor], dim: int = 0) -> Sketch | None:
    first = tensors[0]
    if not first.ndim or any(tensor.ndim != first.ndim or tensor.dtype != first.dtype for tensor in tensors):
        return None
    if not -first.ndim <= dim < first.ndim:
        return None
    dim %= first.ndim
    others = {tuple(size for axis, size in enumerate(tensor.shape) if axis != dim) for tensor in tensors}
    if len(others) > 1 or not all(lies_plainly(tensor) and tensor.numel() for tensor in tensors):
        return None
    size = sum(tensor.shape[dim] for tensor in tensors)
    return contiguous((*first.shape[:dim], size, *first.shape[dim + 1 :]), first.dtype)


def _stacked(tensors: Sequence[Tensor], dim: int = 0) -> Sketch | None:
    first = tensors[0]
    if dim or any(tensor.shape != first.shape or tensor.dtype != first.dtype for tensor in tensors):
        return None
    return contiguous((len(tensors), *first.shape), first.dtype) if all(map(lies_plainly, tensors)) else None


def _on_diagonal(tensor: Tensor, offset: int = 0, *axes: Any) -> Sketch | None:
    if offset or axes or tensor.ndim != 1:
        return None
    return contiguous((*tensor.shape, *tensor.shape), tensor.dtype)


def _put_into(gradient: Tensor, sizes: Sequence[int], *others: Any) -> Sketch | None:
    """Return zeros of a larger shape with a gradient in some of their places."""
    return contiguous(sizes, gradient.dtype) if gradient.is_floating_point() else None


RULES: dict[Any, Rule] = {
    **dict.fromkeys(operators("mm"), _product),
    **dict.fromkeys(operators("bmm"), _pairwise),
    **dict.fromkeys(operators("addmm"), _product_and),
    **dict.fromkeys(operators("addmm_"), _product_onto),
    **dict.fromkeys(operators("_softmax", "_log_softmax"), _softmax),
    **dict.fromkeys(operators("_softmax_backward_data", "_log_softmax_backward_data"), _softmax_back),
    **dict.fromkeys(operators("nll_loss_forward"), _likelihood),
    **dict.fromkeys(operators("nll_loss_backward"), _likelihood_back),
    **dict.fromkeys(operators("native_batch_norm"), _normalised),
    **dict.fromkeys(operators("native_batch_norm_backward"), _normalised_back),
    **dict.fromkeys(operators("cat"), _joined),
    **dict.fromkeys(operators("stack"), _stacked),
    **dict.fromkeys(operators("diag_embed"), _on_diagonal),
    **dict.fromkeys(operators("slice_backward"), _put_into),
}
"""Rules by operator."""
