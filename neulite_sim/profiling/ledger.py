"""Ledger: every submodel's profile on every device of the fleet, as columns. A `Cost` is one entry of it.

Time is a roofline per operator plus a fixed overhead per operator: `roofline.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neulite_sim.arrays import Flags, Floats, Integers, Repeated
from neulite_sim.population.hardware.contract import DeviceClass
from neulite_sim.population.link.network import transfer_s
from neulite_sim.population.table import Population
from neulite_sim.profiling.cost import Cost as Cost  # Most take it from here.
from neulite_sim.profiling.cost import Costs
from neulite_sim.profiling.roofline import rates_of, step_s

if TYPE_CHECKING:
    from neulite_sim.profiling.profile import Profile


def step_seconds(profile: Profile, device: DeviceClass, batch_share: float = 1.0, *, is_later: bool = False) -> float:
    """Return seconds of one training step on a device; `batch_share` in (0, 1] charges a smaller last batch.

    FLOPs and bytes shrink with the batch, the overhead per operator does not. `is_later` asks for a step after the
    first epoch, which is another where the device keeps features.
    """
    if is_later and profile.later_operator_flops is not None and profile.later_operator_bytes is not None:
        kept = (profile.later_operator_flops, profile.later_operator_bytes, profile.later_operator_kinds)
        return step_s(*kept, rates_of(device), batch_share)
    columns = (profile.operator_flops, profile.operator_bytes, profile.operator_kinds)
    return step_s(*columns, rates_of(device), batch_share)


def merges_last_batch(num_samples: Integers, batch_size: int) -> Flags:
    """Return which devices train a batch of `batch_size` + 1, because one sample alone cannot feed BatchNorm."""
    merges: Flags = (num_samples > batch_size) & (num_samples % batch_size == 1) & (batch_size > 1)
    return merges


def halvings(batch_size: int, minimum: int) -> tuple[int, ...]:
    """Return `batch_size` halved again and again, rounded down, as long as it stays at or above `minimum`."""
    sizes = []
    while (batch_size := batch_size // 2) >= max(minimum, 1):
        sizes.append(batch_size)
    return tuple(sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrinking:
    """Batch sizes below the charged one, falling; `profile_of(submodel, batch_size)` is asked only where needed."""

    batch_sizes: tuple[int, ...]
    profile_of: Callable[[str, int], Profile]


class Ledger:
    """Costs of a method's submodels on a population, computed once per submodel, batch size and device class.

    `num_samples[d]` is what device d is charged for: its own samples, or the workload's `samples_per_device`.
    `owns_data[d]` says whether d owns any sample (by default: is charged for any); only who does is ever offered work.
    `merged_profiles` are those at one sample more than the batch size: a device whose last batch would hold one
    sample merges it into the batch before, and needs the memory of that.

    With `shrinking` each device trains a submodel with the largest batch whose peak its memory holds. A ledger counts
    with the nominal memory of the population; `at` returns it for a moment where memory moves.
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
        shrinking: Shrinking | None = None,
    ) -> None:
        self.profiles = dict(profiles)
        self.population = population
        self.num_samples = num_samples
        self.epochs = epochs
        self.owns_data: Flags = num_samples > 0 if owns_data is None else owns_data
        self.available_memory_bytes = population.available_memory_bytes
        self._shrinking = shrinking
        batch_size = next(iter(self.profiles.values())).batch_size
        self.batch_sizes = (batch_size, *(shrinking.batch_sizes if shrinking else ()))
        """The batch sizes that devices train with, falling."""
        merged = merged_profiles or {}
        self._by_size = {(name, batch_size): item for name, item in self.profiles.items()}
        self._by_size |= {(name, batch_size + 1): item for name, item in merged.items()}
        self._merges = {size: merges_last_batch(num_samples, size) for size in self.batch_sizes}
        assert not self._merges[batch_size].any() or merged.keys() == self.profiles.keys()
        self._compute_s: dict[tuple[str, int], Floats] = {}
        self._total_s: dict[str, Floats] = {}
        self._rungs: dict[str, NDArray[np.int8]] = {}
        self._able: dict[str, Flags] = {}
        self._fits_somebody: dict[str, bool] = {}

    def at(self, at_s: float, round_number: int) -> Ledger:
        """Return the same ledger with the available memory of a moment; itself where memory never changes.

        `fits_somebody` and `participation_rate` go on counting with the nominal memory.
        """
        if self.population.memory_motion is None:
            return self
        return self.with_memory(self.population.memory_motion.available_bytes(at_s, round_number))

    def with_memory(self, available_memory_bytes: Integers) -> Ledger:
        """Return the same ledger with other available memory of each device; profiles and seconds are shared."""
        # Shares the columns of seconds, which are costly and do not depend on memory; only what fits does.
        other = copy.copy(self)
        other.available_memory_bytes = available_memory_bytes
        other._rungs, other._able = {}, {}
        return other

    def _profile(self, submodel: str, batch_size: int) -> Profile:
        at = submodel, batch_size
        if at not in self._by_size:
            assert self._shrinking is not None, f"no profile of {submodel} at batch {batch_size}"
            self._by_size[at] = self._shrinking.profile_of(submodel, batch_size)
        return self._by_size[at]

    def _compute_column(self, submodel: str, batch_size: int) -> Floats:
        """Return seconds of local training of every device, all at one batch size."""
        at = submodel, batch_size
        if at not in self._compute_s:
            self._compute_s[at] = self._computed_column(self._profile(submodel, batch_size))
        return self._compute_s[at]

    def _computed_column(self, profile: Profile) -> Floats:
        seconds = self._epoch_column(profile) * self.epochs
        if profile.later_operator_flops is not None:
            seconds = self._epoch_column(profile) + self._epoch_column(profile, is_later=True) * (self.epochs - 1)
        speed = self.population.speed_factor
        return seconds / (1.0 if speed is None else speed)

    def _epoch_column(self, profile: Profile, *, is_later: bool = False) -> Floats:
        whole_batches, rest = np.divmod(self.num_samples, profile.batch_size)
        seconds = np.zeros(self.population.num_devices)
        for index, device in enumerate(self.population.classes):
            members = np.flatnonzero(self.population.class_index == index)
            if not len(members):
                continue
            whole_step_s = step_seconds(profile, device, is_later=is_later)
            # Devices with equally many samples left over take equally long: a step per rest, not per device.
            rests, positions = np.unique(rest[members], return_inverse=True)
            rest_step_s = [
                step_seconds(profile, device, r / profile.batch_size, is_later=is_later) if r else 0.0 for r in rests
            ]
            seconds[members] = whole_batches[members] * whole_step_s + np.array(rest_step_s)[positions]
        return seconds

    def _peak_at(self, submodel: str, batch_size: int, devices: Integers | None = None) -> Integers:
        """Return the predicted peak of `devices`, all by default, at a batch size.

        A merged last batch needs more, and so do the features that a device keeps of its samples.
        """
        chosen = slice(None) if devices is None else devices
        merges, num_samples = self._merges[batch_size][chosen], self.num_samples[chosen]
        peak = self._profile(submodel, batch_size).memory_bytes(num_samples)
        if merges.any():
            peak[merges] = self._profile(submodel, batch_size + 1).memory_bytes(num_samples[merges])
        return peak

    def _peak_of(self, submodel: str, devices: Integers | None) -> Integers:
        """Return the predicted peak of `devices`, all where it is None, each at its batch size."""
        if len(self.batch_sizes) == 1:
            return self._peak_at(submodel, self.batch_sizes[0], devices)
        rungs = self._rung(submodel) if devices is None else self._rung(submodel)[devices]
        peak = np.zeros(len(rungs), dtype=np.int64)
        for rung in np.unique(rungs):
            members = rungs == rung
            peak[members] = self._peak_at(submodel, self.batch_sizes[rung], devices)[members]
        return peak

    def _rung(self, submodel: str) -> NDArray[np.int8]:
        """Return for every device which of `batch_sizes` it trains with: the first that fits, else the last."""
        if submodel not in self._rungs:
            rungs = np.zeros(self.population.num_devices, np.int8)
            for rung, batch_size in enumerate(self.batch_sizes[:-1]):
                # Peaks need not fall with the batch, so only who is on this rung goes down from it.
                short = (rungs == rung) & (self.available_memory_bytes < self._peak_at(submodel, batch_size))
                if not short.any():
                    break
                rungs[short] = rung + 1
            self._rungs[submodel] = rungs
        return self._rungs[submodel]

    def batch_size(self, submodel: str) -> Integers:
        """Return the batch size of every device: the largest whose peak fits, the smallest where none does."""
        return np.array(self.batch_sizes, dtype=np.int64)[self._rung(submodel)]

    def peak_memory_bytes(self, submodel: str) -> Integers:
        """Return the predicted peak of every device, at its batch size."""
        return self._peak_of(submodel, None)

    def fits(self, submodel: str) -> Flags:
        """Return for every device whether its available memory holds the predicted peak at its batch size."""
        if submodel not in self._able:
            self._able[submodel] = self.available_memory_bytes >= self._peak_of(submodel, None)
            self._able[submodel].flags.writeable = False
        return self._able[submodel]

    def fits_somebody(self, submodel: str) -> bool:
        """Return whether the submodel fits the nominal memory of any device that owns data, at any batch size."""
        if submodel not in self._fits_somebody:
            memory = self.population.available_memory_bytes
            fits = (bool((self.owns_data & (memory >= self._peak_at(submodel, s))).any()) for s in self.batch_sizes)
            self._fits_somebody[submodel] = any(fits)
        return self._fits_somebody[submodel]

    def smallest_profile(self, submodel: str) -> Profile:
        """Return the profile at the smallest batch that a device may train with."""
        return self._profile(submodel, self.batch_sizes[-1])

    def least_peak_bytes(self, submodel: str, batch_size: int | None = None) -> int:
        """Return the lowest peak of devices that own data at a batch size, the smallest where it is not given.

        Where features are kept, it holds those of the fewest samples.
        """
        profile = self._profile(submodel, batch_size or self.batch_sizes[-1])
        owned = self.num_samples[self.owns_data]
        fewest = np.array([owned.min() if len(owned) else 0], dtype=np.int64)
        return int(profile.memory_bytes(fewest)[0])

    def shortfall_bytes(self, submodel: str) -> Integers:
        """Return for every device how many bytes are missing, zero where the submodel fits."""
        missing: Integers = self.peak_memory_bytes(submodel) - self.available_memory_bytes
        return np.maximum(missing, 0)

    def shortfall_bytes_of(self, submodel: str, devices: Integers) -> Integers:
        """Return the same for some devices, without the work for the others."""
        missing: Integers = self._peak_of(submodel, devices) - self.available_memory_bytes[devices]
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
        """Return seconds of local training of each device at its batch size, before jitter."""
        if len(self.batch_sizes) == 1:
            return self._compute_column(submodel, self.batch_sizes[0])[devices]
        rungs = self._rung(submodel)[devices]
        seconds = np.zeros(len(devices))
        for rung in np.unique(rungs):
            members = rungs == rung
            seconds[members] = self._compute_column(submodel, self.batch_sizes[rung])[devices[members]]
        return seconds

    def total_s(self, submodel: str, devices: Integers) -> Floats:
        """Return seconds from dispatch to arrival of each device, before jitter."""
        if len(self.batch_sizes) > 1:
            return self._added_s(submodel, devices)
        # Offers are made to nearly everybody at every dispatch: the whole column once is cheaper than its parts.
        if submodel not in self._total_s:
            self._total_s[submodel] = self._added_s(submodel, np.arange(self.population.num_devices))
        return self._total_s[submodel][devices]

    def _added_s(self, submodel: str, devices: Integers) -> Floats:
        return self.download_s(submodel, devices) + self.compute_s(submodel, devices) + self.upload_s(submodel, devices)

    def cost(self, submodel: str, device: int) -> Cost:
        """Return the cost of one submodel on one device."""
        one: NDArray[np.int64] = np.array([device])
        return self._costs(submodel, one, self.available_memory_bytes[one])[0]

    def cost_at(self, submodel: str, device: int, at_s: float, round_number: int) -> Cost:
        """Return the cost with the memory of a moment, without the work for other devices that `at` may take."""
        return self.costs_at([submodel], np.array([device]), at_s, round_number)[0]

    def costs_at(self, submodels: Sequence[str], devices: Integers, at_s: float, round_number: int) -> Costs:
        """Return the cost of `submodels[i]` on `devices[i]` with the memory of a moment, for all at once."""
        motion = self.population.memory_motion
        available_bytes = (
            self.available_memory_bytes[devices]
            if motion is None
            else motion.available_bytes_of(devices, at_s, round_number)
        )
        if isinstance(submodels, Repeated):
            return self._costs(submodels.value, devices, available_bytes)
        # By submodel, so that each column is asked once; then back into the order of the devices.
        members = [
            (name, np.flatnonzero([wanted == name for wanted in submodels])) for name in dict.fromkeys(submodels)
        ]
        parts = [self._costs(name, devices[places], available_bytes[places]) for name, places in members]
        return Costs.joined(parts, [places for _, places in members])

    def _costs(self, submodel: str, devices: Integers, available_bytes: Integers) -> Costs:
        largest, *smaller = self.batch_sizes
        sizes = np.full(len(devices), largest)
        peak_bytes = self._peak_at(submodel, largest, devices)
        compute_s = self._compute_column(submodel, largest)[devices]
        for size in smaller:
            short = peak_bytes > available_bytes
            if not short.any():
                break
            sizes[short] = size
            peak_bytes[short] = self._peak_at(submodel, size, devices[short])
            compute_s[short] = self._compute_column(submodel, size)[devices[short]]
        return Costs(
            submodels=Repeated(submodel, len(devices)),
            devices=devices,
            download_s=self.download_s(submodel, devices),
            compute_s=compute_s,
            upload_s=self.upload_s(submodel, devices),
            peak_memory_bytes=peak_bytes,
            available_memory_bytes=available_bytes,
            batch_sizes=sizes,
        )

    def participation_rate(self, submodels: tuple[str, ...]) -> float:
        """Return the share of devices that fit at least one of `submodels`, in [0, 1]."""
        fits = np.zeros(self.population.num_devices, dtype=bool)
        for submodel in submodels:
            fits |= self.fits(submodel)
        return float(fits.mean())
