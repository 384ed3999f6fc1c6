"""Testing the global model, with running or recalibrated BatchNorm statistics."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from neulite_sim.models.targets import cross_entropy, puts_classes_last
from neulite_sim.training.diagnostics import Diagnostic

_MOST_LOSS = 700.0
"""Of larger ones the exponential is beyond a double."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """Mean cross-entropy and accuracy, in [0, 1], over the targets of `num_samples`, and the diagnostics asked for."""

    loss: float
    accuracy: float
    num_samples: int
    diagnostics: tuple[Diagnostic, ...] = ()


def perplexity(loss: float) -> float | None:
    """Return exp(loss), the perplexity of a mean cross-entropy in nats; None where it is no finite number."""
    return math.exp(loss) if loss < _MOST_LOSS else None


def evaluate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> EvaluationResult:
    """Return loss and accuracy of `model` over batches of what it reads and their targets, one or more per sample."""
    model.eval()
    classes_last = puts_classes_last(model)
    loss, correct, num_targets, num_samples = 0.0, 0, 0, 0
    with torch.no_grad():
        for inputs, labels_B in batches:
            logits_BK = model(inputs)
            loss += float(cross_entropy(logits_BK, labels_B, reduction="sum", classes_last=classes_last))
            correct += int((logits_BK.argmax(dim=1) == labels_B).sum())
            num_targets += labels_B.numel()
            num_samples += len(labels_B)
    return EvaluationResult(loss=loss / num_targets, accuracy=correct / num_targets, num_samples=num_samples)


def recalibrate_batch_norm(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Rebuild every BatchNorm's running statistics as the plain mean over `batches` of what it reads.

    Width-scaled and staged methods average statistics that belong to different networks; this gives the global
    model statistics of its own (static BatchNorm of Diao, Ding and Tarokh, HeteroFL, ICLR 2021, section 3).
    """
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
    model.train()
    with torch.no_grad():
        for inputs in batches:
            model(inputs)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
