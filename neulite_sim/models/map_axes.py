"""Which dimensions of a map are its batch, its channels and its places, whatever order a network keeps them in."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from neulite_sim.models.traced import BATCHES
from neulite_sim.samples import Shape

Shapes = tuple[Shape, Shape]
"""Those of a tensor with its batch, at both sizes of `BATCHES`."""


def batch_axis(shapes: Shapes) -> int | None:
    """Return the dimension of a tensor that is the batch; None where none or two are."""
    first, second = shapes
    if len(first) != len(second):
        return None
    differing = [axis for axis, sizes in enumerate(zip(first, second, strict=True)) if sizes[0] != sizes[1]]
    is_batch = len(differing) == 1 and (first[differing[0]], second[differing[0]]) == BATCHES
    return differing[0] if is_batch else None


def channels_of(module: nn.Module) -> tuple[int, bool] | None:
    """Return how many channels the last layer of a module puts out, and whether before the places; None: unknown."""
    for layer in reversed(list(module.modules())):
        if isinstance(layer, _ConvNd):
            return layer.out_channels, True
        if isinstance(layer, _NormBase):
            return layer.num_features, True
        if isinstance(layer, nn.GroupNorm):
            return layer.num_channels, True
        if isinstance(layer, nn.Linear):
            return layer.out_features, False
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
            return layer.embedding_dim, False
        if isinstance(layer, nn.LayerNorm):
            return layer.normalized_shape[-1], False
        if isinstance(layer, nn.RNNBase):
            return (layer.proj_size or layer.hidden_size) * (1 + layer.bidirectional), False
    return None


def map_order(shapes: Shapes, channels: tuple[int, bool] | None) -> tuple[int, ...]:
    """Return the order of dimensions that makes `[B, C, places]` of a tensor; empty where it is one, or has no batch.

    Channels are the dimension of the size that the last layer puts out; where that is none or both of the first and the
    last, the one where such layers have them.
    """
    batch = batch_axis(shapes)
    if batch is None:
        return ()
    shape = shapes[0]
    others = [axis for axis in range(len(shape)) if axis != batch]
    if not others:
        return ()
    size, is_first = channels or (0, True)
    expected, other = (others[0], others[-1]) if is_first else (others[-1], others[0])
    candidates = [expected, other, *others]
    channel = next((axis for axis in candidates if shape[axis] == size), expected)
    order = (batch, channel, *(axis for axis in others if axis != channel))
    return () if order == tuple(range(len(shape))) else order


def inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    """Return the order of dimensions that undoes another."""
    return tuple(order.index(axis) for axis in range(len(order)))
