"""Normalised Hilbert-Schmidt independence criterion (nHSIC) of a batch, in double precision.

Kernel: K_ij = exp(-|x_i - x_j|^2 / (2 sigma^2 d)) with d the feature dimension; centring H = I - 11^T/m.

* `ratio`: HSIC(A, B) / sqrt(HSIC(A, A) HSIC(B, B)) with HSIC(A, B) = tr(HKH HLH) / m^2, in [0, 1]. It is kernel
  CKA (Kornblith et al., ICML 2019), the form of NeuLite's official client loop.
* `nocco`: tr(R_A R_B), R = HKH (HKH + eps m I)^-1, in [0, m - 1]. The normalised cross-covariance operator of
  Fukumizu et al. (NeurIPS 2007), used as training loss by Ma, Lewis and Kleijn (AAAI 2020).

Where a term is undefined (fewer than three samples, a batch of one class, features that do not vary) its value and
gradient are zero and the caller is told, never NaN.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neulite_sim.methods.stage_plan import Form

FEWEST_SAMPLES = 3
"""With two samples the centred kernel has rank one, so the ratio is 1 whatever the features are."""

LEAST_VARIATION = 1e-16
"""HSIC(A, A) below this (kernel entries that vary by less than about 1e-8) counts as no variation."""

_CHUNK_FEATURES = 4096
"""Columns of features that are held in double precision at a time."""


class _SquaredDistances(torch.autograd.Function):
    """Pairwise squared distances in double precision without a double copy of the features.

    Features are read in chunks of columns, so that what is kept for the backward pass is the float32 tensor that
    exists anyway: at batch 128 a double copy of a 64x32x32 map would cost a device 67 MB.
    """

    @staticmethod
    def forward(ctx: Any, features_BD: Tensor) -> Tensor:
        """Return |x_i - x_j|^2, `[B, B]`, float64."""
        ctx.save_for_backward(features_BD)
        return squared_distances(features_BD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Return dL/dx_i = 2 sum_j (G_ij + G_ji) (x_i - x_j), in the features' own precision."""
        (features_BD,) = ctx.saved_tensors
        weights_BB = gradients[0] + gradients[0].T
        laplacian_BB = torch.diag(weights_BB.sum(dim=1)).sub_(weights_BB)
        return pulled_together(laplacian_BB, features_BD)


def squared_distances(features_BD: Tensor) -> Tensor:
    """Return |x_i - x_j|^2, `[B, B]`, float64, without a gradient."""
    gram_BB = features_BD.new_zeros((features_BD.shape[0],) * 2, dtype=torch.float64)
    for chunk_BD in torch.split(features_BD, _CHUNK_FEATURES, dim=1):
        centred_BD = centred(chunk_BD)
        gram_BB.addmm_(centred_BD, centred_BD.T)
    norms_B = gram_BB.diagonal()
    distances_BB = (norms_B[:, None] + norms_B[None, :] - 2 * gram_BB).clamp_min_(0)
    return distances_BB.fill_diagonal_(0)


def pulled_together(laplacian_BB: Tensor, features_BD: Tensor) -> Tensor:
    """Return 2 L x in the features' own precision; the rows of L add up to zero."""
    result_BD = torch.empty_like(features_BD)
    chunks = (torch.split(tensor, _CHUNK_FEATURES, dim=1) for tensor in (features_BD, result_BD))
    for chunk_BD, target_BD in zip(*chunks, strict=True):
        target_BD.copy_(laplacian_BB @ centred(chunk_BD) * 2)
    return result_BD


def centred(chunk_BD: Tensor) -> Tensor:
    """Return the columns in double precision with their means removed: large constant offsets cancel exactly."""
    wide_BD = chunk_BD.double()
    return wide_BD - wide_BD.mean(dim=0)


def exponent_scale(dimension: int, sigma: float) -> float:
    """Return what a squared distance is divided by for the exponent of its kernel entry: -2 sigma^2 d."""
    return -2.0 * sigma**2 * dimension


