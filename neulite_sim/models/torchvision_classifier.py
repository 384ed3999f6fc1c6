"""Any classifier of torchvision, `torchvision:NAME`, cut into blocks: by its own stages, or into as many as wished.

The network comes as torchvision builds it, with its own initial weights and no pretrained ones; auxiliary classifiers
of the inception family are left out. Cut or not, it computes the same, bit for bit (`torchvision_chains`). `blocks: N`
cuts it where the largest stage takes the least memory (`balancing`). A family that is not known here stays one block.

It has no width: a scenario's width leaves it as it is. Many of these networks are made for 224 pixels; `resnet18` here,
for one, shrinks a 32x32 image to 1x1 and needs a tenth of the memory of this project's `resnet18`.
"""

from __future__ import annotations

import functools
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from neulite_sim.bounds import LayerCount
from neulite_sim.errors import Problem, ScenarioError, UnknownComponentError, close_matches
from neulite_sim.later import nn, torch
from neulite_sim.registry import Component, Options
from neulite_sim.samples import ImageShape, InputSpec, Shape
from neulite_sim.torchvision_compat import classifier_of, torchvision_module

if TYPE_CHECKING:
    from neulite_sim.models.chain import Chain
    from neulite_sim.models.contract import BlockModel

RGB = 3
WITH_AUXILIARY = ("googlenet", "inception_v3")
BALANCED_AT = 32
"""Batch size at which a chain is balanced where nobody says what is charged."""
STATE_COPIES = 1
"""Tensors per weight of an optimizer with momentum."""

Settings = tuple[tuple[str, object], ...]


