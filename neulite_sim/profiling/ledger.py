"""Ledger: every submodel's profile on every device of the fleet, as columns. Cost: one entry of it.

Time is a roofline per operator plus a fixed overhead per operator (Williams, Waterman and Patterson, CACM 2009):
seconds = sum over operators of max(flops / (peak * efficiency), bytes / bandwidth) + overhead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neulite_sim.population.network import transfer_s
from neulite_sim.population.table import DeviceClass, Flags, Floats, Integers, Population
from neulite_sim.profiling.profile import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """A profile on a device: seconds of each phase before jitter, and whether the peak fits."""

    submodel: str
    device: int
    download_s: float
    compute_s: float
    upload_s: float
    peak_memory_bytes: int
    available_memory_bytes: int

    @property
    def total_s(self) -> float:
        """Seconds from dispatch to arrival."""
        return self.download_s + self.compute_s + self.upload_s

    @property
    def shortfall_bytes(self) -> int:
        """Bytes that are missing; zero where the submodel fits."""
        return max(0, self.peak_memory_bytes - self.available_memory_bytes)


def step_seconds(profile: Profile, device: DeviceClass, batch_share: float = 1.0) -> float:
    """Return seconds of one training step on a device; `batch_share` in (0, 1] charges a smaller last batch.

    FLOPs and bytes shrink with the batch, the overhead per operator does not.
    """
    compute_s = profile.operator_flops * (batch_share / (device.peak_flops_per_second * device.efficiency))
    memory_s = profile.operator_bytes * (batch_share / device.memory_bytes_per_second)
    overhead_s = device.operator_overhead_s * len(profile.operator_flops)
    return float(np.maximum(compute_s, memory_s).sum()) + overhead_s


def merges_last_batch(num_samples: Integers, batch_size: int) -> Flags:
    """Return which devices train a batch of `batch_size` + 1, because one sample alone cannot feed BatchNorm."""
    merges: Flags = (num_samples > batch_size) & (num_samples % batch_size == 1) & (batch_size > 1)
    return merges


class Ledger:
    """Costs of a method's submodels on a population, computed once per submodel and device class.

    `num_samples[d]` is what device d is charged for: its own samples, or the workload's `samples_per_device`.
    `owns_data[d]` says whether d owns any sample (by default: is charged for any); only who does is ever offered work.
    `merged_profiles` are those at one sample more than the batch size: a device whose last batch would hold one
    sample merges it into the batch before, and needs the memory of that.
    """

    def __init__(
        self,
        profiles: Mapping[str, Profile],
        population: Population,
        num_samples: Integers,
        *,
        epochs: int,
        owns_data: Flags | None = None,
        merged_profiles: Mapping[str, Profile] | None = None,
    ) -> None:
        self.profiles = dict(profiles)
        self.population = population
        self.num_samples = num_samples
        self.epochs = epochs
        self.owns_data: Flags = num_samples > 0 if owns_data is None else owns_data
        self._merged_profiles = dict(merged_profiles or {})
        batch_size = next(iter(self.profiles.values())).batch_size
        self._merges = merges_last_batch(num_samples, batch_size)
        assert not self._merges.any() or self._merged_profiles.keys() == self.profiles.keys()
        self._compute_s = {name: self._compute_column(item) for name, item in self.profiles.items()}

    def _compute_column(self, profile: Profile) -> Floats:
        whole_batches, rest = np.divmod(self.num_samples, profile.batch_size)
        seconds = np.zeros(self.population.num_devices)
        for index, device in enumerate(self.population.classes):
            members = np.flatnonzero(self.population.class_index == index)
            if not len(members):
                continue
            whole_step_s = step_seconds(profile, device)
            rests, positions = np.unique(rest[members], return_inverse=True)
            rest_step_s = [step_seconds(profile, device, r / profile.batch_size) if r else 0.0 for r in rests]
            seconds[members] = whole_batches[members] * whole_step_s + np.array(rest_step_s)[positions]
        return seconds * self.epochs

    def peak_memory_bytes(self, submodel: str) -> Integers:
        """Return the predicted peak of every device; it differs only where a last batch is merged."""
        peak = np.full(self.population.num_devices, self.profiles[submodel].peak_memory_bytes, dtype=np.int64)
        if self._merges.any():
            peak[self._merges] = self._merged_profiles[submodel].peak_memory_bytes
        return peak

    def fits(self, submodel: str) -> Flags:
        """Return for every device whether its available memory holds the submodel's predicted peak."""
        enough: Flags = self.population.available_memory_bytes >= self.peak_memory_bytes(submodel)
        return enough

    def fits_somebody(self, submodel: str) -> bool:
        """Return whether the submodel fits any device that owns data."""
        return bool((self.fits(submodel) & self.owns_data).any())

    def shortfall_bytes(self, submodel: str) -> Integers:
        """Return for every device how many bytes are missing, zero where the submodel fits."""
        missing: Integers = self.peak_memory_bytes(submodel) - self.population.available_memory_bytes
        return np.maximum(missing, 0)

    def download_s(self, submodel: str, devices: Integers) -> Floats:
        """Return seconds in which each device receives the submodel."""
        return self._transfer_s(self.profiles[submodel].bytes_down, devices, self.population.downlink_bits_per_second)

    def upload_s(self, submodel: str, devices: Integers) -> Floats:
        """Return seconds in which each device sends its update."""
        return self._transfer_s(self.profiles[submodel].bytes_up, devices, self.population.uplink_bits_per_second)

    def _transfer_s(self, num_bytes: int, devices: Integers, rates: Floats) -> Floats:
        return np.asarray(transfer_s(num_bytes, rates[devices], self.population.latency_s[devices]))

    def compute_s(self, submodel: str, devices: Integers) -> Floats:
        """Return seconds of local training of each device, before jitter."""
        return self._compute_s[submodel][devices]

    def total_s(self, submodel: str, devices: Integers) -> Floats:
        """Return seconds from dispatch to arrival of each device, before jitter."""
        return self.download_s(submodel, devices) + self.compute_s(submodel, devices) + self.upload_s(submodel, devices)

    def cost(self, submodel: str, device: int) -> Cost:
        """Return the cost of one submodel on one device."""
        one: NDArray[np.int64] = np.array([device])
        profiles = self._merged_profiles if self._merges[device] else self.profiles
        return Cost(
            submodel=submodel,
            device=device,
            download_s=float(self.download_s(submodel, one)[0]),
            compute_s=float(self.compute_s(submodel, one)[0]),
            upload_s=float(self.upload_s(submodel, one)[0]),
            peak_memory_bytes=profiles[submodel].peak_memory_bytes,
            available_memory_bytes=int(self.population.available_memory_bytes[device]),
        )

    def participation_rate(self, submodels: tuple[str, ...]) -> float:
        """Return the share of devices that fit at least one of `submodels`, in [0, 1]."""
        fits = np.zeros(self.population.num_devices, dtype=bool)
        for submodel in submodels:
            fits |= self.fits(submodel)
        return float(fits.mean())
