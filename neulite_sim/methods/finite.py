"""Which of a method's tensors holds numbers that are not finite."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def unsound(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor with a number that is not finite; None where there is none."""
    return next((name for name, tensor in tensors.items() if not _is_finite(tensor)), None)


def _is_finite(tensor: Tensor) -> bool:
    # A sum is one pass without a copy; it may be infinite where no summand is.
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())
