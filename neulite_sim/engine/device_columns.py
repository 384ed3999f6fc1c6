"""From the fleet, its costs and the roll call to rows of devices: who each is, what fits it, what happened to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neulite_sim.arrays import Floats, Integers, Repeated
from neulite_sim.engine.denial_columns import DENIALS, OTHER_DENIALS
from neulite_sim.engine.parts import Costing
from neulite_sim.engine.roll_call import Counts, Roll
from neulite_sim.results.device_rows import JOIN, NAMES, Block, Coded, Column, DeviceRows
from neulite_sim.timeline.reasons import DROP_CAUSES

MOST_NAMES = 12
"""Of more submodels only the least and the most demanding are named."""


def device_rows(costing: Costing, roll: Roll | None = None) -> DeviceRows:
    """Return the rows of the fleet; without a roll, as before a run, nothing is counted in them."""
    maker = _Maker(costing, roll)
    return DeviceRows(costing.population.num_devices, maker.block)


class _Maker:
    def __init__(self, costing: Costing, roll: Roll | None) -> None:
        population = costing.population
        self._population, self._ledger = population, costing.ledger
        self._samples = costing.partition.sizes
        self._submodels = tuple(costing.method.submodels)
        self._chooses_plans = costing.chooses_plans
        self._hardware = [each.name for each in population.classes]
        self._installed = np.array([each.installed_memory_bytes for each in population.classes], np.int64)
        self._counted = _counted(roll, population.num_devices) if roll else {}

    def block(self, first: int, after: int) -> Block:
        """Return the columns of the devices from `first` to `after` - 1."""
        population, span, devices = self._population, slice(first, after), np.arange(first, after)
        classes = population.class_index[span].astype(np.int64)
        found: dict[str, Column] = {
            "device": devices,
            "hardware": Coded(classes, self._hardware),
            "installed_memory_bytes": self._installed[classes],
            "available_memory_bytes": population.available_memory_bytes[span],
            "samples": self._samples[span],
            "downlink_bits_per_second": population.downlink_bits_per_second[span],
            "uplink_bits_per_second": population.uplink_bits_per_second[span],
            "latency_s": population.latency_s[span],
            **self._fitting(devices),
            **{name: column[span] for name, column in self._counted.items()},
        }
        nothing = Repeated(None, after - first)
        return {name: found.get(name, nothing) for name in NAMES}

    def _fitting(self, devices: Integers) -> dict[str, Column]:
        """Return what the submodels need, which of them fit and how, and what the least demanding lacks."""
        ledger = self._ledger
        available = ledger.available_memory_bytes[devices]
        needed = np.array([ledger.peak_memory_bytes_of(name, devices) for name in self._submodels])
        fits = needed <= available
        return {
            "needed_memory_bytes": Coded.of(needed, self._needed_text),
            "fits": Coded.of(fits.astype(np.int64), self._fits_text),
            "plans": self._plans(devices, fits),
            "shortfall_bytes": np.maximum(needed.min(axis=0) - available, 0),
        }

    def _plans(self, devices: Integers, fits: NDArray[np.bool_]) -> Column:
        if not self._chooses_plans or len(self._submodels) > MOST_NAMES:
            return Repeated("", len(devices))
        chosen = np.array([self._ledger.chosen(name)[devices] for name in self._submodels], np.int64)
        labels = [plan.label for plan in self._ledger.plans]
        return Coded.of(
            np.where(fits, chosen, -1), lambda plans: JOIN.join(labels[plan] for plan in plans if plan >= 0)
        )

    def _needed_text(self, needed: list[int]) -> str:
        pairs = list(zip(self._submodels, needed, strict=True))
        if len(pairs) > MOST_NAMES:
            pairs = [min(pairs, key=lambda pair: pair[1]), max(pairs, key=lambda pair: pair[1])]
        return JOIN.join(f"{name}={num_bytes}" for name, num_bytes in pairs)

    def _fits_text(self, fits: list[int]) -> str:
        if len(fits) > MOST_NAMES:
            return f"{sum(fits)} of {len(fits)}"
        return JOIN.join(name for name, does in zip(self._submodels, fits, strict=True) if does)


def _counted(roll: Roll, num_devices: int) -> dict[str, Any]:
    nothing: Any = Repeated(0, num_devices)
    denied: dict[str, Any] = dict.fromkeys((*DENIALS.values(), OTHER_DENIALS), nothing)
    for reason, counts in roll.denied.items():
        name = DENIALS.get(reason, OTHER_DENIALS)
        denied[name] = counts if denied[name] is nothing else denied[name] + counts
    dropped: dict[str, Any] = {f"dropped_{cause}": roll.dropped.get(cause, nothing) for cause in DROP_CAUSES}
    all_denied, all_dropped = _sum(denied, num_devices), _sum(dropped, num_devices)
    return {
        "lowest_memory_bytes": _known(roll.lowest_memory_bytes, num_devices),
        "highest_memory_bytes": _known(roll.highest_memory_bytes, num_devices),
        "online_share": _known(_share(roll), num_devices),
        "last_seen_s": _known(roll.last_seen_s, num_devices),
        "offered_rounds": roll.num_rounds - all_denied,
        "denied_rounds": all_denied,
        **denied,
        "flights": roll.arrived + all_dropped,
        "arrived": roll.arrived,
        "dropped": all_dropped,
        **dropped,
        "last_flight_s": roll.last_flight_s,
    }


def _known(column: Any, num_devices: int) -> Any:
    return Repeated(None, num_devices) if column is None else column


def _share(roll: Roll) -> Floats | None:
    """Return for which share of the time every device was online; None where no time has passed."""
    return None if roll.online_s is None or roll.ended_s == 0 else roll.online_s / roll.ended_s


def _sum(columns: Mapping[str, Any], num_devices: int) -> Counts:
    total = np.zeros(num_devices, np.int32)
    for column in columns.values():
        if not isinstance(column, Repeated):
            total += column
    return total
