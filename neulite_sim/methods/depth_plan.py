"""What shapes one DepthFL depth, and the names of what it is sent beside its weights; `depth.py` builds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Classifier = Literal["attention", "linear"]

DISTILLATION_WEIGHT = "distillation_weight"
"""Name of the scalar w(r) in a payload."""

DRIFT = "drift"
"""Prefix of a device's own g_n in what it is sent personally."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthPlan:
    """How to build a depth: its number (1 to T) and the choices that shape it."""

    depth: int
    classifier: Classifier
    is_extended: bool
    distills: bool
    feddyn_alpha: float
