"""Where the leaves of a module may be parted into blocks, and where its head begins (docs/decisions/0044)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn
from torch.nn.modules.conv import _ConvNd

from neulite_sim.models.cutting import Leaf
from neulite_sim.samples import InputSpec

MOST_LAYERS_OF_A_CLASSIFIER = 3
"""Whatever holds more layers is no classifier but a part of the network."""
_CLASSIFIER = (nn.Linear, nn.LayerNorm, nn.BatchNorm1d, nn.PReLU)


def may_be_cut(leaves: Sequence[Leaf], position: int) -> bool:
    """Return whether a block may end behind so many leaves: there are weights before, and a layer begins behind."""
    return (
        leaves[position].begins_layer
        and any(leaf.has_weights for leaf in leaves[:position])
        and keeps_tensors_apart(leaves, position)
    )


def keeps_tensors_apart(leaves: Sequence[Leaf], position: int) -> bool:
    """Return whether no tensor is used both before and behind a position."""
    before = frozenset[int]().union(*(leaf.tensors for leaf in leaves[:position]))
    return not any(leaf.tensors & before for leaf in leaves[position:])


def begin_of_head(leaves: Sequence[Leaf], spec: InputSpec) -> int:
    """Return the number of leaves before the head; all, where the last one with weights is no classifier.

    The head is the last layer, the linear layers before it that read vectors too, unless nothing else has weights, the
    norm of the last map, what pools, flattens and drops before them, and a 1x1 convolution that widens the map for it.
    """
    weighty = [place for place, leaf in enumerate(leaves) if leaf.has_weights]
    if not weighty or not _is_simple(leaves[weighty[-1]]):
        return len(leaves)
    start = weighty[-1]
    for place in reversed(weighty[:-1]):
        if not _is_classifier(leaves[place]):
            break
        start = place
    if not any(leaf.has_weights for leaf in leaves[:start]):
        start = weighty[-1]
    begin = max((place + 1 for place in weighty if place < start), default=0)
    start = next((place for place in range(begin, start) if _ends_maps(leaves[place])), start)
    start = _before_widening(leaves, start)
    # Ids of tokens are no map that a surrogate or a head could read.
    return len(leaves) if start == 0 and spec.vocabulary is not None else start


def _is_simple(leaf: Leaf) -> bool:
    counted = sum(not isinstance(layer, _CLASSIFIER[1:]) for layer in leaf.layers)
    return counted + leaf.has_own_parameters <= MOST_LAYERS_OF_A_CLASSIFIER


def _is_classifier(leaf: Leaf) -> bool:
    """Return whether a leaf is a linear layer on vectors, or the norm of the last map."""
    if leaf.has_own_parameters or not all(isinstance(layer, _CLASSIFIER) for layer in leaf.layers):
        return False
    return len(leaf.shape_before) == 2 or all(isinstance(layer, nn.LayerNorm) for layer in leaf.layers)


def _ends_maps(leaf: Leaf) -> bool:
    """Return whether a leaf without weights pools to a size of its own, flattens, or drops for the classifier."""
    node = leaf.level.recordings[True].operations[leaf.end - 1]
    name = leaf.last_kind if node.op == "call_module" else str(getattr(node.target, "__name__", node.target))
    if "adaptive" in name.lower() or "dropout" in name.lower():
        return True
    if leaf.shape == leaf.shape_before:
        return False
    return len(leaf.shape) != len(leaf.shape_before) or math.prod(leaf.shape[2:]) == 1


def _before_widening(leaves: Sequence[Leaf], start: int) -> int:
    """Return the start of a head with the 1x1 convolution before it, where that only widens the map."""
    place = start - 1
    while place > 0 and not leaves[place].begins_layer:
        place -= 1
    if place <= 0 or not any(leaf.has_weights for leaf in leaves[:place]):
        return start
    layers = [layer for leaf in leaves[place:start] for layer in leaf.layers]
    widening = layers[0] if layers and not leaves[place].is_glued else None
    is_pointwise = isinstance(widening, _ConvNd) and math.prod(widening.kernel_size) == 1
    is_alone = sum(isinstance(layer, _ConvNd | nn.Linear) for layer in layers) == 1
    if is_pointwise and is_alone and isinstance(widening, _ConvNd) and widening.out_channels > widening.in_channels:
        return place
    return start
