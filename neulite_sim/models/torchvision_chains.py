"""torchvision's classifiers as chains of parts, with the stages that their papers give them.

What a family applies between its own modules (ReLU, poolings, flattening, ViT's class token) stands here as modules, so
that the parts in order and the head do what the network's `forward` does, bit for bit. Stages: the residual stages of
ResNet, RegNet, ConvNeXt, Swin and MaxViT, the dense blocks of DenseNet, what lies between the poolings of AlexNet, VGG
and SqueezeNet, the numbered stages of ShuffleNet, GoogLeNet and Inception, and the rows of the tables of MobileNet,
MnasNet and EfficientNet; ViT, which has none, gets three. The stem belongs to the first stage. The head begins with
what widens the last map for the classifier, the last row of the tables ("Conv1x1 & Pooling & FC").
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neulite_sim.models.chain import Chain, Part, Permuted
from neulite_sim.models.fire import ClassifierConvolution
from neulite_sim.samples import Shape

VIT_STAGES = 3
"""As many as this project's own `vit` has."""

_FOLLOWS = (nn.BatchNorm2d, nn.ReLU, nn.Dropout)
"""What stays with the layer before: it changes its map in place, or normalises it."""


def chain_of(network: nn.Module) -> Chain | None:
    """Return a classifier of torchvision as a chain of its own modules; None where its family is not known here."""
    build = _FAMILIES.get(type(network).__name__)
    return None if build is None else build(network)


class Mean(nn.Module):
    """The mean over the pixels of a map, `[B, C]`."""

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        """Return it."""
        return maps_BCHW.mean([2, 3])


class Tokens(nn.Module):
    """ViT's first layer: a token per patch behind the class token, positions added, with dropout."""

    def __init__(self, conv: nn.Module, class_token: nn.Parameter, positions: nn.Parameter, dropout: nn.Module) -> None:
        super().__init__()
        self.conv_proj = conv
        self.class_token = class_token
        self.pos_embedding = positions
        self.dropout = dropout

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return `[B, 1 + patches, D]`."""
        patches_BDHW = self.conv_proj(images_BCHW)
        patches_BND = patches_BDHW.reshape(*patches_BDHW.shape[:2], -1).permute(0, 2, 1)
        class_token_B1D = self.class_token.expand(len(images_BCHW), -1, -1)
        tokens: Tensor = self.dropout(torch.cat([class_token_B1D, patches_BND], dim=1) + self.pos_embedding)
        return tokens


class FirstToken(nn.Module):
    """The class token, `[B, D]`."""

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Return it."""
        return tokens_BND[:, 0]


def _named(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))


