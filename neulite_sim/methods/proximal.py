"""Terms of a local loss that tie a device's weights to those it was sent: (1/2) |w - w_t|^2.

`SentCopy` keeps the copy w_t. It is a module with non-persistent buffers, so that a profile counts its bytes among the
parameters while nothing of it travels: a device has w_t already, it is the model that it downloaded.

Compute a term before the forward pass. Its backward pass then comes last, and the gradients that it adds are no
longer alive together with the activations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from neulite_sim.models.contract import Blueprint
from neulite_sim.models.trainee import FullModel


class SentCopy(nn.Module):
    """A copy of the trainable parameters of another module, as they were when `hold` was called last."""

    def hold(self, module: nn.Module) -> None:
        """Copy the trainable parameters of `module`; call it in `Trainee.prepare`, when the payload is loaded."""
        for name, parameter in _trainable(module):
            self.register_buffer(buffer_name(name), parameter.detach().clone(), persistent=False)

    def half_squared_distance(self, module: nn.Module) -> Tensor:
        """Return (1/2) |w - w_t|^2 over the trainable parameters of `module`, a scalar."""
        terms = [
            _HalfSquaredDistance.apply(parameter, self.get_buffer(buffer_name(name)))  # type: ignore[no-untyped-call]
            for name, parameter in _trainable(module)
        ]
        return torch.stack(terms).sum()


class ProximalModel(FullModel):
    """The full model, tied by (mu/2) |w - w_t|^2 to the weights w_t that training starts from (FedProx, eq. 2)."""

    def __init__(self, blueprint: Blueprint, mu: float) -> None:
        super().__init__(blueprint)
        self._mu = mu
        self.anchor = SentCopy()

    def prepare(self, *, has_batch_statistics: bool = True) -> None:
        """Set the layers to training mode and take the present weights as w_t."""
        super().prepare(has_batch_statistics=has_batch_statistics)
        self.anchor.hold(self)

    def loss(self, images_BCHW: Tensor, labels_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return cross-entropy plus the proximal term; both are reported, as `cross_entropy` and `proximal`."""
        proximal = self._mu * self.anchor.half_squared_distance(self)
        cross_entropy, scalars = super().loss(images_BCHW, labels_B)
        terms = {"cross_entropy": cross_entropy.detach(), "proximal": proximal.detach()}
        return cross_entropy + proximal, {**terms, **scalars}


def buffer_name(name: str) -> str:
    """Return the name under which a buffer can stand for the parameter `name`: PyTorch allows no dots in it."""
    return name.replace(".", "/")


def _trainable(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]


class _HalfSquaredDistance(torch.autograd.Function):
    """(1/2) |w - a|^2 that keeps only w and a for the backward pass; plain autograd would keep w - a as well."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, anchor: Tensor) -> Tensor:
        """Return the term, a scalar."""
        ctx.save_for_backward(weights, anchor)
        half_square: Tensor = torch.linalg.vector_norm(weights - anchor).square() / 2
        return half_square

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return w - a, scaled."""
        weights, anchor = ctx.saved_tensors
        return (weights - anchor).mul_(gradients[0]), None
