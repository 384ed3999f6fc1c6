"""Layers as workers run them: the same numbers up to rounding, without what PyTorch checks and arranges each time.

A small network spends as long between its kernels as in them. Here BatchNorm does not count its batches (the count does
not travel, and only a layer without momentum reads it), and neither it nor a convolution looks its tensors up by the
general way. Small convolutions go around oneDNN, which takes 300 to 500 microseconds forward and back whatever their
size. GroupNorm wants a gradient of what it reads, which keeps it from a kernel that crashes (`kernel_guard.py`). Layers
of other classes, subclasses included, and everything unusual are left as they are.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch._C._nn import thnn_conv2d  # type: ignore[attr-defined]
from torch.autograd import forward_ad

from neulite_sim.models.kernel_guard import may_have_channels_last
from neulite_sim.models.pointwise import PointwiseConvolution
from neulite_sim.models.trainee import LAYOUT

_NORMS: dict[type[nn.Module], tuple[int, ...]] = {nn.BatchNorm1d: (2, 3), nn.BatchNorm2d: (4,), nn.BatchNorm3d: (5,)}
"""How many dimensions each reads."""
_CONVOLUTIONS = (nn.Conv2d, PointwiseConvolution)

_MOST_TAPS = 10_000
_MOST_PRODUCTS = 10_000_000
"""Up to so many pixels read, and products taken, PyTorch's own convolution is the quicker one, or as quick."""


def take_shortcuts(module: nn.Module) -> None:
    """Let the layers of a module, itself included, take the shorter way; what they return stays the same bits."""
    for layer in module.modules():
        # A forward of its own, on the class or on the layer, is somebody's wish.
        if "forward" in vars(layer):
            continue
        if type(layer) in _NORMS and layer.affine and layer.track_running_stats:
            vars(layer)["forward"] = functools.partial(_normalised, layer)
        elif isinstance(layer, nn.Conv2d) and type(layer) in _CONVOLUTIONS and layer.padding_mode == "zeros":
            vars(layer)["forward"] = functools.partial(_convolved, layer)
        elif type(layer) is nn.GroupNorm and layer.affine:
            vars(layer)["forward"] = functools.partial(_grouped, layer)


def _normalised(layer: nn.Module, features: Tensor) -> Tensor:
    momentum: float | None = layer.momentum  # type: ignore[assignment]
    channels = layer.num_features
    if (
        momentum is None
        or features.ndim not in _NORMS[type(layer)]
        or (layer.training and features.numel() == channels)
    ):
        # Counts its batches, or is refused with PyTorch's own words.
        plain: Tensor = type(layer).forward(layer, features)
        return plain
    parameters, buffers = layer._parameters, layer._buffers
    return torch.batch_norm(
        features,
        parameters["weight"],
        parameters["bias"],
        buffers["running_mean"],
        buffers["running_var"],
        layer.training,
        momentum,
        layer.eps,  # type: ignore[arg-type]
        torch.backends.cudnn.enabled,
    )


def _grouped(layer: nn.GroupNorm, maps: Tensor) -> Tensor:
    """Where all maps want a gradient no step needs a `KernelGuard`, not even one that comes to this layer late."""
    is_trained = layer.weight.requires_grad or layer.bias.requires_grad
    if (
        is_trained
        and not maps.requires_grad
        and may_have_channels_last(maps)
        and torch.is_grad_enabled()
        and _is_plain()
    ):
        maps = maps.detach().requires_grad_()
    return nn.GroupNorm.forward(layer, maps)


def _convolved(layer: nn.Conv2d, maps_BCHW: Tensor) -> Tensor:
    parameters = layer._parameters
    weight, bias = parameters["weight"], parameters["bias"]
    assert weight is not None, "a convolution has a weight"
    if (
        # What goes before all that is trained may be kept, and must not depend on how many samples come together.
        (weight.requires_grad or maps_BCHW.requires_grad)
        and weight.is_contiguous(memory_format=LAYOUT)
        and _is_small(layer, maps_BCHW)
    ):
        # With maps in one layout and weights in the other, its gradients are wrong (PyTorch 2.13).
        small: Tensor = thnn_conv2d(
            maps_BCHW.contiguous(memory_format=LAYOUT), weight, layer.kernel_size, bias, layer.stride, layer.padding
        )
        return small
    if type(layer) is not nn.Conv2d:
        return type(layer).forward(layer, maps_BCHW)
    return torch.conv2d(maps_BCHW, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def _is_small(layer: nn.Conv2d, maps_BCHW: Tensor) -> bool:
    """Return whether a convolution is one that PyTorch's own code does, and sooner than oneDNN has begun."""
    padding = layer.padding
    if (
        maps_BCHW.ndim != 4
        or not maps_BCHW.is_cpu
        or maps_BCHW.dtype is not torch.float32
        or isinstance(padding, str)
        or layer.groups != 1
        or layer.dilation != (1, 1)
        or torch.is_autocast_enabled("cpu")
        or not _is_plain()
    ):
        return False
    samples, _, height, width = maps_BCHW.shape
    (across, along), (down, right) = layer.kernel_size, layer.stride
    rows = (height + 2 * padding[0] - across) // down + 1
    columns = (width + 2 * padding[1] - along) // right + 1
    taps = samples * rows * columns * across * along
    return (
        min(samples, rows, columns) > 0
        and taps <= _MOST_TAPS
        and taps * layer.in_channels * layer.out_channels <= _MOST_PRODUCTS
    )


def _is_plain() -> bool:
    """Return whether neither forward-mode derivatives are taken nor batches of batches, as `torch.func` has them."""
    return forward_ad._current_level < 0 and torch._C._functorch.peek_interpreter_stack() is None
