"""The model of one ProgFed stage: the blocks that are there, and a head on the last of them.

Wang, Stich, He and Fritz, "ProgFed: Effective, Communication, and Computation Efficient Federated Learning by
Progressive Training", ICML 2022. https://arxiv.org/abs/2110.05323
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from neulite_sim.models.contract import Blueprint
from neulite_sim.models.output import simplest_head
from neulite_sim.models.trainee import Trainee


class GrowingModel(Trainee):
    """Blocks 1 to s and a head: `heads.s` while it grows, `head` when it is whole."""

    def __init__(self, blueprint: Blueprint, stage: int, *, is_warmup: bool) -> None:
        super().__init__()
        model = blueprint.build()
        self.blocks = model.blocks[:stage]
        if stage == model.num_blocks:
            self.head = model.head
        else:
            head = simplest_head(model.block_shapes[stage - 1], blueprint.spec)
            self.heads = nn.ModuleDict({str(stage): head})
        self._head_path = "head" if stage == model.num_blocks else f"heads.{stage}"
        if is_warmup:
            self.blocks[: stage - 1].requires_grad_(False)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return logits `[B, classes]`."""
        return self.along(self.blocks, images_BCHW, head=self.get_submodule(self._head_path))

    def loss(self, images_BCHW: Tensor, labels_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean cross-entropy of the batch."""
        logits_BK = self(images_BCHW)
        return self.cross_entropy(logits_BK, labels_B), self.squared_loss(logits_BK, labels_B)