def _grouped(children: Iterable[tuple[str, nn.Module]], name: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield modules that are applied in turn as parts: a layer together with what follows it in place."""
    group: OrderedDict[str, nn.Module] = OrderedDict()
    for key, module in children:
        if group and not isinstance(module, _FOLLOWS):
            yield _part(group, name)
            group = OrderedDict()
        group[key] = module
    if group:
        yield _part(group, name)


def _part(group: OrderedDict[str, nn.Module], name: str) -> tuple[str, nn.Module]:
    first, module = next(iter(group.items()))
    return f"{name}_{first}", module if len(group) == 1 else nn.Sequential(group)


def _between_poolings(features: nn.Module, *, joins_first: bool = False) -> tuple[Part, ...]:
    """Return the parts of a sequence, a stage ending behind each pooling; the stem's is none where `joins_first`."""
    parts, stage = [], 0
    num_poolings = 0
    for name, module in _grouped(features.named_children(), "features"):
        parts.append(Part(name, module, stage))
        if isinstance(module, nn.MaxPool2d):
            num_poolings += 1
            stage += not (joins_first and num_poolings == 1)
    return tuple(parts)


def _units(stage: nn.Module, name: str, number: int) -> Iterator[Part]:
    for key, unit in stage.named_children():
        yield Part(f"{name}_{key}", unit, number)


def _pooled(network: Any, classifier: nn.Module, **before: nn.Module) -> nn.Sequential:
    return _named(**before, avgpool=network.avgpool, flatten=nn.Flatten(), classifier=classifier)


def _alexnet(network: Any) -> Chain:
    return Chain(parts=_between_poolings(network.features), head=_pooled(network, network.classifier))


def _squeezenet(network: Any) -> Chain:
    # The convolution to the classes starts as its authors say, also where a stage of NeuLite starts its head anew.
    theirs, classifier = network.classifier[1], network.classifier
    conv = ClassifierConvolution(theirs.in_channels, theirs.out_channels, 1)
    conv.weight, conv.bias = theirs.weight, theirs.bias
    classifier[1] = conv
    head = _named(classifier=classifier, flatten=nn.Flatten())
    return Chain(parts=_between_poolings(network.features, joins_first=True), head=head)


def _resnet(network: Any) -> Chain:
    stem = _named(conv1=network.conv1, bn1=network.bn1, relu=network.relu)
    parts = [Part("stem", stem, 0), Part("maxpool", network.maxpool, 0)]
    for number in range(4):
        parts += _units(network.get_submodule(f"layer{number + 1}"), f"layer{number + 1}", number)
    return Chain(parts=tuple(parts), head=_named(avgpool=network.avgpool, flatten=nn.Flatten(), fc=network.fc))


def _regnet(network: Any) -> Chain:
    parts = [Part("stem", network.stem, 0)]
    for number, (name, stage) in enumerate(network.trunk_output.named_children()):
        parts += _units(stage, name, number)
    return Chain(parts=tuple(parts), head=_named(avgpool=network.avgpool, flatten=nn.Flatten(), fc=network.fc))


def _densenet(network: Any) -> Chain:
    children = dict(network.features.named_children())
    stem = _named(conv0=children["conv0"], norm0=children["norm0"], relu0=children["relu0"])
    parts, number = [Part("stem", stem, 0), Part("pool0", children["pool0"], 0)], 0
    for name, module in children.items():
        if name.startswith("denseblock"):
            parts.append(Part(name, module, number))
        elif name.startswith("transition"):
            parts.append(Part(name, module, number))
            number += 1
    last = parts.pop()
    # The ReLU that `forward` applies is in place, so it stays with the map that it changes.
    modules = {last.name: last.module, "norm5": children["norm5"], "relu5": nn.ReLU(inplace=True)}
    parts.append(Part(last.name, _named(**modules), last.stage))
    head = _named(avgpool=nn.AdaptiveAvgPool2d((1, 1)), flatten=nn.Flatten(), classifier=network.classifier)
    return Chain(parts=tuple(parts), head=head)


def _by_rows(network: Any) -> Chain:
    """Return MobileNet v2 or v3: a stage is the inverted residuals of a row, of which the first has no addition."""
    *units, last = network.features.named_children()
    parts, stage = [], -1
    for index, (name, unit) in enumerate(units):
        # The stem is nobody's residual, and the first row is its stage.
        stage += index > 0 and (index == 1 or not unit.use_res_connect)
        parts.append(Part(f"features_{name}", unit, max(stage, 0)))
    pooling = getattr(network, "avgpool", None) or nn.AdaptiveAvgPool2d((1, 1))
    head = _named(conv=last[1], avgpool=pooling, flatten=nn.Flatten(), classifier=network.classifier)
    return Chain(parts=tuple(parts), head=head)


def _efficientnet(network: Any) -> Chain:
    stem, *stages, last = network.features
    parts = [Part("features_0", stem, 0)]
    for number, stage in enumerate(stages):
        parts += _units(stage, f"features_{number + 1}", number)
    return Chain(parts=tuple(parts), head=_pooled(network, network.classifier, conv=last))


def _mnasnet(network: Any) -> Chain:
    children = list(network.layers.named_children())
    places = [place for place, (_, module) in enumerate(children) if isinstance(module, nn.Sequential)]
    parts = [Part(name, module, 0) for name, module in _grouped(children[: places[0]], "layers")]
    for number, place in enumerate(places):
        name, stage = children[place]
        parts += _units(stage, f"layers_{name}", number)
    last = nn.Sequential(OrderedDict(children[places[-1] + 1 :]))
    return Chain(parts=tuple(parts), head=_named(conv=last, mean=Mean(), classifier=network.classifier))


def _convnext(network: Any) -> Chain:
    return Chain(
        parts=_stem_and_stages(network.features),
        head=_named(avgpool=network.avgpool, classifier=network.classifier),
    )


def _stem_and_stages(features: nn.Module) -> tuple[Part, ...]:
    """Return the parts of a stem and a stage in turn with layers that halve the sides, which begin the next stage."""
    parts: list[Part] = []
    for number, (name, module) in enumerate(features.named_children()):
        if number % 2:
            parts += _units(module, f"features_{name}", number // 2)
        else:
            parts.append(Part(f"features_{name}", module, number // 2))
    return tuple(parts)


def _swin(network: Any) -> Chain:
    head = _named(
        norm=network.norm,
        permute=network.permute,
        avgpool=network.avgpool,
        flatten=network.flatten,
        head=network.head,
    )
    return Chain(
        parts=_stem_and_stages(network.features), head=head, to_map=(0, 3, 1, 2), from_map=(0, 2, 3, 1)
    )  # fmt: skip


def _maxvit(network: Any) -> Chain:
    parts = [Part("stem", network.stem, 0)]
    for number, block in enumerate(network.blocks):
        parts += _units(block.layers, f"blocks_{number}", number)
    return Chain(parts=tuple(parts), head=network.classifier)


def _vit(network: Any) -> Chain:
    encoder = network.encoder
    tokens = Tokens(network.conv_proj, network.class_token, encoder.pos_embedding, encoder.dropout)
    parts = [Part("tokens", tokens, 0)]
    encoders = list(encoder.layers.named_children())
    for index, (name, layer) in enumerate(encoders):
        parts.append(Part(name, layer, index * VIT_STAGES // len(encoders)))
    return Chain(
        parts=tuple(parts),
        head=_named(ln=encoder.ln, first=FirstToken(), heads=network.heads),
        to_map=(0, 2, 1),
        from_map=(0, 2, 1),
        basic_layer=functools.partial(_one_encoder, like=encoders[0][1]),
    )


def _one_encoder(before: Shape, after: Shape, *, like: nn.Module) -> nn.Module:
    """Return what NeuLite takes for a later block: one encoder, freshly initialised."""
    assert before == after, f"an encoder keeps the shape of its map: {before}, {after}"
    block: Any = like
    norm = functools.partial(nn.LayerNorm, eps=block.ln_1.eps)
    sizes = (block.num_heads, before[0], block.mlp[0].out_features, block.dropout.p, block.self_attention.dropout)
    return _named(from_map=Permuted(0, 2, 1), encoder=type(block)(*sizes, norm), to_map=Permuted(0, 2, 1))


def _shufflenet(network: Any) -> Chain:
    parts = [Part("conv1", network.conv1, 0), Part("maxpool", network.maxpool, 0)]
    for number in range(3):
        parts += _units(network.get_submodule(f"stage{number + 2}"), f"stage{number + 2}", number)
    return Chain(parts=tuple(parts), head=_named(conv5=network.conv5, mean=Mean(), fc=network.fc))


def _inception(network: Any, *, first: Sequence[str], head: nn.Module) -> Chain:
    """Return a network of inception modules whose names hold the number of their stage: `inception4a`, `Mixed_6b`.

    `first[s]` is the first child of the stage behind the s-th cut.
    """
    parts, stage = [], 0
    for name, module in network.named_children():
        if name in ("aux1", "aux2", "AuxLogits"):
            continue
        if name == "avgpool":
            break
        stage += name in first
        parts.append(Part(name, module, stage))
    return Chain(parts=tuple(parts), head=head)


def _googlenet(network: Any) -> Chain:
    head = _named(avgpool=network.avgpool, flatten=nn.Flatten(), dropout=network.dropout, fc=network.fc)
    return _inception(network, first=("inception4a", "inception5a"), head=head)


def _inception_v3(network: Any) -> Chain:
    head = _named(avgpool=network.avgpool, dropout=network.dropout, flatten=nn.Flatten(), fc=network.fc)
    return _inception(network, first=("Mixed_6a", "Mixed_7a"), head=head)


_FAMILIES: dict[str, Callable[[Any], Chain]] = {
    "AlexNet": _alexnet,
    "VGG": _alexnet,
    "SqueezeNet": _squeezenet,
    "ResNet": _resnet,
    "RegNet": _regnet,
    "DenseNet": _densenet,
    "MobileNetV2": _by_rows,
    "MobileNetV3": _by_rows,
    "EfficientNet": _efficientnet,
    "MNASNet": _mnasnet,
    "ConvNeXt": _convnext,
    "SwinTransformer": _swin,
    "MaxVit": _maxvit,
    "VisionTransformer": _vit,
    "ShuffleNetV2": _shufflenet,
    "GoogLeNet": _googlenet,
    "Inception3": _inception_v3,
}
"""By the class that torchvision builds a classifier of."""
