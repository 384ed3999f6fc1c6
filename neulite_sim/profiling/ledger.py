"""Ledger: every submodel's profile on every device of the fleet, as columns. A `Cost` is one entry of it.

Time is a roofline per operator plus a fixed overhead per operator: `roofline.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neulite_sim.arrays import Flags, Floats, Integers, Repeated
from neulite_sim.population.link.network import transfer_s
from neulite_sim.population.table import Population
from neulite_sim.profiling.cost import Cost as Cost  # Most take it from here.
from neulite_sim.profiling.cost import Costs
from neulite_sim.profiling.plans import Choice, Plan
from neulite_sim.profiling.step_time import step_seconds

if TYPE_CHECKING:
    from neulite_sim.profiling.profile import Profile
    from neulite_sim.profiling.tracer import MemoryBytes


def _merged(plan: Plan) -> Plan:
    """Return the plan for a batch that takes in one sample more."""
    return replace(plan, batch_size=plan.batch_size + 1)


def merges_last_batch(num_samples: Integers, batch_size: int) -> Flags:
    """Return which devices train a batch of `batch_size` + 1, because one sample alone cannot feed BatchNorm."""
    merges: Flags = (num_samples > batch_size) & (num_samples % batch_size == 1) & (batch_size > 1)
    return merges


class Ledger:
    """Costs of a method's submodels on a population, computed once per submodel, plan and device class.

    `num_samples[d]` is what device d is charged for: its own samples, or the workload's `samples_per_device`.
    `owns_data[d]` says whether d owns any sample (by default: is charged for any); only who does is ever offered work.
    `merged_profiles` are those at one sample more than the batch size: a device whose last batch would hold one
    sample merges it into the batch before, and needs the memory of that. A submodel of `own_epochs` is trained for so
    many epochs, one of `own_steps` for so many steps, any other for `epochs`.

    `profiles` are those of the first plan. With a `choice` each device has a plan of its own: of the largest batch at
    which any fits its memory the fastest one that does. A ledger counts with the nominal memory of the population;
    `at` returns it for a moment where memory moves.
    """

    def __init__(
        self,
        profiles: Mapping[str, Profile],
        population: Population,
        num_samples: Integers,
        *,
        epochs: int,
        own_epochs: Mapping[str, int] | None = None,
        own_steps: Mapping[str, int] | None = None,
        owns_data: Flags | None = None,
        merged_profiles: Mapping[str, Profile] | None = None,
        choice: Choice | None = None,
    ) -> None:
        self.profiles = dict(profiles)
        self.population = population
        self.num_samples = num_samples
        self.epochs = epochs
        self._own_epochs = own_epochs or {}
        self._own_steps = own_steps or {}
        self.owns_data: Flags = num_samples > 0 if owns_data is None else owns_data
        self.available_memory_bytes = population.available_memory_bytes
        batch_size = next(iter(self.profiles.values())).batch_size
        self._choice = choice
        self._rungs = choice.rungs if choice else ((Plan(batch_size=batch_size),),)
        self.plans: tuple[Plan, ...] = tuple(plan for rung in self._rungs for plan in rung)
        """The plans that devices choose from, by falling batch size; the first is that of `profiles`."""
        first, merged = self.plans[0], merged_profiles or {}
        self._known: dict[tuple[str, Plan], Profile | None] = {(name, first): it for name, it in self.profiles.items()}
        self._known |= {(name, _merged(first)): item for name, item in merged.items()}
        sizes = {plan.batch_size for plan in self.plans}
        self._merges = {size: merges_last_batch(num_samples, size) for size in sizes}
        assert not self._merges[batch_size].any() or merged.keys() == self.profiles.keys()
        self._compute_s: dict[tuple[str, Plan], Floats] = {}
        self._total_s: dict[str, Floats] = {}
        self._chosen: dict[str, NDArray[np.int16]] = {}
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
        other._chosen, other._able = {}, {}
        if len(self.plans) > 1:
            other._total_s = {}
        return other

    def profile_of(self, submodel: str, plan: Plan) -> Profile | None:
        """Return the profile by a plan of `plans`; None where the submodel cannot be trained so."""
        at = submodel, plan
        if at not in self._known:
            assert self._choice is not None, f"no profile of {submodel} by {plan}"
            self._known[at] = self._choice.profile_of(submodel, plan)
        return self._known[at]

    def _profile(self, submodel: str, plan: Plan) -> Profile:
        found = self.profile_of(submodel, plan)
        assert found is not None, f"{submodel} cannot be trained by {plan}"
        return found

    def _compute_column(self, submodel: str, plan: Plan) -> Floats:
        """Return seconds of local training of every device, all by one plan."""
        at = submodel, plan
        if at not in self._compute_s:
            self._compute_s[at] = self._computed_column(self._profile(submodel, plan))
        return self._compute_s[at]

    def _computed_column(self, profile: Profile) -> Floats:
        epochs = self._own_epochs.get(profile.submodel, self.epochs)
        steps = self._own_steps.get(profile.submodel)
        seconds = self._epoch_column(profile) * epochs if steps is None else self._steps_column(profile, steps)
        if steps is None and profile.later_operator_flops is not None:
            seconds = self._epoch_column(profile) + self._epoch_column(profile, is_later=True) * (epochs - 1)
        speed = self.population.speed_factor
        return seconds / (1.0 if speed is None else speed)

    def _steps_column(self, profile: Profile, steps: int) -> Floats:
        """Return seconds of so many steps of every device: whole epochs, then whole batches of one more."""
        whole_batches, rest = np.divmod(self.num_samples, profile.batch_size)
        batches = whole_batches + (rest > 0) - self._merges[profile.batch_size]
        epochs, more = np.divmod(steps, np.maximum(batches, 1))
        whole_s = np.array([step_seconds(profile, device) for device in self.population.classes])
        seconds: Floats = self._epoch_column(profile) * epochs + whole_s[self.population.class_index] * more
        return seconds

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

    def peak_by(self, submodel: str, plan: Plan, devices: Integers | None = None) -> Integers:
        """Return the predicted peak of `devices`, all by default, by a plan by which the submodel can be trained.

        A merged last batch needs more, and so do the features that a device keeps of its samples.
        """
        chosen = slice(None) if devices is None else devices
        merges, num_samples = self._merges[plan.batch_size][chosen], self.num_samples[chosen]
        peak = self._profile(submodel, plan).memory_bytes(num_samples)
        if merges.any():
            peak[merges] = self._profile(submodel, _merged(plan)).memory_bytes(num_samples[merges])
        return peak

    def seconds_by(self, submodel: str, plan: Plan, devices: Integers) -> Floats:
        """Return seconds of local training of `devices` by a plan, before jitter."""
        return self._compute_column(submodel, plan)[devices]

    def chosen(self, submodel: str) -> NDArray[np.int16]:
        """Return for every device which of `plans` it takes: the one with the smallest peak where none fits."""
        if submodel not in self._chosen:
            everybody = np.arange(self.population.num_devices)
            self._chosen[submodel] = self._chosen_by(submodel, everybody, self.available_memory_bytes)
        return self._chosen[submodel]

    def _chosen_by(self, submodel: str, devices: Integers, available_bytes: Integers) -> NDArray[np.int16]:
        """Return which plan each of `devices` takes with so much memory.

        A plan is looked at only for those who have no plan that is never slower; so most need not be profiled.
        """
        if len(self.plans) == 1:
            return np.zeros(len(devices), np.int16)
        taken = np.full(len(devices), -1, np.int16)
        smallest, least_bytes = np.zeros(len(devices), np.int16), np.full(len(devices), np.iinfo(np.int64).max)
        first = 0
        for rung in self._rungs:
            undecided, fastest_s = taken < 0, np.full(len(devices), np.inf)
            fits: list[Flags] = []
            is_linear = True
            for place, plan in enumerate(rung):
                asks = undecided.copy()
                for other, able in zip(rung, fits, strict=False):
                    if plan.is_never_faster_than(other, is_linear=is_linear):
                        asks &= ~able
                fits.append(np.zeros(len(devices), np.bool_))
                if not asks.any() or self.profile_of(submodel, plan) is None:
                    continue
                is_linear &= not self._profile(submodel, plan).compares_samples
                peak = self.peak_by(submodel, plan, devices)
                lowers = asks & (peak < least_bytes)
                smallest[lowers], least_bytes[lowers] = first + place, peak[lowers]
                fits[place] = asks & (peak <= available_bytes)
                seconds = self.seconds_by(submodel, plan, devices) if len(rung) > 1 else np.zeros(len(devices))
                better = fits[place] & (seconds < fastest_s)
                taken[better], fastest_s[better] = first + place, seconds[better]
            first += len(rung)
            if (taken >= 0).all():
                break
        return np.where(taken < 0, smallest, taken)

    def _by_plan(self, chosen: NDArray[np.int16]) -> Iterator[tuple[Plan, Integers]]:
        """Yield each plan that is taken, with the places of those that take it."""
        if len(self.plans) == 1:
            yield self.plans[0], np.arange(len(chosen))
            return
        for index in np.unique(chosen).tolist():
            yield self.plans[index], np.flatnonzero(chosen == index)

    def peak_memory_bytes_of(self, submodel: str, devices: Integers | None) -> Integers:
        """Return the predicted peak of `devices`, all where it is None, each by its plan."""
        if len(self.plans) == 1:
            return self.peak_by(submodel, self.plans[0], devices)
        everybody = np.arange(self.population.num_devices) if devices is None else devices
        peak = np.zeros(len(everybody), dtype=np.int64)
        for plan, places in self._by_plan(self.chosen(submodel)[everybody]):
            peak[places] = self.peak_by(submodel, plan, everybody[places])
        return peak

    def batch_size(self, submodel: str) -> Integers:
        """Return the batch size of every device's plan."""
        return np.array([plan.batch_size for plan in self.plans], dtype=np.int64)[self.chosen(submodel)]

    def merges(self, submodel: str) -> Flags:
        """Return which devices are charged for one sample more than their batch size: one that would be left over."""
        sizes = self.batch_size(submodel)
        merged: Flags = np.logical_or.reduce([(sizes == size) & them for size, them in self._merges.items()])
        return merged

    def peak_memory_bytes(self, submodel: str) -> Integers:
        """Return the predicted peak of every device, by its plan."""
        return self.peak_memory_bytes_of(submodel, None)

    def fits(self, submodel: str) -> Flags:
        """Return for every device whether its available memory holds the predicted peak of its plan."""
        if submodel not in self._able:
            self._able[submodel] = self.available_memory_bytes >= self.peak_memory_bytes_of(submodel, None)
            self._able[submodel].flags.writeable = False
        return self._able[submodel]

    def fits_somebody(self, submodel: str) -> bool:
        """Return whether the submodel fits the nominal memory of any device that owns data, by any plan."""
        if submodel not in self._fits_somebody:
            memory = self.population.available_memory_bytes
            able = (self.owns_data & (memory >= self.peak_by(submodel, plan)) for plan in self._possible(submodel))
            self._fits_somebody[submodel] = any(bool(each.any()) for each in able)
        return self._fits_somebody[submodel]

    def _possible(self, submodel: str) -> Iterator[Plan]:
        """Yield the plans by which a submodel can be trained."""
        return (plan for plan in self.plans if self.profile_of(submodel, plan) is not None)

    def least_peak_bytes(self, submodel: str, plan: Plan | None = None) -> int:
        """Return the lowest peak of devices that own data, by a plan; over all plans where it is not given.

        Where features are kept, it holds those of the fewest samples.
        """
        owned = self.num_samples[self.owns_data]
        fewest = np.array([owned.min() if len(owned) else 0], dtype=np.int64)
        found = (self._profile(submodel, each) for each in ([plan] if plan else self._possible(submodel)))
        return min(int(item.memory_bytes(fewest)[0]) for item in found)

    def least_memory(self, submodel: str) -> MemoryBytes:
        """Return the split of the peak of the plan with the lowest one, features kept left out."""
        found = (self._profile(submodel, plan).memory for plan in self._possible(submodel))
        return min(found, key=lambda memory: memory.total)

    def least_process_bytes(self, submodel: str) -> int | None:
        """Return the lowest peak of the whole process over the plans of whole batches, features kept left out.

        None where a profile was made without it.
        """
        found = [self._profile(submodel, plan).process_bytes for plan in self._possible(submodel)]
        known = [num_bytes for num_bytes in found if num_bytes is not None]
        return min(known, default=None)

    def shortfall_bytes(self, submodel: str) -> Integers:
        """Return for every device how many bytes are missing, zero where the submodel fits."""
        missing: Integers = self.peak_memory_bytes(submodel) - self.available_memory_bytes
        return np.maximum(missing, 0)

    def shortfall_bytes_of(self, submodel: str, devices: Integers) -> Integers:
        """Return the same for some devices, without the work for the others."""
        missing: Integers = self.peak_memory_bytes_of(submodel, devices) - self.available_memory_bytes[devices]
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
        """Return seconds of local training of each device by its plan, before jitter."""
        if len(self.plans) == 1:
            return self._compute_column(submodel, self.plans[0])[devices]
        seconds = np.zeros(len(devices))
        for plan, places in self._by_plan(self.chosen(submodel)[devices]):
            seconds[places] = self.seconds_by(submodel, plan, devices[places])
        return seconds

    def total_s(self, submodel: str, devices: Integers) -> Floats:
        """Return seconds from dispatch to arrival of each device, before jitter."""
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
        """Return costs with memory of a moment: each device takes the plan that is best with it."""
        if self.population.memory_motion is None:
            chosen = self.chosen(submodel)[devices]
        else:
            chosen = self._chosen_by(submodel, devices, available_bytes)
        peak_bytes, compute_s = np.zeros(len(devices), dtype=np.int64), np.zeros(len(devices))
        for plan, places in self._by_plan(chosen):
            peak_bytes[places] = self.peak_by(submodel, plan, devices[places])
            compute_s[places] = self.seconds_by(submodel, plan, devices[places])
        return Costs(
            submodels=Repeated(submodel, len(devices)),
            devices=devices,
            download_s=self.download_s(submodel, devices),
            compute_s=compute_s,
            upload_s=self.upload_s(submodel, devices),
            peak_memory_bytes=peak_bytes,
            available_memory_bytes=available_bytes,
            plan_index=chosen,
            plans=self.plans,
        )

    def participation_rate(self, submodels: tuple[str, ...]) -> float:
        """Return the share of devices that fit at least one of `submodels`, in [0, 1]."""
        fits = np.zeros(self.population.num_devices, dtype=bool)
        for submodel in submodels:
            fits |= self.fits(submodel)
        return float(fits.mean())
