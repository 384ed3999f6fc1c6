"""The models of ProFL: a block with surrogates of those behind it, and a block beside the surrogate that it teaches.

Wu, Li and Xu, "Breaking the Memory Wall for Heterogeneous Federated Learning via Progressive Training", KDD 2025,
https://arxiv.org/abs/2404.13349. Surrogates are those of NeuLite's output modules, one for each block, and are named by
it: `surrogates.2` stands for `blocks.2`. Both models have the names of one pool, in which the whole network is
`blocks.…` and `head.…`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neulite_sim.models.contract import BlockModel, Blueprint
from neulite_sim.models.output import OutputModule, copied_head
from neulite_sim.models.trainee import Trainee

FrozenStatistics = Literal["eval", "train"]


class _Progressive(Trainee):
    """Blocks, surrogates of later ones and a classifier. Running statistics that a device collects, it sends back."""

    def __init__(self, blocks: nn.ModuleList, frozen_batch_norm: FrozenStatistics) -> None:
        super().__init__()
        self.frozen_batch_norm = frozen_batch_norm
        self.blocks = blocks
        self.surrogates = nn.ModuleDict()
        self.head: nn.Module = nn.Identity()

    def read(self, features: Tensor, first: int = 0) -> Tensor:
        """Return the logits that surrogates, from that of block number `first` (from 0) on, and classifier read."""
        for number, surrogate in self.surrogates.items():
            features = surrogate(features) if int(number) >= first else features
        logits: Tensor = self.head(features)
        return logits

    def upload_names(self) -> tuple[str, ...]:
        """Return what is trained, and the statistics of every layer where frozen ones go on collecting them."""
        sent = set(super().upload_names())
        if self.frozen_batch_norm == "train":
            sent.update(name for name, _ in self.named_buffers())
        return tuple(name for name, _ in self.travelling() if name in sent)


class SurrogateStage(_Progressive):
    """Stage t (1 to T): blocks 1 to t, of which the last is trained, the surrogates behind it and the classifier."""

    def __init__(self, blueprint: Blueprint, stage: int, *, frozen_batch_norm: FrozenStatistics) -> None:
        model = blueprint.build()
        super().__init__(model.blocks[:stage], frozen_batch_norm)
        output = OutputModule(model, stage, head=model.head)
        self.surrogates.update(_numbered(output, stage))
        self.head = output.head
        self.blocks[: stage - 1].requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits `[B, classes, *target_shape]`."""
        return self.read(self.along(self.blocks, inputs))

    def loss(self, inputs: Tensor, labels_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean cross-entropy of the batch."""
        logits_BK = self(inputs)
        return self.cross_entropy(logits_BK, labels_B), self.squared_loss(logits_BK, labels_B)


class Distillation(_Progressive):
    """Block t (2 to T) as the teacher of its surrogate, and the surrogate in the block's place as the student.

    All else is the same in teacher and student, frozen, and held once; of the last block, whose student trains the
    classifier as well, the teacher reads its own, `teacher_head`.
    """

    def __init__(self, blueprint: Blueprint, stage: int, *, frozen_batch_norm: FrozenStatistics) -> None:
        model = blueprint.build()
        super().__init__(model.blocks[:stage], frozen_batch_norm)
        is_last = stage == model.num_blocks
        # A tied embedding stays the one that both heads read: the pool has it once, under its own name.
        head = copied_head(model.head, beside=model.blocks) if is_last else model.head
        output = OutputModule(model, stage - 1, head=head)
        self.surrogates.update(_numbered(output, stage - 1))
        self.head = output.head
        self.teacher_head = model.head if is_last else None
        self._number = stage - 1
        self.requires_grad_(False)
        self.surrogates[str(self._number)].requires_grad_(True)
        self.head.requires_grad_(is_last)

    def loss(self, inputs: Tensor, labels_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean squared difference between the logits of student and teacher, who gets no gradient."""
        before = self.along(self.blocks[: self._number], inputs)
        with torch.no_grad():
            taught = self._taught(before)
        logits_BK = self.read(before)
        return F.mse_loss(logits_BK, taught), self.squared_loss(logits_BK, labels_B)

    def _taught(self, before: Tensor) -> Tensor:
        features = self.through(self.blocks[self._number], before)
        if self.teacher_head is None:
            return self.read(features, first=self._number + 1)
        logits: Tensor = self.teacher_head(features)
        return logits


def surrogates_of(model: BlockModel) -> dict[str, Tensor]:
    """Return freshly initialised surrogates of all blocks but the first, under the names that they have in the pool."""
    made = nn.ModuleDict(_numbered(OutputModule(model, 1), 1))
    return {f"surrogates.{name}": tensor.detach().clone() for name, tensor in made.state_dict().items()
            if tensor.is_floating_point()}  # fmt: skip


def _numbered(output: OutputModule, first: int) -> dict[str, nn.Module]:
    """Return the surrogates of an output module by the number, from 0, of the block that each stands for."""
    return {str(number): layer for number, layer in enumerate(output.surrogates, start=first)}
