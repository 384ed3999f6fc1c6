"""What comes out of operators on maps of two axes. None where PyTorch is to be asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from neulite_sim.models.fakes.sketches import Rule, Sketch, contiguous, laid_out_as, operators


def places(size: int, kernel: int, stride: int, padding: int, dilation: int = 1, rounds_up: bool = False) -> int:
    """Return how many places a window takes along an axis; with `rounds_up` the last may reach beyond its end."""
    reach = size + 2 * padding - dilation * (kernel - 1) - 1
    if not rounds_up:
        return reach // stride + 1
    count = -(-reach // stride) + 1
    return count - 1 if (count - 1) * stride >= size + padding else count


def _pooled(
    maps: Tensor, kernel: Any, stride: Any = (), padding: Any = (0,), dilation: Any = (1,), rounds_up: bool = False
) -> Any:
    """Return the greatest of each window, and where it was."""
    lists = (kernel, stride or kernel, padding, dilation)
    if not maps.is_floating_point() or maps.ndim != 4 or any(len(each) > 2 for each in lists):
        return None
    steps = [*zip(*map(_twice, lists), strict=True)]
    if not all(_are_sound(*each) for each in steps):
        return None
    sizes = [
        places(size, window, step, around, between, rounds_up)
        for size, (window, step, around, between) in zip(maps.shape[2:], steps, strict=True)
    ]
    if min(sizes) < 1 or any(2 * each[2] > each[0] for each in steps):
        return None
    shape = (*maps.shape[:2], *sizes)
    found = laid_out_as(maps, shape, maps.dtype), laid_out_as(maps, shape, torch.int64)
    return None if None in found else found


def _pooled_back(gradient: Tensor, maps: Tensor, *others: Any) -> Sketch | None:
    usual = maps.ndim == 4 and gradient.ndim == 4 and gradient.dtype == maps.dtype and maps.is_floating_point()
    return laid_out_as(maps, tuple(maps.shape), maps.dtype) if usual else None


def convolved(
    maps: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int,
) -> Sketch | None:  # fmt: skip
    """Return the maps that a convolution over two axes gives, contiguous."""
    if maps.ndim != 4 or weight.ndim != 4 or maps.dtype != weight.dtype or not maps.numel():
        return None
    taken, given = (
        (weight.shape[0], weight.shape[1] * groups) if transposed else (weight.shape[1] * groups, len(weight))
    )
    if groups < 1 or maps.shape[1] != taken or given % groups or (any(output_padding) and not transposed):
        return None
    if bias is not None and (tuple(bias.shape) != (given,) or bias.dtype != weight.dtype):
        return None
    steps = zip(weight.shape[2:], *(_twice(each) for each in (stride, padding, dilation, output_padding)), strict=True)
    sizes = []
    for size, (kernel, step, around, between, more) in zip(maps.shape[2:], steps, strict=True):
        if not _are_sound(kernel, step, around, between) or (transposed and not 0 <= more < max(step, between)):
            return None
        back = (size - 1) * step - 2 * around + between * (kernel - 1) + more + 1
        sizes.append(back if transposed else places(size, kernel, step, around, between))
    return contiguous((maps.shape[0], given, *sizes), maps.dtype) if min(sizes) > 0 else None


def convolved_back(
    gradient: Tensor, maps: Tensor, weight: Tensor, bias_sizes: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int, wanted: Sequence[bool],
) -> tuple[Sketch | None, ...] | None:  # fmt: skip
    """Return the gradients of maps, weight and bias, contiguous; None for each that is not wanted."""
    if transposed:
        return None
    forward = convolved(maps, weight, None, stride, padding, dilation, transposed, output_padding, groups)
    if forward is None or forward.shape != tuple(gradient.shape) or gradient.dtype != maps.dtype:
        return None
    of = (maps.shape, weight.shape, weight.shape[:1])
    return tuple(contiguous(shape, maps.dtype) if want else None for shape, want in zip(of, wanted, strict=True))


def _padded(maps: Tensor, beside: Sequence[int], number: Any = 0) -> Sketch | None:
    """Return maps with numbers around them, or without their rims where fewer are wanted."""
    if maps.ndim != 4 or not maps.is_floating_point() or len(beside) % 2 or len(beside) > 8:
        return None
    pairs = [*zip(beside[::2], beside[1::2], strict=True)][::-1]
    if any(-min(pair) >= size for pair, size in zip(reversed(pairs), reversed(maps.shape), strict=False)):
        return None
    more = [0] * (4 - len(pairs)) + [sum(pair) for pair in pairs]
    shape = tuple(size + each for size, each in zip(maps.shape, more, strict=True))
    return laid_out_as(maps, shape, maps.dtype) if min(shape) > 0 else None


def _resized(maps: Tensor, sizes: Sequence[int], *others: Any) -> Sketch | None:
    if maps.ndim != 4 or not maps.is_floating_point() or len(sizes) != 2 or min(sizes) < 1:
        return None
    return laid_out_as(maps, (*maps.shape[:2], *sizes), maps.dtype)


def _resized_back(gradient: Tensor, sizes: Sequence[int], before: Sequence[int], *others: Any) -> Sketch | None:
    if gradient.ndim != 4 or not gradient.is_floating_point():
        return None
    return laid_out_as(gradient, tuple(before), gradient.dtype)


def _are_sound(window: int, step: int, around: int, between: int) -> bool:
    """Return whether windows may be placed like that; where not it is for PyTorch to say why."""
    return window > 0 and step > 0 and around >= 0 and between > 0


def _twice(each: Sequence[int]) -> tuple[int, int]:
    return (each[0], each[0]) if len(each) == 1 else (each[0], each[1])


RULES: dict[Any, Rule] = {
    **dict.fromkeys(operators("max_pool2d_with_indices"), _pooled),
    **dict.fromkeys(operators("max_pool2d_with_indices_backward"), _pooled_back),
    **dict.fromkeys(operators("upsample_nearest2d", "upsample_bilinear2d"), _resized),
    **dict.fromkeys(operators("upsample_nearest2d_backward", "upsample_bilinear2d_backward"), _resized_back),
    **dict.fromkeys(operators("constant_pad_nd"), _padded),
}
"""Rules by operator. Convolutions are none of them: how their results lie is the choice of a backend."""
