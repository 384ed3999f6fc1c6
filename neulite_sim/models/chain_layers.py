"""The layers of a part of a chain, for NeuLite's tail: what has weights together with what normalises it."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from neulite_sim.models.contract import Layers

_NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)
_BESIDE = {
    "BasicBlock": ("downsample", "conv1"),
    "Bottleneck": ("downsample", "conv1"),
    "ResBottleneckBlock": ("proj", "f"),
    "Fire": ("expand3x3", "expand1x1"),
}
"""Parts of two paths, by class: the child that is beside another, and that other one; they read the same map."""
_IN_TURN = frozenset({
    "Sequential", "Conv2dNormActivation", "BasicConv2d", "InvertedResidual", "_InvertedResidual", "MBConv",
    "FusedMBConv", "BottleneckTransform", "_Transition", "_DenseBlock", "_DenseLayer", *_BESIDE,
})  # fmt: skip
"""Parts that apply what they hold one after the other, additions and concatenations of their inputs aside."""


def layers_of(part: nn.Module) -> Layers:
    """Return the layers of a part in order, each as paths inside it ("" for the part itself); none without weights.

    A convolution or linear layer begins one; what normalises belongs to the one before, or to the first. What is not
    known to apply its children in turn (an encoder, an inception module) is one layer, and so is what has weights of
    its own.
    """
    return tuple(_walk(part, ""))


def _walk(module: nn.Module, path: str) -> list[tuple[str, ...]]:
    if not any(True for _ in module.parameters()):
        return []
    if not _is_in_turn(module):
        return [(path,)]
    layers: list[tuple[str, ...]] = []
    is_norm_first = False
    beside, partner = _BESIDE.get(type(module).__name__, ("", ""))
    held: list[str] = []
    for name, child in module.named_children():
        place = f"{path}.{name}" if path else name
        if name == beside:
            held = [place] if any(True for _ in child.parameters()) else []
        elif isinstance(child, _NORMS) and layers:
            layers[-1] = (*layers[-1], place)
        else:
            is_norm_first |= isinstance(child, _NORMS)
            layers += _walk(child, place)
    if is_norm_first and len(layers) > 1:
        layers[:2] = [layers[0] + layers[1]]
    if held:
        start = f"{path}.{partner}" if path else partner
        number = next(number for number, paths in enumerate(layers) if paths[0].startswith(start))
        layers[number] = (*layers[number], *held)
    return layers


def _is_in_turn(module: nn.Module) -> bool:
    # Classes of others may share a name; ShuffleNet's inverted residual has two branches, and one without has the same.
    is_theirs = type(module).__module__.partition(".")[0] in ("torch", "torchvision")
    is_known = is_theirs and type(module).__name__ in _IN_TURN and not hasattr(module, "branch2")
    return is_known and not any(True for _ in module.parameters(recurse=False))
