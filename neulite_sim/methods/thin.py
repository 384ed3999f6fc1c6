"""Thin models of a width-scaled method, and how one is trained.

Scaler and masked cross-entropy are those of HeteroFL
(Diao, Ding and Tarokh, ICLR 2021, section 3, https://arxiv.org/abs/2010.01264); FedRolex uses them as well.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neulite_sim.later import homes
from neulite_sim.methods.logits import LAYERS
from neulite_sim.methods.width import classifier_of
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.trainee import Trainee

__getattr__ = homes(
    __name__, **dict.fromkeys(("LEVELS", "MOST_RATES", "Rates", "names_of"), "neulite_sim.methods.rates")
)


def thinned(blueprint: Blueprint, rate: float) -> Blueprint:
    """Return the blueprint at `rate` of its own width."""
    return blueprint.at_width(blueprint.width * rate)


def masked_cross_entropy(logits_BC: Tensor, labels_B: Tensor, is_absent_C: Tensor) -> Tensor:
    """Return the mean cross-entropy with the logits of absent classes set to 0: they get no gradient."""
    is_absent = is_absent_C.view(-1, *[1] * (logits_BC.ndim - 2))
    return F.cross_entropy(logits_BC.masked_fill(is_absent, 0.0), labels_B)


class ThinTrainee(Trainee):
    """The model at `rate` of its width, every parameter trainable.

    With `scaler` the output of every convolution and linear layer but the classifier is divided by the rate while
    training, in place; with `masks_absent` the loss ignores the logits of classes that the device does not own.
    """

    def __init__(self, blueprint: Blueprint, rate: float, *, scaler: bool, masks_absent: bool) -> None:
        super().__init__()
        model = thinned(blueprint, rate).build()
        self.blocks = model.blocks
        self.head = model.head
        self._masks_absent = masks_absent
        self._is_absent_C: Tensor
        self.register_buffer("_is_absent_C", torch.zeros(blueprint.num_classes, dtype=torch.bool), persistent=False)
        if scaler and rate != 1:
            _add_scalers(self, rate, classifier_of(blueprint).layers)

    def see_labels(self, labels_N: Tensor) -> None:
        """Take note of the classes that the device owns."""
        self._is_absent_C.fill_(True)
        self._is_absent_C[labels_N] = False

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return logits `[B, classes]`."""
        features = images_BCHW
        for block in self.blocks:
            features = self.through(block, features)
        logits: Tensor = self.head(features)
        return logits

    def loss(self, images_BCHW: Tensor, labels_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean cross-entropy of the batch, masked or plain."""
        logits_BC = self(images_BCHW)
        squared_loss = self.squared_loss(logits_BC, labels_B)
        if self._masks_absent:
            return masked_cross_entropy(logits_BC, labels_B, self._is_absent_C), squared_loss
        return F.cross_entropy(logits_BC, labels_B), squared_loss


def _add_scalers(model: nn.Module, rate: float, classifier: Collection[str]) -> None:
    """Divide the outputs of hidden layers by `rate` where they lie, so that no second copy is held."""

    def divide(layer: nn.Module, _inputs: Any, output: Tensor) -> None:
        if layer.training:
            output.div_(rate)

    for path, layer in model.named_modules():
        if isinstance(layer, LAYERS) and path not in classifier:
            layer.register_forward_hook(divide)
