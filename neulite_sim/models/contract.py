"""A model as an ordered stack of blocks and a head, and the blueprint that builds one.

Parameter names are the interface between methods, devices and aggregation: `blocks.0.…` to `blocks.{T-1}.…` and
`head.…`. The stem belongs to the first block.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.models.normalisation import normalised_in_groups
from neulite_sim.samples import ImageShape, InputSpec, Shape, spec_of
from neulite_sim.user_code.drawing import seeded

NormKind = Literal["batch", "group"]
BasicLayer = Callable[[Shape, Shape], nn.Module]
Layers = tuple[tuple[str, ...], ...]
"""The layers of a block in order, each as the paths of the modules that hold it."""


class BlockModel(nn.Module):
    """Blocks applied in order, then a head that turns the last map into logits.

    `tails[b]` names the modules (paths inside block b) that are its last layer: NeuLite trains them together with
    block b + 1. `layers[b]` names those of each of its layers, from the one that reads the block's input to the tail:
    one layer is what has weights and what normalises it, and layers side by side are one. Where it is not given, a
    block is known by its tail alone. `block_shapes[b]` is the shape that block b puts out, without the batch: channels
    first, then places, `(C, H, W)` of images and `(C, length)` of sequences. `basic_layer` makes one basic layer of
    this architecture from the shape it reads and the shape it puts out; NeuLite's output modules take it in place of a
    convolution where it is given, and need it where maps are not those of images.
    """

    def __init__(
        self,
        blocks: list[nn.Module],
        head: nn.Module,
        *,
        tails: tuple[tuple[str, ...], ...],
        block_shapes: tuple[Shape, ...],
        basic_layer: BasicLayer | None = None,
        layers: tuple[Layers, ...] | None = None,
    ) -> None:
        super().__init__()
        assert len(blocks) == len(tails) == len(block_shapes)
        self.blocks = nn.ModuleList(blocks)
        self.head = head
        self.tails = tails
        self.layers = layers if layers is not None else tuple((tail,) if tail else () for tail in tails)
        self.block_shapes = block_shapes
        self.basic_layer = basic_layer
        self.norm: NormKind = "batch"

    @property
    def num_blocks(self) -> int:
        """Number of blocks, T."""
        return len(self.blocks)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits `[B, classes, *target_shape]`."""
        features = inputs
        for block in self.blocks:
            features = block(features)
        logits: Tensor = self.head(features)
        return logits


ImageArchitecture = Callable[[ImageShape, int, float], BlockModel]
"""`architecture(input_shape, num_classes, width)`: of images."""
Architecture = ImageArchitecture | Callable[[InputSpec, float], BlockModel]
"""Or `architecture(spec, width)`: of any samples; what it cannot read it refuses with a `ScenarioError`."""


@runtime_checkable
class Settling(Protocol):
    """An architecture that is yet to be cut into blocks; where, depends on what devices are charged for."""

    def settled(self, spec: InputSpec, *, batch_size: int, state_copies: int) -> Architecture:
        """Return the architecture cut in the same places whatever its samples are.

        The places are chosen for samples of `spec` in batches of `batch_size`, and an optimizer that keeps
        `state_copies` tensors per weight.
        """


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class Blueprint:
    """How to build one model: an architecture for samples of some kind, at a width.

    The architecture must be a module-level callable, a `functools.partial` of one or a value of a class there, so that
    a blueprint can travel to a worker process. Samples are given as `spec`, or as `input_shape` and `num_classes` where
    they are images. The workload and the proxy of a scenario are two blueprints of one architecture.
    """

    architecture: Architecture
    spec: InputSpec
    width: float
    name: str
    norm: NormKind

    def __init__(
        self,
        *,
        architecture: Architecture,
        spec: InputSpec | None = None,
        input_shape: Shape | None = None,
        num_classes: int | None = None,
        width: float = 1.0,
        name: str = "",
        norm: NormKind = "batch",
    ) -> None:
        values = (architecture, spec_of(spec, input_shape, num_classes), width, name, norm)
        for field, value in zip(("architecture", "spec", "width", "name", "norm"), values, strict=True):
            object.__setattr__(self, field, value)

    @property
    def input_shape(self) -> Shape:
        """Shape of a sample; channels, height and width of an image."""
        return self.spec.shape

    @property
    def num_classes(self) -> int:
        """Number of classes of a target."""
        return self.spec.num_classes

    def build(self) -> BlockModel:
        """Return a freshly initialised model on PyTorch's current default device and generator.

        With `norm` group no BatchNorm is in it, and it says so itself, for modules that are made to go with it.

        Raises:
            ScenarioError: the samples are no images, and the architecture reads nothing else.
        """
        model = self._built()
        if self.norm == "group":
            normalised_in_groups(model)
            model.norm = self.norm
        return model

    def _built(self) -> BlockModel:
        architecture: Callable[..., BlockModel] = self.architecture
        if _reads_any_samples(architecture):
            return architecture(self.spec, self.width)
        if not self.spec.is_image:
            message = f"{self.name or 'this one'} reads images only, and the samples of data are {self.spec}"
            raise ScenarioError([Problem(key="model", message=f"{message}; choose a model for them")])
        return architecture(self.spec.shape, self.spec.num_classes, self.width)

    def build_meta(self) -> BlockModel:
        """Return the model on the meta device: shapes and names without memory."""
        with torch.device("meta"):
            return self.build()

    def look(self) -> BlockModel:
        """Return `build_meta` to look at: the same model whoever asks, so that nobody may change it.

        A study asks for the same ones with every method.
        """
        try:
            return _looked_at(self)
        except TypeError:
            # An architecture of others need not be hashable.
            return _looked_at.__wrapped__(self)

    @property
    def has_batch_norm(self) -> bool:
        """Whether any layer of the model keeps running statistics of its batches."""
        return any("running_mean" in name for name in self.look().state_dict())

    def build_seeded(self, seed: int) -> BlockModel:
        """Return a model whose initial weights depend on `seed` alone; global generators are left as they were."""
        with seeded(seed):
            return self.build()

    def at_width(self, width: float) -> Blueprint:
        """Return the blueprint of the same model at another width."""
        return replace(self, width=width)


@functools.lru_cache(maxsize=32)
def _looked_at(blueprint: Blueprint) -> BlockModel:
    # What is made under a mode that follows tensors is of no use outside of it.
    with _disable_current_modes():
        return blueprint.build_meta()


def _reads_any_samples(architecture: Callable[..., Any]) -> bool:
    """Return whether an architecture is of the kind that is called with a spec and a width, by what it can be given."""
    return _takes(architecture, 2) and not _takes(architecture, 3)


def _takes(function: Callable[..., Any], num_arguments: int) -> bool:
    try:
        inspect.signature(function).bind(*[None] * num_arguments)
    except (TypeError, ValueError):
        return False
    return True


def scaled(channels: int, width: float) -> int:
    """Return `ceil(width * channels)`, at least one: the channel count of a width-scaled layer."""
    return max(1, -int(-width * channels // 1))
