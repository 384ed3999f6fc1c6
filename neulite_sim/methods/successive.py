"""The model of one SLT configuration: layers at full width, most of them frozen, then layers at width s and the head.

Pfeiffer, Khalili and Henkel, NeurIPS 2023, section 3, and `utils/slt_submodel.py` of https://github.com/k1l1/SLT. A
layer at width s keeps its leading channels, and reads as many as the layer before it passes on. A shortcut without
weights leaves out the channels that its sum does not have; one with weights is as wide as the layer to which it is
added, and is trained where that one is.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.nn.modules.batchnorm import _BatchNorm

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.methods.dimension import Axis
from neulite_sim.methods.staircase import Configuration, thinned
from neulite_sim.methods.width import Layout, layout
from neulite_sim.models.contract import BlockModel, Blueprint
from neulite_sim.models.failures import failure_of
from neulite_sim.models.fire import Fire
from neulite_sim.models.residual import BasicBlock, LeadingChannels
from neulite_sim.models.trainee import Trainee

_NORMS = (_BatchNorm, nn.GroupNorm)
_GOES_ALONG = (BlockModel, nn.ModuleList, nn.Sequential, BasicBlock, Fire)
"""Of these it is known that they put out as many channels as their last layer has, whatever they read."""
_HINT = "choose one that is a chain of convolutions, such as resnet18, resnet20, vgg11_bn, squeezenet or cnn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Where the tensors of a model stand among its layers, which are counted from 0.

    `made[name]` is the layer that makes the channels along dimension 0 of a tensor, `read[name]` the one that makes
    those along dimension 1: -1 is the image, `num_layers` a hidden layer of the head.
    """

    num_layers: int
    axes: Mapping[str, tuple[Axis, ...]]
    made: Mapping[str, int]
    read: Mapping[str, int]

    def shapes(self, configuration: Configuration) -> dict[str, tuple[int, ...]]:
        """Return the shape of each tensor in the model of a configuration."""
        threshold = configuration.threshold(self.num_layers)
        widths = {False: 1.0, True: configuration.width}
        return {
            name: tuple(
                axis.resized(functools.partial(thinned, width=widths[place >= threshold]))
                for axis, place in zip(axes, (self.made[name], self.read[name], -1, -1), strict=False)
            )
            for name, axes in self.axes.items()
        }


def chain_of(blueprint: Blueprint) -> Chain:
    """Return how the layers of a blueprint's model follow each other.

    Raises:
        ScenarioError: its layers are not known, are no convolutions, or do not go together at several widths.
    """
    try:
        return _known_chain(blueprint)
    except TypeError:
        # An architecture of others need not be hashable.
        return _known_chain.__wrapped__(blueprint)


@functools.lru_cache(maxsize=8)
def _known_chain(blueprint: Blueprint) -> Chain:
    with unset_fake_temporarily():
        model = blueprint.build_meta()
        made, read, number = {}, {}, 0
        for index, layers in enumerate(model.layers):
            _require_known(blueprint, model, index)
            shortcuts = {_joined(path, "shortcut") for path, part in _basic_blocks(model.blocks[index])}
            for layer in layers:
                for path in layer:
                    for name in _tensors_of(blueprint, model, _joined("blocks", str(index), path)):
                        made[name], read[name] = number + (path in shortcuts), number - 1
                number += 1
        for place, name in _in_head(blueprint, model):
            made[name], read[name] = number, number - (place == 0)
        if number < 2:
            raise _refused(blueprint, f"has {number} layers of convolutions, and one has to follow another")
        chain = Chain(num_layers=number, axes=layout(blueprint, {}).axes, made=made, read=read)
        if any(type(part) not in _GOES_ALONG for part in model.modules() if any(True for _ in part.children())):
            _try(blueprint, chain)
    return chain


def _joined(*paths: str) -> str:
    return ".".join(path for path in paths if path)


def _basic_blocks(block: nn.Module) -> Iterator[tuple[str, BasicBlock]]:
    return ((path, part) for path, part in block.named_modules() if isinstance(part, BasicBlock))


def _require_known(blueprint: Blueprint, model: BlockModel, index: int) -> None:
    """Refuse a block that holds weights outside its layers."""
    block = model.blocks[index]
    held = {id(p) for layer in model.layers[index] for path in layer for p in block.get_submodule(path).parameters()}
    if len(held) < len({id(parameter) for parameter in block.parameters()}):
        raise _refused(blueprint, f"does not say which layers its block {index} has (BlockModel.layers)")


def _tensors_of(blueprint: Blueprint, model: BlockModel, path: str) -> Iterator[str]:
    """Yield the names of the tensors of a layer: one convolution, or what normalises it, or both."""
    num_convolutions = 0
    for below, part in model.get_submodule(path).named_modules(prefix=path):
        names = [name for name, _ in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False))]
        is_convolution = isinstance(part, nn.Conv2d) and part.groups == 1
        num_convolutions += is_convolution
        if num_convolutions > 1:
            raise _refused(blueprint, f"has several convolutions in one layer, {path}")
        if names and not (is_convolution or isinstance(part, _NORMS)):
            raise _refused(blueprint, f"has a layer that is no plain convolution, {below} ({type(part).__name__})")
        yield from (_joined(below, name) for name in names)


