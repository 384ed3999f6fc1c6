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
    return [f"training.fit auto: {', '.join(found)}{effect if _has_batch_norm(costing) else ''}"]


def _in_words(costing: Costing, submodel: str, chosen: NDArray[np.int16]) -> str:
    plans = [costing.ledger.plans[index] for index in chosen.tolist()]
    sizes = sorted({plan.micro_batch_size for plan in plans if plan.micro_batch_size is not None})
    if not sizes:
        return ""
    micro = sum(plan.micro_batch_size is not None for plan in plans)
    between = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    return f"{micro} of the {len(plans)} devices that hold {submodel} train it in micro-batches of {between}"


def _has_batch_norm(costing: Costing) -> bool:
    return any("running_mean" in name for name in costing.trained.build_meta().state_dict())
