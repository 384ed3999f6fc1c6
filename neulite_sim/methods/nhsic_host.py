"""Both nHSIC terms of NeuLite's loss as `nhsic_ratio` has them, for a processor.

There a call of PyTorch costs more than the arithmetic on a matrix of 16 x 16, so distances are taken pair by pair in
one call, and the matrices of a batch are NumPy's. Products of matrices stay with PyTorch, which takes as many threads
as it was told to. Formulas and gradients are those of `nhsic_ratio`, up to rounding in double precision.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neulite_sim.arrays import Floats, Integers
from neulite_sim.methods.nhsic import FEWEST_SAMPLES, LEAST_VARIATION, exponent_scale


def weighted_ratios(
    features_x_BD: Tensor,
    features_y_BD: Tensor,
    others_2P: Sequence[Floats],
    *,
    weights: tuple[float, float],
    sigma: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `nhsic_ratio.weighted_ratios` does, of features on a processor.

    `others_2P` are the exponents of the kernels that those of both features are compared with, pair by pair.
    """
    found: tuple[Tensor, Tensor, Tensor] = _WeightedRatios.apply(  # type: ignore[no-untyped-call]
        features_x_BD, features_y_BD, others_2P, weights, sigma
    )
    return found


def feature_exponents(features_BD: Tensor, sigma: float) -> Floats:
    """Return the exponent of the kernel of features for each pair of samples, `[B (B - 1) / 2]`: (0, 1), (0, 2), ..."""
    distances_P: Floats = torch.pdist(features_BD.detach().double()).numpy()
    np.square(distances_P, out=distances_P)
    distances_P /= exponent_scale(features_BD.shape[1], sigma)
    # As in products of centred features, where a number beyond all bounds leaves none that is one.
    if not math.isfinite(distances_P.sum()):
        distances_P.fill(np.nan)
    return distances_P


def label_exponents(labels_B: Tensor, num_classes: int, sigma: float) -> Floats:
    """Return the exponent of the kernel of one-hot labels, or of rows `[B, places]` of them, for each pair."""
    labels = labels_B.detach().numpy()
    first, second = _pairs(len(labels))[:2]
    differs = labels[first] != labels[second]
    places = labels[0].size
    distances_P = differs if differs.ndim == 1 else differs.reshape(len(differs), places).sum(axis=1)
    exponents_P: Floats = distances_P * (2 / exponent_scale(num_classes * places, sigma))
    return exponents_P


def input_exponents(inputs_BD: Tensor, vocabulary: int | None, sigma: float) -> Floats:
    """Return the exponent of the kernel of inputs for each pair: of numbers as features, of ids as one-hot labels."""
    if vocabulary is None:
        return feature_exponents(inputs_BD, sigma)
    return label_exponents(inputs_BD, vocabulary, sigma)


@functools.lru_cache(maxsize=64)
def _pairs(samples: int) -> tuple[Integers, Integers, Integers]:
    """Return both samples of each pair, and the number of the pair of each cell `[B, B]`; -1 on the diagonal."""
    first, second = np.triu_indices(samples, 1)
    cells = np.full((samples, samples), -1)
    cells[first, second] = cells[second, first] = np.arange(len(first))
    return first, second, cells


class _WeightedRatios(torch.autograd.Function):
    """Kernels lie one behind the other: those of both features, then those that they are compared with."""

    @staticmethod
    def forward(
        ctx: Any,
        features_x_BD: Tensor,
        features_y_BD: Tensor,
        others_2P: Sequence[Floats],
        weights: tuple[float, float],
        sigma: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        features = (features_x_BD, features_y_BD)
        samples = len(features_x_BD)
        cells = _pairs(samples)[2]
        # A training that diverges has numbers beyond all bounds; they go their way in silence, as in PyTorch.
        with np.errstate(all="ignore"):
            # A place more, at the end, for a sample and itself.
            entries_4P = np.zeros((4, samples * (samples - 1) // 2 + 1))
            for row, exponents_P in enumerate((*(feature_exponents(side, sigma) for side in features), *others_2P)):
                entries_4P[row, :-1] = exponents_P
            np.expm1(entries_4P, out=entries_4P)
            kernels_4BB = entries_4P[:, cells]
            uncentred_2BB = kernels_4BB[:2] + 1.0
            rows_4B = kernels_4BB.mean(axis=2)
            kernels_4BB -= rows_4B[:, :, None]
            kernels_4BB -= (rows_4B - rows_4B.mean(axis=1)[:, None])[:, None, :]
            own_4 = np.square(kernels_4BB).mean(axis=(1, 2))
            shared_2 = (kernels_4BB[:2] * kernels_4BB[2:]).mean(axis=(1, 2))
            varies_4 = own_4 > LEAST_VARIATION
            defined_2 = varies_4[:2] & varies_4[2:] & (samples >= FEWEST_SAMPLES)
            root_2 = np.sqrt(np.where(defined_2, own_4[:2] * own_4[2:], 1.0))
            terms_2 = np.where(defined_2, shared_2 / root_2, 0.0)
        ctx.save_for_backward(*features)
        ctx.scales = [exponent_scale(side.shape[1], sigma) for side in features]
        ctx.kernels, ctx.uncentred = kernels_4BB, uncentred_2BB
        ctx.parts = (own_4[:2] + ~defined_2, root_2, terms_2, np.where(defined_2, weights, 0.0))
        total = torch.tensor(weights[0] * terms_2[0] + weights[1] * terms_2[1], dtype=torch.float64)
        found = torch.from_numpy(terms_2), torch.from_numpy(defined_2.astype(np.float64))
        ctx.mark_non_differentiable(*found)
        return total, *found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        kernels_4BB, (own_2, root_2, terms_2, weights_2) = ctx.kernels, ctx.parts
        with np.errstate(all="ignore"):
            # A term that is not defined has weight 0 here, and its own_2 is above 0.
            factor_2 = weights_2 * float(gradients[0]) / kernels_4BB[0].size
            pull_2BB = kernels_4BB[:2] * (factor_2 * terms_2 / own_2)[:, None, None]
            pull_2BB -= kernels_4BB[2:] * (factor_2 / root_2)[:, None, None]
            pull_2BB *= ctx.uncentred
            pull_2BB *= (4.0 / np.array(ctx.scales))[:, None, None]
            samples = np.arange(pull_2BB.shape[1])
            pull_2BB[:, samples, samples] -= pull_2BB.sum(axis=2)
        results = [
            (torch.from_numpy(pull_BB) @ side_BD.double()).to(side_BD.dtype) if needs_it else None
            for pull_BB, side_BD, needs_it in zip(pull_2BB, ctx.saved_tensors, ctx.needs_input_grad[:2], strict=True)
        ]
        return *results, None, None, None
