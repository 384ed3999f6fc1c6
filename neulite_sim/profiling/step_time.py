"""Seconds of one training step of a submodel on one kind of device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neulite_sim.population.hardware.contract import DeviceClass
from neulite_sim.profiling.roofline import rates_of, step_s

if TYPE_CHECKING:
    from neulite_sim.profiling.profile import Profile


def step_seconds(profile: Profile, device: DeviceClass, batch_share: float = 1.0, *, is_later: bool = False) -> float:
    """Return seconds of one training step on a device; `batch_share` in (0, 1] charges a smaller last batch.

    FLOPs and bytes shrink with the batch, the overhead per operator does not. `is_later` asks for a step after the
    first epoch, which is another where the device keeps features: these are read where samples would be loaded.
    """
    if is_later and profile.later_operator_flops is not None and profile.later_operator_bytes is not None:
        kept = (profile.later_operator_flops, profile.later_operator_bytes, profile.later_operator_kinds)
        return step_s(*kept, rates_of(device), batch_share, counts=profile.later_operator_counts)
    columns = (profile.operator_flops, profile.operator_bytes, profile.operator_kinds)
    seconds = step_s(*columns, rates_of(device), batch_share, counts=profile.operator_counts)
    loading = device.loading_bytes_per_second
    return seconds if loading is None else seconds + batch_share * profile.loaded_bytes / loading
