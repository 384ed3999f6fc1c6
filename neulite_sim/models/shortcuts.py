"""Layers as workers run them: the same operators on the same numbers, without what PyTorch checks and counts each time.

A small network spends as long between its kernels as in them. Here BatchNorm does not count its batches (the count does
not travel, and only a layer without momentum reads it), and neither it nor a convolution looks its tensors up by the
general way. Layers of other classes, subclasses included, and everything unusual are left as they are.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

_NORMS: dict[type[nn.Module], tuple[int, ...]] = {nn.BatchNorm1d: (2, 3), nn.BatchNorm2d: (4,), nn.BatchNorm3d: (5,)}
"""How many dimensions each reads."""


def take_shortcuts(module: nn.Module) -> None:
    """Let the layers of a module, itself included, take the shorter way; what they return stays the same bits."""
    for layer in module.modules():
        # A forward of its own, on the class or on the layer, is somebody's wish.
        if "forward" in vars(layer):
            continue
        if type(layer) in _NORMS and layer.affine and layer.track_running_stats:
            vars(layer)["forward"] = functools.partial(_normalised, layer)
        elif type(layer) is nn.Conv2d and layer.padding_mode == "zeros":
            vars(layer)["forward"] = functools.partial(_convolved, layer)


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


def _convolved(layer: nn.Conv2d, maps_BCHW: Tensor) -> Tensor:
    parameters = layer._parameters
    weight = parameters["weight"]
    assert weight is not None, "a convolution has a weight"
    return torch.conv2d(
        maps_BCHW, weight, parameters["bias"], layer.stride, layer.padding, layer.dilation, layer.groups
    )
