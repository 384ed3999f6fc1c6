"""The model of which a run of consecutive blocks is trained, between frozen ones through which gradients pass.

Pfeiffer et al., CoCoFL, TMLR 2023, https://arxiv.org/abs/2203.05468, section 3. Frozen blocks before the run need no
gradient and keep nothing; those behind it pass the gradient on and keep what that takes, such as the result of a ReLU.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from neulite_sim.methods.frozen_layers import FoldedNorm, fold_normalisation, let_gradients_pass
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.trainee import Trainee


class FrozenAround(Trainee):
    """The whole model, of which the blocks from `first` to before `end` are trained, counted from 0.

    The head is trained with the last block. Weights and statistics are read anew whenever it is prepared.
    """

    def __init__(self, blueprint: Blueprint, first: int, end: int) -> None:
        super().__init__()
        model = blueprint.build()
        chain = [*model.blocks, model.head]
        for number, part in enumerate(chain):
            is_head = number == model.num_blocks
            if first <= number < end or (is_head and end == model.num_blocks):
                continue
            folded = fold_normalisation(part.requires_grad_(False))
            # Before the run no gradient passes, and what is frozen there may be known from another epoch.
            chain[number] = let_gradients_pass(folded) if number >= end else folded
        self.blocks = nn.ModuleList(chain[:-1])
        self.head = chain[-1]

    def prepare(self, *, has_batch_statistics: bool = True) -> None:
        """Set the layers to training mode, and take the numbers of frozen normalisation from what is loaded."""
        super().prepare(has_batch_statistics=has_batch_statistics)
        for layer in self.modules():
            if isinstance(layer, FoldedNorm):
                layer.fold()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits `[B, classes]`."""
        return self.along(self.blocks, inputs, head=self.head)

    def loss(self, inputs: Tensor, labels_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean cross-entropy of the batch."""
        logits_BK = self(inputs)
        return self.cross_entropy(logits_BK, labels_B), self.squared_loss(logits_BK, labels_B)
