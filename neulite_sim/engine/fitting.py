"""What a run says of the plans by which its devices fit their steps into memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neulite_sim.engine.parts import Costing


def plan_notices(costing: Costing) -> list[str]:
    """Return a sentence that says who trains in micro-batches and what that changes; none where nobody does."""
    if not costing.chooses_plans:
        return []
    ledger = costing.ledger
    found = []
    for submodel in costing.method.submodels:
        able = np.flatnonzero(ledger.fits(submodel) & ledger.owns_data)
        if words := _in_words(costing, submodel, ledger.chosen(submodel)[able]):
            found.append(words)
    if not found:
        return []
    effect = (
        "; BatchNorm normalises each micro-batch by itself, so memory has an effect on what is learned, which "
        "training.norm: group would not have"
    )
    return [f"training.fit auto: {', '.join(found)}{effect if costing.trained.has_batch_norm else ''}"]


def _in_words(costing: Costing, submodel: str, chosen: NDArray[np.int16]) -> str:
    counts = np.bincount(chosen, minlength=len(costing.ledger.plans)).tolist()
    pairs = zip(costing.ledger.plans, counts, strict=True)
    takers = [(plan.micro_batch_size, count) for plan, count in pairs if count and plan.micro_batch_size is not None]
    if not takers:
        return ""
    smallest, largest = min(takers)[0], max(takers)[0]
    between = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
    micro = sum(count for _, count in takers)
    return f"{micro} of the {len(chosen)} devices that hold {submodel} train it in micro-batches of {between}"
