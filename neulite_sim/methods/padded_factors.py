"""Low-rank factors of several ranks as parts of one: a smaller one is filled up with zeros, as HetLoRA does.

Cho et al., HetLoRA, EMNLP 2024, https://arxiv.org/abs/2401.06432. A (r x in) has its ranks as rows, B (out x r) as
columns. Where all of several updates end below the full rank, the rest is left alone: with zeros in both factors
neither has a gradient, and no device could ever train it again.
"""

from __future__ import annotations

from collections.abc import Mapping

from neulite_sim.later import Tensor, torch


def filled(tensor: Tensor, old: Tensor, rate: float) -> Tensor:
    """Return a tensor in the shape of an old one, whose numbers beyond its own have moved to zero by a rate."""
    if tensor.shape == old.shape:
        return tensor
    # Not a product with zero: what is infinite is no more after a whole step.
    whole = torch.zeros_like(old, dtype=tensor.dtype) if rate == 1 else (1 - rate) * old.to(tensor.dtype)
    whole[tuple(map(slice, tensor.shape))] = tensor
    return whole


def up_to_rank(after: Mapping[str, Tensor], old: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """Return tensors after a mean, with the old numbers in the factors' ranks from `rank` (counted from 0) on."""
    from neulite_sim.methods.adapters import A, B

    tensors = dict(after)
    for name in old:
        if name.endswith((A, B)):
            axis = 0 if name.endswith(A) else 1
            count = old[name].shape[axis]
            parts = (after[name].narrow(axis, 0, rank), old[name].narrow(axis, rank, count - rank))
            tensors[name] = torch.cat(parts, dim=axis)
    return tensors
