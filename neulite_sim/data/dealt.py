"""What a partition must be like, whoever dealt it."""

from __future__ import annotations

from typing import Any

import numpy as np

from neulite_sim.data.contract import Partition


def broken_law(dealt: Any, num_samples: int, num_devices: int) -> str:
    """Return which law what was dealt breaks first, with what was found; nothing where it keeps all."""
    if not isinstance(dealt, Partition):
        return f"deal: must return a Partition (neulite_sim.data.contract), returned {type(dealt).__name__}"
    for name, column in (("samples", dealt.samples), ("offsets", dealt.offsets)):
        if not isinstance(column, np.ndarray) or column.dtype != np.int64:
            return f"{name}: must be int64, are {getattr(column, 'dtype', type(column).__name__)}"
    return _broken_offsets(dealt, num_devices) or _broken_samples(dealt, num_samples)


def _broken_offsets(dealt: Partition, num_devices: int) -> str:
    offsets, count = dealt.offsets, dealt.samples.size
    if offsets.shape != (num_devices + 1,):
        return f"offsets: {num_devices} devices have {num_devices + 1}, found {offsets.shape}"
    if offsets[0] != 0:
        return f"offsets: must begin at 0, begin at {offsets[0]}"
    if (np.diff(offsets) < 0).any():
        return f"offsets: must not fall, are {offsets.tolist()}"
    if offsets[-1] != count:
        return f"offsets: must end at the number of samples dealt, {count}, end at {offsets[-1]}"
    return ""


def _broken_samples(dealt: Partition, num_samples: int) -> str:
    samples, count = dealt.samples, dealt.samples.size
    if samples.ndim != 1:
        return f"samples: must be a row of numbers, have shape {samples.shape}"
    low, high = (int(samples.min()), int(samples.max())) if count else (0, 0)
    if low < 0 or high >= num_samples:
        return f"samples: must be 0 to {num_samples - 1}, reach from {low} to {high}"
    numbers, times = np.unique(samples, return_counts=True)
    twice = numbers[times > 1]
    if len(twice):
        return f"samples: {twice[:3].tolist()} belong to more than one device"
    falls = np.diff(samples, prepend=-1) <= 0
    falls[dealt.offsets[:-1][dealt.offsets[:-1] < count]] = False
    if falls.any():
        device = int(np.searchsorted(dealt.offsets, np.argmax(falls), side="right")) - 1
        return f"samples: must ascend within a device, those of {device} begin {dealt.of(device)[:3].tolist()}"
    missing = num_samples - count
    if missing and not dealt.left_out:
        return f"left_out: {missing} samples belong to nobody, and nothing is said about it"
    return ""
