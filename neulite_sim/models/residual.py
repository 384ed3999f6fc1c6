"""The basic block of a ResNet, and its shortcuts.

K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, figure 2 and section 4.1.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from neulite_sim.models.pointwise import PointwiseConvolution

Shortcut = Literal["pointwise", "convolution", "padded"]
"""What leads around a basic block that changes the shape: a 1x1 convolution (option B of section 4.1) or a 3x3 one,
both with BatchNorm, or the map itself, thinned and padded with zeros (option A). Elsewhere the map itself does."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm beside a shortcut; ReLU in place, as BatchNorm keeps its own input."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, shortcut: Shortcut = "pointwise") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = _shortcut(channels_in, channels_out, stride, shortcut)

    def forward(self, features_BCHW: Tensor) -> Tensor:
        """Return a map of `channels_out` channels, with sides divided by the stride and rounded up."""
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(features_BCHW)))))
        residual += self.shortcut(features_BCHW)
        activated: Tensor = self.relu(residual)
        return activated

    def halves(self) -> tuple[nn.Module, nn.Module]:
        """Return the first convolution beside the shortcut, and the second one with the sum."""
        return _FirstHalf(self), _SecondHalf(self)


def _shortcut(channels_in: int, channels_out: int, stride: int, kind: Shortcut) -> nn.Module:
    if kind == "padded":
        return LeadingChannels(channels_out, stride)
    conv: nn.Module = PointwiseConvolution(channels_in, channels_out, stride, bias=False)
    if kind == "convolution":
        conv = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(channels_out)))


class LeadingChannels(nn.Module):
    """The map itself at every `stride`-th place: its first `channels` channels, and zeros for those that it lacks."""

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, features_BCHW: Tensor) -> Tensor:
        """Return a map of `channels` channels, with sides divided by the stride and rounded up; a view if it can be."""
        if self.stride > 1:
            features_BCHW = features_BCHW[:, :, :: self.stride, :: self.stride]
        lacking = self.channels - features_BCHW.shape[1]
        return F.pad(features_BCHW, (0, 0, 0, 0, 0, lacking)) if lacking > 0 else features_BCHW[:, : self.channels]


class _FirstHalf(nn.Module):
    """Turns a map into what the second convolution of a basic block reads and what is added to its result."""

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu, self.shortcut = block.conv1, block.bn1, block.relu, block.shortcut

    def forward(self, features_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        return self.relu(self.bn1(self.conv1(features_BCHW))), self.shortcut(features_BCHW)


class _SecondHalf(nn.Module):
    """Turns both into the map that the block puts out."""

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.conv2, self.bn2, self.relu = block.conv2, block.bn2, block.relu

    def forward(self, halfway: tuple[Tensor, Tensor]) -> Tensor:
        residual = self.bn2(self.conv2(halfway[0]))
        residual += halfway[1]
        activated: Tensor = self.relu(residual)
        return activated