class TorchvisionOptions(Options):
    """Options of `torchvision:NAME`."""

    blocks: LayerCount | None = None
    """Into how many blocks the network is cut, so that the largest stage takes least memory; its own stages if none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """The architecture: torchvision's classifier `name` in blocks, those of its own stages where nothing else is said.

    `blocks` is how many are wished; `cuts` are the numbers of parts before each cut, once they are settled.
    """

    name: str
    blocks: int | None = None
    cuts: tuple[int, ...] | None = None

    def __call__(self, input_shape: ImageShape, num_classes: int, _width: float) -> BlockModel:
        """Return the model.

        Raises:
            ScenarioError: it cannot take images of this shape, or is not to be cut into so many blocks.
        """
        settings = _settings(self.name, input_shape, num_classes)
        cuts = self._cuts(input_shape, settings, BALANCED_AT, STATE_COPIES)
        shapes = _block_shapes(self.name, input_shape, settings, cuts)
        chain = _chain(self.name, _network(self.name, input_shape, settings), num_classes)
        return chain.model(cuts, shapes)

    def settled(self, spec: InputSpec, *, batch_size: int, state_copies: int) -> Classifier:
        """Return the architecture that is cut in the same places for any samples: where these are balanced best.

        They are balanced for steps of `batch_size` samples with an optimizer that keeps `state_copies` tensors per
        weight.

        Raises:
            ScenarioError: as for building.
        """
        if self.blocks is None or self.cuts is not None or not spec.is_image:
            return self
        channels, height, side = spec.shape
        shape = (channels, height, side)
        settings = _settings(self.name, shape, spec.num_classes)
        return replace(self, cuts=self._cuts(shape, settings, batch_size, state_copies))

    def _cuts(self, input_shape: ImageShape, settings: Settings, batch_size: int, state_copies: int) -> tuple[int, ...]:
        if self.cuts is not None:
            return self.cuts
        num_parts, own_cuts = _measures(self.name, input_shape, settings)
        if self.blocks is None:
            return own_cuts
        if self.blocks > num_parts:
            finding = f"is {self.blocks}, but torchvision:{self.name} is a chain of {num_parts} part(s)"
            raise ScenarioError(
                [Problem.advising(key="model.blocks", found=finding, hint=f"use 1 to {num_parts}, or leave it out")]
            )
        return _balanced(self.name, input_shape, settings, self.blocks, batch_size, state_copies)


def _settings(name: str, input_shape: ImageShape, num_classes: int) -> Settings:
    """Return what torchvision's builder is given, in a form that can be a key.

    Raises:
        ScenarioError: the images are not in colour.
    """
    channels, height, side = input_shape
    if channels != RGB:
        raise _refused(name, input_shape, f"it reads {RGB} channels", "images in colour")
    settings: dict[str, object] = {"weights": None, "num_classes": num_classes}
    if name in WITH_AUXILIARY:
        settings.update(aux_logits=False, init_weights=True)
    if name.startswith("vit_"):
        settings["image_size"] = height
    if name.startswith("maxvit"):
        settings["input_size"] = (height, side)
    return tuple(settings.items())


def _network(name: str, input_shape: ImageShape, settings: Settings) -> nn.Module:
    try:
        network: nn.Module = classifier_of(name, **dict(settings))
    except (RuntimeError, ValueError, AssertionError) as failure:
        raise _refused(name, input_shape, str(failure), "larger images") from failure
    return network


def _chain(name: str, network: nn.Module, num_classes: int) -> Chain:
    from neulite_sim.models.chain import Chain, Part
    from neulite_sim.models.torchvision_chains import chain_of

    found = chain_of(network)
    if found is not None:
        return found
    whole = nn.Sequential(network, nn.Unflatten(1, (num_classes, 1, 1)))
    return Chain(parts=(Part(name, whole, 0),), head=nn.Flatten())


def _on_meta() -> ExitStack:
    """Return the context in which networks are tried without memory, also amid a fake step."""
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    stack = ExitStack()
    for context in (unset_fake_temporarily(), torch.device("meta"), torch.random.fork_rng(devices=[])):
        stack.enter_context(context)
    return stack


def _chain_on_meta(name: str, input_shape: ImageShape, settings: Settings) -> Chain:
    return _chain(name, _network(name, input_shape, settings), int(str(dict(settings)["num_classes"])))


@functools.cache
def _measures(name: str, input_shape: ImageShape, settings: Settings) -> tuple[int, tuple[int, ...]]:
    """Return how many parts the chain has, and where its own stages are cut."""
    with _on_meta():
        chain = _chain_on_meta(name, input_shape, settings)
    return len(chain.parts), chain.own_cuts()


@functools.cache
def _block_shapes(name: str, input_shape: ImageShape, settings: Settings, cuts: tuple[int, ...]) -> tuple[Shape, ...]:
    """Return the shapes of the maps that the blocks put out; fails where the images do not fit the network."""
    shapes = []
    with _on_meta(), torch.no_grad():
        chain = _chain_on_meta(name, input_shape, settings)
        maps = torch.empty(1, *input_shape)
        try:
            for block in chain.block_modules(cuts):
                maps = block.eval()(maps)
                shapes.append(tuple(maps.shape[1:]))
            chain.head_module().eval()(maps)
        except (RuntimeError, ValueError, AssertionError) as failure:
            raise _refused(name, input_shape, str(failure), "larger images") from failure
    return tuple(shapes)


@functools.cache
def _balanced(
    name: str, input_shape: ImageShape, settings: Settings, num_blocks: int, batch_size: int, state_copies: int
) -> tuple[int, ...]:
    from neulite_sim.models.balancing import balanced_cuts, burden

    _block_shapes(name, input_shape, settings, ())
    with _on_meta():
        chain = _chain_on_meta(name, input_shape, settings)
        modules = [*(part.module for part in chain.parts), chain.head]
        found = burden(modules, torch.empty(max(batch_size, 2), *input_shape), state_copies=state_copies)
    return balanced_cuts(found.num_parts, num_blocks, found.peak_bytes)


def _refused(name: str, input_shape: ImageShape, reason: str, wish: str) -> ScenarioError:
    shape = "x".join(map(str, input_shape))
    finding = f"torchvision:{name} cannot take images of {shape}: {reason}"
    hint = f"use {wish} (data.image_size, data.shape or workload.input_shape) or another model"
    return ScenarioError([Problem.advising(key="model", found=finding, hint=hint)])


def _build(options: Options, name: str) -> Classifier:
    models = torchvision_module("models")
    known = models.list_models(module=models)
    if name not in known:
        raise UnknownComponentError(
            f"torchvision:{name} is not a classifier of torchvision{close_matches(name, known)} "
            f"(choices: {', '.join(known)})"
        )
    return Classifier(name=name, blocks=getattr(options, "blocks", None))


COMPONENT = Component(
    kind="torchvision",
    summary="any classifier of torchvision by its name, in blocks: its own stages, or as many as wished",
    source="torchvision, https://docs.pytorch.org/vision/stable/models.html#classification",
    options=TorchvisionOptions,
    build=_build,
    takes_argument=True,
)
