"""GroupNorm in the place of BatchNorm.

Y. Wu and K. He, "Group Normalization", ECCV 2018, https://arxiv.org/abs/1803.08494: channels are normalised in groups,
each sample by itself, so that neither the batch nor its parts matter, and there are no statistics to average between
devices. Groups hold 16 channels or some more (its table 3: as good as 32 groups, which thin models do not have).
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from neulite_sim.models.replacing import replaced

LEAST_CHANNELS = 16
"""Of a group; what has fewer channels is one group."""


def num_groups(channels: int) -> int:
    """Return the largest number of equal groups of at least 16 channels; one where there are too few channels."""
    most = channels // LEAST_CHANNELS
    return next((count for count in range(most, 1, -1) if channels % count == 0), 1)


def normalised_in_groups(module: nn.Module) -> nn.Module:
    """Put a GroupNorm in the place of every BatchNorm inside a module, with its weights; return the module.

    A module that is itself a BatchNorm is returned as a GroupNorm.
    """
    return replaced(module, lambda layer: isinstance(layer, _BatchNorm), _grouped)


def _grouped(layer: _BatchNorm) -> nn.GroupNorm:
    norm = nn.GroupNorm(num_groups(layer.num_features), layer.num_features, eps=layer.eps, affine=layer.affine)
    if layer.affine:
        norm.weight, norm.bias = layer.weight, layer.bias
    return norm
