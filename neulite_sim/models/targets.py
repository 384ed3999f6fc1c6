"""The loss of logits against their targets: one per sample, or one per token.

Cross-entropy is averaged over all targets of a batch, which all count alike. Sequences of a dataset are of one length,
so that the mean over tokens is the mean over sequences of each one's mean over its tokens, and an update weighs as many
sequences as it was trained on.

Heads that make logits token by token hold them `[B, N, classes]` in memory and show them as `[B, classes, N]`. Their
loss is taken of the rows `[B N, classes]`, a view, as training codes of language models do: the other order would copy
logits and their gradient, which are the largest tensors of a step with a vocabulary of 100,000.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Reduction = Literal["mean", "sum", "none"]


def cross_entropy(logits: Tensor, labels: Tensor, *, classes_last: bool, reduction: Reduction = "mean") -> Tensor:
    """Return the cross-entropy of logits `[B, classes, *places]`; with `reduction` none of the shape of `labels`.

    `classes_last` says that the classes lie side by side in memory, as `puts_classes_last` finds of a model.
    """
    if logits.ndim < 3 or not classes_last:
        return F.cross_entropy(logits, labels, reduction=reduction)
    rows = logits.movedim(1, -1).flatten(0, -2)
    losses = F.cross_entropy(rows, labels.flatten(), reduction=reduction)
    return losses.view(labels.shape) if reduction == "none" else losses


def puts_classes_last(module: nn.Module) -> bool:
    """Return whether a module's logits come of a head whose classes lie side by side (`classes_last`)."""
    return any(getattr(part, "classes_last", False) is True for part in module.modules())
