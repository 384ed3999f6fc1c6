"""NeuLite's output modules: what stands in for the later blocks while one block is trained.

Y. Wu et al., "NeuLite: Memory-Efficient Federated Learning via Elastic Progressive Training", AAAI 2025,
https://arxiv.org/abs/2408.10826. The paper asks for one basic layer per later block; its shape follows the authors'
reference code: a 3x3 convolution as strided as the block, without BatchNorm or ReLU, unless the architecture brings a
basic layer of its own (one encoder of a vision transformer). Then comes the model's head and,
off the path to the logits, a projection of three linear layers for the curriculum's nHSIC terms. Each stage owns its
module, the head included.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.models.contract import BlockModel
from neulite_sim.models.initialisation import initialise
from neulite_sim.models.names import Surrogate
from neulite_sim.models.normalisation import normalised_in_groups
from neulite_sim.samples import InputSpec, Shape


class OutputModule(nn.Module):
    """The output module of one stage, freshly initialised from PyTorch's current generator.

    Stage t (1 to T) trains `model.blocks[t - 1]`; its surrogates replace `model.blocks[t:]`, one each: what
    `model.basic_layer` makes, else a convolution, plain ("conv") or with BatchNorm and ReLU ("conv-bn-relu"). With
    `surrogate` "none" nothing replaces them and `head` reads the block's own map. `head` is initialised anew and kept;
    where it is not given, a copy of `model.head` is. `projection` adds linear layers d -> 4d -> 2d -> d for d channels
    of the last block, and `projection_relu` a ReLU between them. Parameters are named `surrogates.0.…`, `head.…` and
    `projection.…`.

    Raises:
        ScenarioError: a map is empty, or is not (C, H, W) and the model brings no basic layer.
    """

    def __init__(
        self,
        model: BlockModel,
        stage: int,
        *,
        head: nn.Module | None = None,
        surrogate: Surrogate = "conv",
        projection: bool = False,
        projection_relu: bool = False,
    ) -> None:
        super().__init__()
        assert 1 <= stage <= model.num_blocks, f"stage {stage} of a model of {model.num_blocks} blocks"
        shapes = model.block_shapes[stage - 1 :] if surrogate != "none" else model.block_shapes[stage - 1 : stage]
        require_places(shapes)
        make = model.basic_layer or functools.partial(_surrogate, kind=surrogate)
        layers = (make(before, after) for before, after in itertools.pairwise(shapes))
        self.surrogates = nn.Sequential(*layers)
        if model.norm == "group":
            normalised_in_groups(self.surrogates)
        self.head = copied_head(model.head) if head is None else head.requires_grad_(True)
        self.projection = _projection(shapes[-1][0], relu=projection_relu) if projection else None
        initialise(self)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[B, classes, *target_shape]` and the map they were read from.

        It has the last block's shape, or that of the stage's own block where there are no surrogates.
        """
        final_map = self.surrogates(features)
        return self.head(final_map), final_map

    def project(self, final_map: Tensor) -> Tensor:
        """Return the projection `[B, d]` of the map's mean over its places. Only for modules built with one."""
        assert self.projection is not None, "this output module was built without a projection"
        places = tuple(range(2, final_map.ndim))
        projected: Tensor = self.projection(final_map.mean(dim=places) if places else final_map)
        return projected