def _in_head(blueprint: Blueprint, model: BlockModel) -> Iterator[tuple[int, str]]:
    """Yield the tensors of the head, each with how many layers of the head come before it."""
    place = -1
    for path, part in model.head.named_modules(prefix="head"):
        names = [name for name, _ in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False))]
        is_layer = isinstance(part, nn.Linear) or (isinstance(part, nn.Conv2d) and part.groups == 1)
        place += is_layer
        if names and not is_layer and not (isinstance(part, _NORMS) and place >= 0):
            raise _refused(blueprint, f"has a head with {path} ({type(part).__name__}), which is no plain layer")
        yield from ((place, _joined(path, name)) for name in names)


def _try(blueprint: Blueprint, chain: Chain) -> None:
    """Refuse a network whose parts do not go together where a layer passes on fewer channels than the one before."""
    for number in range(1, chain.num_layers):
        model = blueprint.build_meta()
        cut(model, chain, Configuration(width=0.5, depth=number / chain.num_layers))
        try:
            with torch.device("meta"):
                model(torch.empty(2, *blueprint.spec.shape))
        except Exception as failure:  # Whatever somebody's code makes of fewer channels.
            reason = str(failure_of(failure))
            finding = f"cannot pass on fewer channels from its layer {number + 1} on: {reason}"
            raise _refused(blueprint, finding) from failure


def _refused(blueprint: Blueprint, finding: str) -> ScenarioError:
    name = blueprint.name or "the model"
    return ScenarioError([Problem.advising(key="model", found=f"method slt: {name} {finding}", hint=_HINT)])


def cut(model: BlockModel | SuccessiveModel, chain: Chain, configuration: Configuration) -> None:
    """Cut the tensors of a freshly built model down to those of a configuration, in place."""
    shapes = chain.shapes(configuration)
    for path, part in model.named_modules():
        for held in (part._parameters, part._buffers):
            for key, tensor in held.items():
                shape = shapes.get(_joined(path, key))
                if tensor is None or shape in (None, tensor.shape):
                    continue
                # Whichever channels these are: a payload brings the values.
                smaller = tensor.detach()[tuple(map(slice, shape))].clone()
                held[key] = nn.Parameter(smaller) if isinstance(tensor, nn.Parameter) else smaller
        _say_sizes(part)
    for _, block in _basic_blocks(model):
        channels = block.conv2.out_channels
        if isinstance(block.shortcut, LeadingChannels):
            block.shortcut.channels = channels
        elif isinstance(block.shortcut, nn.Identity) and block.conv1.in_channels != channels:
            block.shortcut = LeadingChannels(channels)


def _say_sizes(part: nn.Module) -> None:
    """Let a layer's numbers say what its tensors are."""
    if isinstance(part, nn.Conv2d):
        part.out_channels, part.in_channels = part.weight.shape[:2]
    elif isinstance(part, nn.Linear):
        part.out_features, part.in_features = part.weight.shape
    elif isinstance(part, _BatchNorm) and part.weight is not None:
        part.num_features = len(part.weight)
    elif isinstance(part, nn.GroupNorm) and part.weight is not None:
        least, channels = part.num_channels // part.num_groups, len(part.weight)
        counts = (count for count in range(channels // least, 1, -1) if channels % count == 0)
        part.num_channels, part.num_groups = channels, next(counts, 1)


class SuccessiveModel(Trainee):
    """The model of a configuration, its first layers frozen as the configuration says, the head always trained."""

    def __init__(self, blueprint: Blueprint, configuration: Configuration, *, frozen_batch_norm: str) -> None:
        super().__init__()
        chain = chain_of(blueprint)
        model = blueprint.build()
        cut(model, chain, configuration)
        self.blocks = model.blocks
        self.head = model.head
        self.frozen_batch_norm = frozen_batch_norm
        num_frozen = configuration.num_frozen(chain.num_layers)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(chain.made[name] >= num_frozen)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return logits `[B, classes]`."""
        return self.along(self.blocks, images_BCHW, head=self.head)

    def loss(self, images_BCHW: Tensor, labels_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean cross-entropy of the batch."""
        logits_BK = self(images_BCHW)
        return self.cross_entropy(logits_BK, labels_B), self.squared_loss(logits_BK, labels_B)


def slices_of(blueprint: Blueprint, configurations: Mapping[str, Configuration]) -> Layout:
    """Return where the models of configurations, by submodel, lie in that of a blueprint."""
    chain = chain_of(blueprint)
    shapes = {submodel: chain.shapes(configuration) for submodel, configuration in configurations.items()}
    return Layout(axes=chain.axes, shapes=shapes, classifier=frozenset())
