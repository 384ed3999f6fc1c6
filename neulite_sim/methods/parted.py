"""The model of FeDepth, trained part by part, and where its blocks are cut into parts.

Zhang et al., "Memory-adaptive Depth-wise Heterogenous Federated Learning", https://arxiv.org/abs/2303.04887. Part j of
blocks b to e - 1 computes head(link_e(block_e-1(... block_b(x))) with cross-entropy, x being what the frozen blocks
before make of a sample. The last part has no link: there the head reads what it was made for.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.methods.parted_plan import LinkKind, PartedPlan
from neulite_sim.models.contract import BlockModel, Blueprint
from neulite_sim.models.initialisation import initialise
from neulite_sim.models.output import require_places
from neulite_sim.models.trainee import Trainee
from neulite_sim.samples import Shape

_POINTWISE = {1: nn.Linear, 2: nn.Conv1d, 3: nn.Conv2d, 4: nn.Conv3d}
"""By the dimensions of a map, channels included."""


class PartedModel(Trainee):
    """The whole model and the links behind its parts; entered in no part, it is the whole model."""

    def __init__(self, blueprint: Blueprint, plan: PartedPlan) -> None:
        super().__init__()
        model = blueprint.build()
        self.blocks = model.blocks
        self.head = model.head
        self.links = nn.ModuleDict({str(end): make_link(model, end, plan.link) for end in plan.ends[:-1]})
        self.frozen_batch_norm = plan.frozen_batch_norm
        self.num_parts = len(plan.ends)
        self._begins = (plan.num_frozen, *plan.ends[:-1])
        self._ends = plan.ends
        self.enter(None)

    def enter(self, part: int | None) -> None:
        """Let the blocks of `part`, its link and the head be trained, or all that any part trains."""
        first, last = (0, self.num_parts - 1) if part is None else (part, part)
        self._end = self._ends[last]
        for number, block in enumerate(self.blocks):
            block.requires_grad_(self._begins[first] <= number < self._end)
        for end, link in self.links.items():
            link.requires_grad_(part is None or int(end) == self._end)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits `[B, classes]` of the part that is entered."""
        features = self.along(self.blocks[: self._end], inputs)
        if self._end < len(self.blocks):
            features = self.links[str(self._end)](features)
        logits: Tensor = self.head(features)
        return logits

    def loss(self, inputs: Tensor, labels_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean cross-entropy of the batch."""
        logits_BK = self(inputs)
        return self.cross_entropy(logits_BK, labels_B), self.squared_loss(logits_BK, labels_B)


class Link(nn.Module):
    """From a map of shape `before` to one of shape `after`: every n-th pixel, then channels of zeros on both sides.

    As the shortcuts without weights of He et al. (CVPR 2016, option A). Where there are channels too many, the leading
    ones are taken. With `weights` a bias-free 1x1 convolution makes the channels of the pixels.
    """

    def __init__(self, before: Shape, after: Shape, *, has_weights: bool) -> None:
        super().__init__()
        self._places = after[1:] if after[1:] != before[1:] else ()
        self._missing = after[0] - before[0]
        if has_weights:
            layer = _POINTWISE[len(before)]
            size = () if layer is nn.Linear else (1,)
            self.pointwise = layer(before[0], after[0], *size, bias=False)
        self._has_weights = has_weights

    def forward(self, features: Tensor) -> Tensor:
        """Return the map `[B, *after]`."""
        if self._places:
            features = F.interpolate(features, size=self._places, mode="nearest")
        if self._has_weights:
            features = self.pointwise(features)
        elif self._missing > 0:
            around = [0, 0] * (features.ndim - 2)
            features = F.pad(features, (*around, self._missing // 2, self._missing - self._missing // 2))
        elif self._missing < 0:
            features = features[:, : self._missing]
        return features


def make_link(model: BlockModel, end: int, kind: LinkKind) -> Link:
    """Return the link from the output of the first `end` blocks to the head, freshly initialised.

    Raises:
        ScenarioError: one of the two maps has more dimensions than the other, or is empty.
    """
    before, after = model.block_shapes[end - 1], model.block_shapes[-1]
    require_places([before, after])
    if len(before) != len(after):
        finding = f"fedepth links each block to the head, but block {end} puts out {before} and the last one {after}"
        hint = "use a model whose blocks put out maps of as many dimensions, or another method"
        raise ScenarioError([Problem.advising(key="method", found=finding, hint=hint)])
    link = Link(before, after, has_weights=kind == "conv")
    initialise(link)
    return link
