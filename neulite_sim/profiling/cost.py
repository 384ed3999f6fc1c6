"""What training a submodel costs on a device: one `Cost` as a value, or many as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from neulite_sim.arrays import Floats, Integers, joined, taken
from neulite_sim.profiling.plans import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """A profile on a device: seconds of each phase before jitter, and whether the peak fits.

    `plan` is how the device takes its steps: where it may choose and none fits, the one with the smallest peak.
    """

    submodel: str
    device: int
    download_s: float
    compute_s: float
    upload_s: float
    peak_memory_bytes: int
    available_memory_bytes: int
    plan: Plan
    owed_bytes: int = 0
    """What the device downloads beyond the submodel's own bytes, as `Method.owed_bytes` says."""

    @property
    def batch_size(self) -> int:
        """Samples per step."""
        return self.plan.batch_size

    @property
    def total_s(self) -> float:
        """Seconds from dispatch to arrival."""
        return self.download_s + self.compute_s + self.upload_s

    @property
    def shortfall_bytes(self) -> int:
        """Bytes that are missing; zero where the submodel fits."""
        return max(0, self.peak_memory_bytes - self.available_memory_bytes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Costs(Sequence[Cost]):
    """Costs as columns, one entry per device of `devices`; `costs[i]` is the i-th as a value.

    `plan_index` says which of `plans` each device takes.
    """

    submodels: Sequence[str]
    devices: Integers
    download_s: Floats
    compute_s: Floats
    upload_s: Floats
    peak_memory_bytes: Integers
    available_memory_bytes: Integers
    plan_index: NDArray[np.int16]
    plans: tuple[Plan, ...]
    owed_bytes: Integers | None = None
    """What each device downloads beyond the submodel's own bytes; None where nobody does."""

    @property
    def batch_sizes(self) -> Integers:
        """Samples per step of each."""
        return np.array([plan.batch_size for plan in self.plans], np.int64)[self.plan_index]

    def plan_labels(self) -> Sequence[str]:
        """Return each one's plan in words."""
        labels = [plan.label for plan in self.plans]
        return [labels[index] for index in self.plan_index.tolist()]

    @classmethod
    def of(cls, costs: Sequence[Cost]) -> Costs:
        """Return costs as columns."""
        columns: dict[str, Any] = {
            column: np.array([getattr(cost, name) for cost in costs], dtype)
            for column, (name, dtype) in _NUMBERS.items()
        }
        plans = tuple(dict.fromkeys(cost.plan for cost in costs))
        index = np.array([plans.index(cost.plan) for cost in costs], np.int16)
        owed = np.array([cost.owed_bytes for cost in costs], np.int64)
        return cls(
            submodels=[cost.submodel for cost in costs],
            plan_index=index,
            plans=plans,
            owed_bytes=owed if owed.any() else None,
            **columns,
        )

    @classmethod
    def joined(cls, parts: Sequence[Costs], places: Sequence[Integers]) -> Costs:
        """Return the entries of all parts: `parts[p][i]` at place `places[p][i]`."""
        if not parts:
            return cls.of([])
        if len(parts) == 1:
            return parts[0]
        return cls.after_each_other(parts).taken(np.argsort(np.concatenate(places), kind="stable"))

    @classmethod
    def after_each_other(cls, parts: Sequence[Costs]) -> Costs:
        """Return the entries of all parts, at least one, one part after the other."""
        plans = tuple(dict.fromkeys(plan for part in parts for plan in part.plans))
        index = [np.array([plans.index(plan) for plan in part.plans], np.int16)[part.plan_index] for part in parts]
        owed = [part.owed_bytes for part in parts]
        if any(each is not None for each in owed):
            owed = [
                np.zeros(len(part), np.int64) if each is None else each for part, each in zip(parts, owed, strict=True)
            ]
        return cls(
            submodels=joined([part.submodels for part in parts]),
            plan_index=np.concatenate(index),
            plans=plans,
            owed_bytes=None if owed[0] is None else joined(owed),
            **{column: joined([getattr(part, column) for part in parts]) for column in _NUMBERS},
        )

    def __len__(self) -> int:
        return len(self.devices)

    @overload
    def __getitem__(self, place: int) -> Cost: ...

    @overload
    def __getitem__(self, place: slice) -> Costs: ...

    def __getitem__(self, place: int | slice) -> Cost | Costs:
        if isinstance(place, slice):
            return self.taken(np.arange(len(self))[place])
        return Cost(
            submodel=self.submodels[place],
            device=int(self.devices[place]),
            download_s=float(self.download_s[place]),
            compute_s=float(self.compute_s[place]),
            upload_s=float(self.upload_s[place]),
            peak_memory_bytes=int(self.peak_memory_bytes[place]),
            available_memory_bytes=int(self.available_memory_bytes[place]),
            plan=self.plans[self.plan_index[place]],
            owed_bytes=0 if self.owed_bytes is None else int(self.owed_bytes[place]),
        )

    def taken(self, places: Integers) -> Costs:
        """Return the entries at some places."""
        columns: dict[str, Any] = {column: getattr(self, column)[places] for column in (*_NUMBERS, "plan_index")}
        owed = None if self.owed_bytes is None else self.owed_bytes[places]
        return Costs(submodels=taken(self.submodels, places), plans=self.plans, owed_bytes=owed, **columns)


_NUMBERS: Mapping[str, tuple[str, type]] = {
    "devices": ("device", np.int64),
    "download_s": ("download_s", np.float64),
    "compute_s": ("compute_s", np.float64),
    "upload_s": ("upload_s", np.float64),
    "peak_memory_bytes": ("peak_memory_bytes", np.int64),
    "available_memory_bytes": ("available_memory_bytes", np.int64),
}
"""The columns of numbers: what each is called in a `Cost`, and its type."""
