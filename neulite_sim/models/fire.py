"""The layers of SqueezeNet: fire modules, and the convolution that makes the logits.

F. Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", 2016, section 3.
https://arxiv.org/abs/1602.07360
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Fire(nn.Module):
    """1x1 squeeze, then 1x1 and 3x3 expansions side by side; one ReLU in place over both halves."""

    def __init__(self, channels_in: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels_in, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features_BCHW: Tensor) -> Tensor:
        """Return a map of twice `expanded` channels and the same sides."""
        squeezed = self.relu(self.squeeze(features_BCHW))
        activated: Tensor = self.relu(torch.cat((self.expand1x1(squeezed), self.expand3x3(squeezed)), dim=1))
        return activated


class ClassifierConvolution(nn.Conv2d):
    """The 1x1 convolution to the classes: normal with deviation 0.01 and zero bias, as the authors start it."""

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        if self.weight.is_meta:
            return
        nn.init.normal_(self.weight, std=0.01)
        assert self.bias is not None, "PyTorch's convolutions have a bias unless told otherwise"
        nn.init.zeros_(self.bias)
