"""Weighted means of updates as running sums: memory is one model, however many updates there are.

Sums are in double precision and taken in the order given (the engine's: ascending device), so that the result does
not depend on which result came in first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from neulite_sim.later import Tensor, torch
from neulite_sim.methods.contract import Update, Weighting


def weighted_mean(updates: Iterable[Update], weighting: Weighting) -> dict[str, Tensor]:
    """Return the mean of each tensor over the updates that carry it; an empty mapping for no updates.

    `samples` weighs an update by |D_n| (McMahan et al., AISTATS 2017, algorithm 1; NeuLite, eq. 1), `uniform`
    weighs all alike, as most reference implementations do.
    """
    sums: dict[str, Tensor] = {}
    weights: dict[str, float] = {}
    dtypes: dict[str, torch.dtype] = {}
    for update in updates:
        weight = update.weight(weighting)
        for name, tensor in update.tensors.items():
            if name not in sums:
                sums[name] = torch.zeros(tensor.shape, dtype=torch.float64)
                weights[name], dtypes[name] = 0.0, tensor.dtype
            sums[name].add_(tensor, alpha=weight)
            weights[name] += weight
    return {name: (total / weights[name]).to(dtypes[name]) for name, total in sums.items()}


def merged(tensors: Mapping[str, Tensor], changed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `tensors` with those of `changed` in the place of their old values, in the old order and types."""
    assert changed.keys() <= tensors.keys(), sorted(changed.keys() - tensors.keys())
    return {name: changed[name].to(old.dtype) if name in changed else old for name, old in tensors.items()}
