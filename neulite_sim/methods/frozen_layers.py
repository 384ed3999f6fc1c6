"""Layers that nothing trains and gradients pass through: what they keep for that is no map.

PyTorch's autograd keeps what a convolution and a BatchNorm read, trained or not. Where their weights are constants,
the gradient of what they read does not depend on it: a transposed convolution with the same weights, and the product
with a constant of each channel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from neulite_sim.models.pointwise import PointwiseConvolution
from neulite_sim.models.replacing import replaced
from neulite_sim.models.standing_in import StandIn, is_plain

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, PointwiseConvolution)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""Layers that do this and nothing else: a subclass of one may, such as a BatchNorm that goes on to a ReLU."""


class FoldedNorm(StandIn):
    """A BatchNorm with running statistics, `scale * x + shift` per channel; its tensors have BatchNorm's names."""

    running_mean: Tensor
    running_var: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, layer: _BatchNorm) -> None:
        super().__init__(layer)
        self.weight, self.bias = layer.weight, layer.bias
        assert layer.running_mean is not None
        assert layer.running_var is not None
        self.register_buffer("running_mean", layer.running_mean)
        self.register_buffer("running_var", layer.running_var)
        # It is no number of a device's that travels, but code around may look at it.
        self.__dict__["num_batches_tracked"] = layer.num_batches_tracked
        for name in ("scale", "shift"):
            self.register_buffer(name, torch.zeros_like(layer.running_mean), persistent=False)

    def fold(self) -> None:
        """Work out `scale` and `shift`: gamma / sqrt(var + eps), and beta less that times the mean.

        It says that it is in evaluation, for code that applies its tensors itself.
        """
        self.training = False
        with torch.no_grad():
            scale = (self.running_var + self.eps).rsqrt()
            if self.weight is not None:
                scale = scale * self.weight
            shift = -self.running_mean * scale
            self.scale.copy_(scale)
            self.shift.copy_(shift if self.bias is None else shift + self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Return maps of the same shape `[B, C, ...]` and type."""
        around = (1, -1, *[1] * (input.ndim - 2))
        scale, shift = (each.to(input.dtype).view(around) for each in (self.scale, self.shift))
        return torch.addcmul(shift, input, scale)


class PassingConvolution(StandIn):
    """A convolution whose backward pass needs its weight alone; its tensors have the names that they had."""

    def __init__(self, layer: _ConvNd) -> None:
        super().__init__(layer)
        assert not isinstance(layer.padding, str), "these are left as they are"
        self.weight, self.bias = layer.weight, layer.bias
        self._how = layer.stride, layer.padding, layer.dilation, layer.groups

    def forward(self, input: Tensor) -> Tensor:
        """Return what the convolution makes of maps `[B, C, ...]`."""
        maps = input
        device = maps.device.type
        weight, bias = self.weight, self.bias
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
            maps, weight, bias = maps.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        return _Passing.apply(maps, weight, bias, *self._how)  # type: ignore[no-any-return, no-untyped-call]


class _Passing(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
        groups: int,
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.how, ctx.sides = (stride, padding, dilation, groups), maps.shape[2:]
        return torch.convolution(maps, weight, bias, stride, padding, dilation, False, [0] * len(stride), groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (weight,) = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.how
        (gradient,) = gradients
        # What the window did not reach at the end of a side has a gradient of zero.
        missing = [
            side - ((after - 1) * step - 2 * pad + spread * (window - 1) + 1)
            for side, after, step, pad, spread, window in zip(
                ctx.sides, gradient.shape[2:], stride, padding, dilation, weight.shape[2:], strict=True
            )
        ]
        before = torch.convolution(gradient, weight, None, stride, padding, dilation, True, missing, groups)
        return before, *[None] * 6


def fold_normalisation(module: nn.Module) -> nn.Module:
    """Put a `FoldedNorm` in the place of every plain BatchNorm in a module that has running statistics; return it."""
    return replaced(module, _can_be_folded, FoldedNorm)


def let_gradients_pass(module: nn.Module) -> nn.Module:
    """Put a `PassingConvolution` in the place of every plain convolution in a module; return it."""
    return replaced(module, _can_pass, PassingConvolution)


def _can_be_folded(layer: nn.Module) -> bool:
    return is_plain(layer) and type(layer) in _NORMS and layer.running_mean is not None


def _can_pass(layer: nn.Module) -> bool:
    is_meant = is_plain(layer) and type(layer) in _CONVOLUTIONS
    return is_meant and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