def pooled_head(channels: int, num_classes: int) -> nn.Module:
    """Return the simplest head of a map of `channels`: mean over its pixels, then one linear layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


def simplest_head(shape: Shape, spec: InputSpec) -> nn.Module:
    """Return the simplest head of a map of any shape: `pooled_head`, or one linear layer per place for its target.

    Raises:
        ScenarioError: the map is empty, or there are several targets, but not one for each of its places.
    """
    require_places([shape])
    channels, *places = shape
    if not spec.target_shape:
        return pooled_head(channels, spec.num_classes) if len(places) == 2 else MeanHead(channels, spec.num_classes)
    if tuple(places) != spec.target_shape:
        message = (
            f"the samples of data are {spec}, but a block puts out maps of shape {shape}: no head can stand on it; "
            "choose a method that trains the full model"
        )
        raise ScenarioError([Problem(key="method", message=message)])
    return PlaceHead(channels, spec.num_classes, classes_last=spec.predicts_tokens)


def require_places(shapes: Sequence[Shape]) -> None:
    """Refuse maps between blocks that have a side of 0: nothing can be read from them.

    Raises:
        ScenarioError: one of the maps is empty.
    """
    empty = next((shape for shape in shapes if 0 in shape), None)
    if empty is not None:
        found = f"a block puts out maps of shape {empty}, which hold nothing: no layer or head can stand on them"
        hint = "let its layers leave at least one place, or choose a method that trains the full model"
        raise ScenarioError([Problem.advising(key="model", found=found, hint=hint)])


class MeanHead(nn.Module):
    """Mean over a map's places, however many dimensions they have, then one linear layer."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits `[B, classes]`."""
        logits: Tensor = self.fc(features.flatten(2).mean(dim=2) if features.ndim > 2 else features)
        return logits


class PlaceHead(nn.Module):
    """One linear layer, the same at each place of a map; `classes_last` as `targets` has it."""

    def __init__(self, channels: int, num_classes: int, *, classes_last: bool = False) -> None:
        super().__init__()
        self.classes_last = classes_last
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits `[B, classes, *places]`."""
        logits: Tensor = self.fc(features.movedim(1, -1)).movedim(-1, 1)
        return logits


def copied_head(head: nn.Module, *, beside: nn.Module | None = None) -> nn.Module:
    """Return a trainable copy of a head that shares nothing with it.

    What it reads of other parts, a tied embedding, it holds a copy of, or reads where it is if that is in `beside`.
    Tensors are copied here and given to `deepcopy` as done: its own way with them fails for PyTorch's fake tensors.
    """
    copies: dict[int, object] = {id(buffer): buffer.detach().clone() for buffer in head.buffers()}
    copies.update((id(parameter), nn.Parameter(parameter.detach().clone())) for parameter in head.parameters())
    if beside is not None:
        copies.update((id(kept), kept) for kept in (*beside.modules(), *beside.parameters(), *beside.buffers()))
    return copy.deepcopy(head, copies)


def _surrogate(before: Shape, after: Shape, kind: Surrogate) -> nn.Sequential:
    """Return one layer from a map of shape `before` to one of shape `after`."""
    if (len(before), len(after)) != (3, 3):
        message = (
            f"NeuLite puts a convolution in the place of each later block, and this model's maps are no images' but "
            f"of shape {after}; choose a model that brings a basic layer of its own (BlockModel.basic_layer)"
        )
        raise ScenarioError([Problem(key="model", message=message)])
    stride = _stride(before[1], after[1]), _stride(before[2], after[2])
    conv = nn.Conv2d(before[0], after[0], 3, stride, padding=1, bias=False)
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=conv)
    if kind == "conv-bn-relu":
        layers.update(bn=nn.BatchNorm2d(after[0]), relu=nn.ReLU(inplace=True))
    if (-(-before[1] // stride[0]), -(-before[2] // stride[1])) != after[1:]:
        layers["pool"] = nn.AdaptiveAvgPool2d(after[1:])
    return nn.Sequential(layers)


def _stride(before: int, after: int) -> int:
    """Return the ratio of two sides, the one that hits `after` where one does, else the largest that stays above it.

    A padded 3x3 convolution of stride s turns a side n into ceil(n / s): 32 to 16 needs 2, 7 to 4 needs 2, and 15 to 7
    takes 2 (giving 8), since 3 would give 5. A side that grows takes 1.
    """
    stride = -(-before // after)
    return stride if -(-before // stride) >= after else max(1, stride - 1)


def _projection(channels: int, *, relu: bool) -> nn.Sequential:
    widths = (channels, 4 * channels, 2 * channels, channels)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, (width_in, width_out) in enumerate(itertools.pairwise(widths)):
        if index and relu:
            layers[f"relu{index}"] = nn.ReLU(inplace=True)
        layers[f"fc{index + 1}"] = nn.Linear(width_in, width_out)
    return nn.Sequential(layers)
