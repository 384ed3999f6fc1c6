"""Models of which a part of the variables is trained, and the heaviest that a draw of them can come to.

Which variables a device trains differs from flight to flight; it is told by `trained_variables`, a buffer that travels
with the weights. What no draw outweighs is worked out with PyTorch's own autograd, not by a formula: `HeaviestModel`
keeps what any set makes it keep, and drops at once the gradients that no set holds besides the heaviest ones.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from neulite_sim.methods.variable_sets import MASK, Rung, typical_set
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.kernel_guard import guarded
from neulite_sim.models.noise import noise, taking_turns
from neulite_sim.models.trainee import Trainee
from neulite_sim.scenario.schema import Training

_KEEPING = (_ConvNd, _NormBase, nn.LayerNorm, nn.GroupNorm)
"""Layers of which autograd keeps what they read whether or not they are trained, if anything before them is."""
_SPARE = 3
"""Numbers that a step holds of each trained variable whatever its size: Adam's counter, its norm, and that in a row."""


class PartialModel(Trainee):
    """The whole model, of which the variables with a one in `trained_variables` are trained; a typical draw at first.

    Devices keep no features of a frozen prefix: it is another in each flight, and rarely longer than a layer.
    """

    trained_variables: Tensor

    def __init__(self, blueprint: Blueprint, share: float, *, frozen_batch_norm: str) -> None:
        super().__init__()
        self._plan = blueprint, share
        self.frozen_batch_norm = frozen_batch_norm
        model = blueprint.build()
        self.blocks = model.blocks
        self.head = model.head
        self.rung = Rung.of(share, [variable.numel() for variable in self.parameters()])
        mask = typical_set(self.rung)
        self.register_buffer(MASK, torch.tensor([float(flag) for flag in mask]))
        self.train_only(mask)

    def train_only(self, mask: tuple[bool, ...]) -> None:
        """Let the variables be trained that have a true one in `mask`, in the order of `parameters`."""
        for variable, is_trained in zip(self.parameters(), mask, strict=True):
            variable.requires_grad_(is_trained)

    def see_labels(self, labels_N: Tensor) -> None:
        """Take note of which variables this flight trains; its payload is loaded by now."""
        self.train_only(tuple(flag > 0 for flag in self.trained_variables.tolist()))

    def at_worst(self, training: Training) -> Trainee | None:
        """Return what no draw of this share outweighs."""
        return HeaviestModel(*self._plan, makes_one_gradient=makes_one_gradient(training))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return logits `[B, classes]`."""
        features = images_BCHW
        for block in self.blocks:
            features = self.through(block, features)
        logits: Tensor = self.head(features)
        return logits

    def loss(self, images_BCHW: Tensor, labels_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean cross-entropy of the batch."""
        logits_BK = self(images_BCHW)
        return self.cross_entropy(logits_BK, labels_B), self.squared_loss(logits_BK, labels_B)


def makes_one_gradient(training: Training) -> bool:
    """Return whether a step makes a gradient in its place, with no second copy of it meanwhile."""
    return training.micro_batch_size is None and training.precision == "fp32"


class HeaviestModel(PartialModel):
    """A model whose steps hold, at every moment, at least what those of any set of the share's draws hold.

    Autograd keeps all activations, as though every variable were trained. Gradients and optimizer states are those of
    the variables whose gradients come first in the backward pass, up to the share's budget, when most activations are
    still there; and those of the largest one, for what the optimizer makes of it. Others are dropped as they come.
    With `makes_one_gradient` others are not even made where autograd keeps as much without: a draw that trains such a
    variable holds less of those before it.
    """

    def __init__(self, blueprint: Blueprint, share: float, *, makes_one_gradient: bool) -> None:
        super().__init__(blueprint, share, frozen_batch_norm="train")
        self.requires_grad_(True)
        self.register_buffer("_spare", torch.zeros(_SPARE * len(self.rung.sizes)), persistent=False)
        order = self._gradient_order(blueprint)
        kept = self.rung.first_within_budget(order)
        needless = self._needless() if makes_one_gradient else set()
        for place, variable in enumerate(self.parameters()):
            if place in kept:
                continue
            # All activations are kept from the first variable on, so that one must be trained.
            if variable in needless and place != order[-1]:
                variable.requires_grad_(False)
            else:
                variable.register_post_accumulate_grad_hook(_drop)  # type: ignore[no-untyped-call]

    def _needless(self) -> set[nn.Parameter]:
        """Return the variables that autograd keeps nothing for, and whose gradients come with those of no other."""
        layers = (layer for layer in self.modules() if isinstance(layer, _KEEPING))
        # Whoever asks a convolution for the gradient of its bias gets that of the weight as well.
        alone = (layer for layer in layers if not isinstance(layer, _ConvNd) or layer.bias is None)
        return {variable for layer in alone for variable in layer.parameters(recurse=False)}

    def see_labels(self, labels_N: Tensor) -> None:
        """Go on as it was made."""

    def at_worst(self, training: Training) -> Trainee | None:
        """Return nothing: it is the heaviest itself."""
        return None

    def _gradient_order(self, blueprint: Blueprint) -> list[int]:
        """Return the variables in the order in which a backward pass makes their gradients."""
        places = {variable: place for place, variable in enumerate(self.parameters())}
        order: list[int] = []

        def note(variable: nn.Parameter) -> None:
            order.append(places[variable])

        hooks = [variable.register_post_accumulate_grad_hook(note) for variable in places]  # type: ignore[no-untyped-call]
        self.prepare()
        spec = blueprint.spec
        loss, _ = self.loss(noise(spec, 2), taking_turns(spec, 2, num_classes=2))
        with guarded(loss):
            loss.backward()  # type: ignore[no-untyped-call]
        self.zero_grad(set_to_none=True)
        for hook in hooks:
            hook.remove()
        return order


def _drop(variable: nn.Parameter) -> None:
    variable.grad = None
