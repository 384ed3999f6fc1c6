"""Both nHSIC terms of NeuLite's loss in form `ratio`, in a few operators and with their gradient in closed form.

The same as `nhsic` of each pair of kernels up to rounding in double precision, and what workers train with: a batch is
small, and its kernels cost more calls than arithmetic. Devices are charged for the plain form.

With K and L centred kernels of m samples, r their ratio, and |K|^2 the mean of K's squared entries,

    dr/dK = (L / sqrt(|K|^2 |L|^2) - r K / |K|^2) / m^2.

K and L are centred, so this is, too: it is the gradient of the kernel before centring as well. A kernel entry is
exp(d / s) with s = -2 sigma^2 D, hence dr/dd = dr/dK exp(d / s) / s =: W, and as W is symmetric the gradient of the
features x is 4 (diag(W 1) - W) x.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neulite_sim.methods.nhsic import (
    FEWEST_SAMPLES,
    LEAST_VARIATION,
    exponent_scale,
    pulled_together,
    squared_distances,
)


def weighted_ratios(
    features_x_BD: Tensor, features_y_BD: Tensor, others_2BB: Tensor, *, weights: tuple[float, float], sigma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weighted sum of both terms, the terms `[2]` and whether each is defined `[2]` (1.0 or 0.0).

    `others_2BB` are the exponents of the kernels that those of both features are compared with, before centring. All
    are float64; the sum alone has a gradient, in both features.
    """
    found: tuple[Tensor, Tensor, Tensor] = _WeightedRatios.apply(  # type: ignore[no-untyped-call]
        features_x_BD, features_y_BD, others_2BB, weights, sigma
    )
    return found


class _WeightedRatios(torch.autograd.Function):
    """Kernels lie one behind the other: those of both features, then those that they are compared with."""

    @staticmethod
    def forward(
        ctx: Any,
        features_x_BD: Tensor,
        features_y_BD: Tensor,
        others_2BB: Tensor,
        weights: tuple[float, float],
        sigma: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        features = (features_x_BD, features_y_BD)
        ctx.scales = [exponent_scale(side_BD.shape[1], sigma) for side_BD in features]
        exponents = [squared_distances(side_BD).div_(s) for side_BD, s in zip(features, ctx.scales, strict=True)]
        kernels_4BB = torch.cat((torch.stack(exponents), others_2BB)).expm1_()
        uncentred_2BB = kernels_4BB[:2] + 1.0
        rows_4B = kernels_4BB.mean(dim=2)
        kernels_4BB.sub_(rows_4B[:, :, None]).sub_(rows_4B[:, None, :]).add_(rows_4B.mean(dim=1)[:, None, None])
        own_4 = kernels_4BB.square().mean(dim=(1, 2))
        varies_4 = own_4 > LEAST_VARIATION
        defined_2 = varies_4[:2] & varies_4[2:]
        if len(features_x_BD) < FEWEST_SAMPLES:
            defined_2 = torch.zeros_like(defined_2)
        root_2 = torch.where(defined_2, own_4[:2] * own_4[2:], 1.0).sqrt()
        ratios_2 = (kernels_4BB[:2] * kernels_4BB[2:]).mean(dim=(1, 2)) / root_2
        terms_2 = torch.where(defined_2, ratios_2, 0.0)
        weights_2 = terms_2.new_tensor(weights)
        defined_2 = defined_2.double()
        ctx.save_for_backward(
            *features, kernels_4BB, uncentred_2BB, own_4[:2] + (1 - defined_2), root_2, terms_2, weights_2 * defined_2
        )
        ctx.mark_non_differentiable(terms_2, defined_2)
        return torch.dot(weights_2, terms_2), terms_2, defined_2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        *features, kernels_4BB, uncentred_2BB, own_2, root_2, terms_2, weights_2 = ctx.saved_tensors
        # A term that is not defined has weight 0 here, and its own_2 is above 0.
        factor_2 = weights_2 * gradients[0] / kernels_4BB[0].numel()
        pull_2BB = kernels_4BB[2:] * (factor_2 / root_2)[:, None, None]
        pull_2BB.sub_(kernels_4BB[:2] * (factor_2 * terms_2 / own_2)[:, None, None]).mul_(uncentred_2BB)
        laplacian_2BB = torch.diag_embed(pull_2BB.sum(dim=2)).sub_(pull_2BB)
        results = [
            pulled_together(laplacian_BB.mul_(2.0 / scale), side_BD) if needs_it else None
            for laplacian_BB, scale, side_BD, needs_it in zip(
                laplacian_2BB, ctx.scales, features, ctx.needs_input_grad[:2], strict=True
            )
        ]
        return *results, None, None, None
