"""Which device follows which label of a file, and what a user should know where labels are left over."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neulite_sim.arrays import Integers
from neulite_sim.seeding import stream


def rows_for(
    num_devices: int,
    *,
    num_labels: int,
    seed: int,
    purpose: str = "availability-assignment",
    keys: tuple[int, ...] = (),
) -> Integers:
    """Return the label of each device, int64 `[num_devices]`.

    With enough labels, device d takes the d-th. With fewer, every label serves equally many devices (or one more),
    in an order drawn from the seed.
    """
    if num_devices <= num_labels:
        return np.arange(num_devices)
    rng = stream(seed, purpose, *keys)
    return rng.permutation(rng.permutation(num_labels)[np.arange(num_devices) % num_labels])


def unused_labels(key: str, path: Path, *, num_labels: int, num_devices: int) -> tuple[str, ...]:
    """Return in a sentence that a file describes more devices than the fleet has; nothing where it does not."""
    if num_labels <= num_devices:
        return ()
    left = num_labels - num_devices
    return (f"{key}: {left:,} of the {num_labels:,} that {path} describes are left out, the fleet has {num_devices:,}",)