def _centred_kernel(exponents_BB: Tensor) -> Tensor:
    """Return HKH. `expm1` gives K - 1, which has the same centring and keeps small distances exact."""
    kernel_BB = torch.expm1(exponents_BB)
    rows_B = kernel_BB.mean(dim=1, keepdim=True)
    return kernel_BB - rows_B - rows_B.T + rows_B.mean()


def feature_kernel(features_BD: Tensor, sigma: float) -> Tensor:
    """Return the centred kernel `[B, B]` (float64) of features `[B, D]`, differentiable in the features."""
    return _centred_kernel(_feature_exponents(features_BD, sigma))


def _feature_exponents(features_BD: Tensor, sigma: float) -> Tensor:
    distances_BB = _SquaredDistances.apply(features_BD)  # type: ignore[no-untyped-call]
    exponents_BB: Tensor = distances_BB / exponent_scale(features_BD.shape[1], sigma)
    return exponents_BB


def label_kernel(labels_B: Tensor, num_classes: int, sigma: float) -> Tensor:
    """Return the centred kernel `[B, B]` (float64) of one-hot labels: two different classes are at distance 2.

    Labels `[B, places]` are one vector of as many one-hot parts.
    """
    return _centred_kernel(label_exponents(labels_B, num_classes, sigma))


def label_exponents(labels_B: Tensor, num_classes: int, sigma: float) -> Tensor:
    """Return the exponents of the kernel of labels before it is centred, `[B, B]`, float64."""
    differs = labels_B[:, None] != labels_B[None, :]
    if differs.ndim == 2:
        return differs.double() * 2 / exponent_scale(num_classes, sigma)
    distances_BB = differs.flatten(2).sum(dim=2).double() * 2
    return distances_BB / exponent_scale(num_classes * labels_B[0].numel(), sigma)


def input_kernel(inputs_BD: Tensor, vocabulary: int | None, sigma: float) -> Tensor:
    """Return the centred kernel of inputs: of numbers as features, of the ids of a vocabulary as one-hot labels."""
    return _centred_kernel(input_exponents(inputs_BD, vocabulary, sigma))


def input_exponents(inputs_BD: Tensor, vocabulary: int | None, sigma: float) -> Tensor:
    """Return the exponents of the kernel of inputs before it is centred, `[B, B]`, float64."""
    if vocabulary is None:
        return _feature_exponents(inputs_BD, sigma)
    return label_exponents(inputs_BD, vocabulary, sigma)


def nhsic(kernel_a_BB: Tensor, kernel_b_BB: Tensor, *, form: Form, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return nHSIC of two centred kernels and whether it is defined (1.0 or 0.0), both float64 scalars."""
    num_samples = kernel_a_BB.shape[0]
    own_a = kernel_a_BB.square().mean()
    own_b = kernel_b_BB.square().mean()
    varies = (own_a > LEAST_VARIATION) & (own_b > LEAST_VARIATION)
    defined = varies if num_samples >= FEWEST_SAMPLES else torch.zeros_like(varies)
    if form == "ratio":
        product = torch.where(defined, own_a * own_b, 1.0)
        value = (kernel_a_BB * kernel_b_BB).mean() / product.sqrt()
    else:
        value = (_regularised(kernel_a_BB, epsilon) * _regularised(kernel_b_BB, epsilon).T).sum()
    return torch.where(defined, value, 0.0), defined.double()


def _regularised(kernel_BB: Tensor, epsilon: float) -> Tensor:
    """Return HKH (HKH + eps m I)^-1; the two factors commute, so a left solve gives the same matrix."""
    num_samples = kernel_BB.shape[0]
    ridge_BB = torch.eye(num_samples, dtype=kernel_BB.dtype, device=kernel_BB.device) * (epsilon * num_samples)
    solved_BB: Tensor = torch.linalg.solve(kernel_BB + ridge_BB, kernel_BB)
    return solved_BB
