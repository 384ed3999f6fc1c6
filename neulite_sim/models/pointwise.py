"""Strided 1x1 convolutions, whose weight gradient oneDNN must not take as it is.

oneDNN, PyTorch's library of kernels for processors, overruns its scratch memory in one place (seen in 3.12.0; reported
as https://github.com/uxlfoundation/oneDNN/issues/6035). The weight gradient of a strided 1x1 convolution copies the
pixels it looks at aside first. With channels innermost it reserves `pixels * channels` numbers for them but steps by
its block of channels (8 with AVX2, 16 with AVX-512), so with fewer channels it writes past the end: a crash, a hang or
wrong numbers. That copy is made where the kernel is 1x1, there are neither groups nor padding, and the strides divide
the sides (`overruns`). Forward pass and gradient of the images use other kernels.

The way out is to view the strided pixels and convolve them without a stride: the same sums in the same order. Networks
here do it themselves (`PointwiseConvolution`); in anybody's network a `KernelGuard` does it in the backward pass, with
`thinned_gradients`. `verification/convolution_layouts.py` scans for more such places. May go once every PyTorch allowed
has a oneDNN without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules.conv import _ConvNd

CHANNEL_BLOCK = 16
"""The largest block of channels of oneDNN's kernels, that of AVX-512. With as many channels none of them overruns."""

SAME_KERNEL = 2
"""Dilation of an unstrided 1x1 convolution. The sums do not depend on it, but PyTorch gives small ones without stride
and dilation to another library, with other last bits than those of the strided convolution."""

CONVOLUTION_BACKWARD = torch.ops.aten.convolution_backward.default


def overruns(
    weight: Sequence[int],
    large_sides: Sequence[int],
    small_sides: Sequence[int],
    *,
    stride: Sequence[int],
    padding: Sequence[int],
    groups: int,
) -> bool:
    """Return whether oneDNN may overrun its scratch memory for the weight gradient of a convolution of these shapes.

    `weight` is a whole shape; the sides are those of the maps that the stride thins out and of the thinned ones: images
    and result, or of a transposed convolution the other way round. Instruction set, type and layout are left out: the
    kernel is chosen by them, but they are not all known here.
    """
    return (
        _is_narrow(weight, stride=stride, padding=padding, groups=groups)
        and len(weight) in (3, 4)
        and all(side == step * left for side, step, left in zip(large_sides, stride, small_sides, strict=True))
    )


def _is_narrow(weight: Sequence[int], *, stride: Sequence[int], padding: Sequence[int], groups: int) -> bool:
    is_pointwise = all(side == 1 for side in weight[2:]) and not any(padding) and groups == 1
    return is_pointwise and weight[1] < CHANNEL_BLOCK and any(step > 1 for step in stride)


def thinned(maps: Tensor, stride: Sequence[int]) -> Tensor:
    """Return a view of the pixels that a 1x1 convolution of this stride looks at."""
    return maps[(slice(None), slice(None), *(slice(None, None, step) for step in stride))]


class _Thinned(torch.autograd.Function):
    """`thinned` for maps `[B, C, H, W]`; its gradient keeps their memory layout, which that of a slice does not."""

    @staticmethod
    def forward(ctx: Any, maps_BCHW: Tensor, stride: tuple[int, int]) -> Tensor:
        is_last = maps_BCHW.is_contiguous(memory_format=torch.channels_last)
        ctx.layout = torch.channels_last if is_last else torch.contiguous_format
        ctx.shape, ctx.stride = maps_BCHW.shape, stride
        return thinned(maps_BCHW, stride)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        whole = torch.empty(ctx.shape, dtype=grads[0].dtype, memory_format=ctx.layout).zero_()
        thinned(whole, ctx.stride).copy_(grads[0])
        return whole, None


class PointwiseConvolution(nn.Conv2d):
    """A 1x1 convolution without padding that thins its maps first, in place of a stride, where the stride is unsafe.

    Fake steps take the stride: devices are charged for the convolution that the network is defined by.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, *, bias: bool = True) -> None:
        super().__init__(channels_in, channels_out, 1, stride, bias=bias)

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        """Return a map of sides divided by the stride and rounded up."""
        sides = maps_BCHW.shape[2:]
        left = [-(-side // step) for side, step in zip(sides, self.stride, strict=True)]
        if is_real(maps_BCHW) and overruns(
            self.weight.shape, sides, left, stride=self.stride, padding=(0, 0), groups=1
        ):
            seen: Tensor = _Thinned.apply(maps_BCHW, self.stride)  # type: ignore[no-untyped-call]
            return F.conv2d(seen, self.weight, self.bias, dilation=SAME_KERNEL)
        return super().forward(maps_BCHW)


def thinned_gradients(args: Sequence[Any]) -> tuple[Tensor | None, ...] | None:
    """Return what `convolution_backward` returns of these arguments, from thinned maps; None where it is safe as it is.

    It sees each convolution, whatever module, function or script it comes from and whatever the layout of its maps.
    """
    grad, maps, weight, bias_sizes, stride, padding, _, is_transposed, _, groups, wanted = args
    dimensions = weight.ndim - 2
    # An operator that is called directly may have one number for all dimensions.
    stride, padding = (list(given) * (dimensions // len(given)) for given in (stride, padding))
    large, small = (grad, maps) if is_transposed else (maps, grad)
    shapes = (weight.shape, large.shape[2:], small.shape[2:])
    if not any(wanted[1:]) or not overruns(*shapes, stride=stride, padding=padding, groups=groups):
        return None
    of_maps = CONVOLUTION_BACKWARD(*args[:-1], [wanted[0], False, False])[0] if wanted[0] else None
    seen = (thinned(grad, stride), maps) if is_transposed else (grad, thinned(maps, stride))
    ones, zeros, same = ([value] * dimensions for value in (1, 0, SAME_KERNEL))
    geometry = (ones, zeros, same, is_transposed, zeros, groups)
    of_weight, of_bias = CONVOLUTION_BACKWARD(*seen, weight, bias_sizes, *geometry, [False, *wanted[1:]])[1:]
    if is_transposed and wanted[2]:
        of_bias = grad.sum(dim=[0, *range(2, grad.ndim)])
    return of_maps, of_weight, of_bias


def holds_overrunning(module: nn.Module) -> bool:
    """Return whether a module holds a convolution whose weight gradient could overrun; a walk through all layers."""
    return any(map(_may_overrun, module.modules()))


def _may_overrun(layer: nn.Module) -> bool:
    return (
        isinstance(layer, _ConvNd)
        and not isinstance(layer, PointwiseConvolution)
        and _is_narrow(
            layer.weight.shape,
            stride=layer.stride,
            padding=() if isinstance(layer.padding, str) else layer.padding,
            groups=layer.groups,
        )
    )


def is_real(tensor: Tensor) -> bool:
    """Return whether a tensor lies in the memory of this machine's processor, and is no fake one."""
    return tensor.device.type == "cpu" and not isinstance(tensor, FakeTensor)
