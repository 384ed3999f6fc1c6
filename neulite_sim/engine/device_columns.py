"""From the fleet, its costs and the roll call to rows of devices: who each is, what fits it, what happened to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neulite_sim.arrays import Integers, Repeated
from neulite_sim.engine.denial_columns import DENIALS, OTHER_DENIALS
from neulite_sim.engine.parts import Costing
from neulite_sim.engine.roll_call import Roll
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
        self._roll = roll

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
            **({} if self._roll is None else _counted(self._roll, span, after - first)),
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


def _counted(roll: Roll, span: slice, num: int) -> dict[str, Column]:
    """Return what was counted of `num` devices, those of a span."""
    nothing: Column = Repeated(0, num)
    denied: dict[str, Column] = dict.fromkeys((*DENIALS.values(), OTHER_DENIALS), nothing)
    for reason, counts in roll.denied.items():
        name = DENIALS.get(reason, OTHER_DENIALS)
        denied[name] = _sum((denied[name], counts[span]), num)
    dropped: dict[str, Column] = {
        f"dropped_{cause}": roll.dropped[cause][span] if cause in roll.dropped else nothing for cause in DROP_CAUSES
    }
    all_denied, all_dropped = _sum(denied.values(), num), _sum(dropped.values(), num)
    return {
        **_presence(roll, span),
        "offered_rounds": roll.num_rounds - all_denied,
        "denied_rounds": all_denied,
        **denied,
        "flights": roll.arrived[span] + all_dropped,
        "arrived": roll.arrived[span],
        "dropped": all_dropped,
        **dropped,
        "last_flight_s": roll.last_flight_s[span],
    }


def _presence(roll: Roll, span: slice) -> dict[str, Column]:
    """Return the columns of moving memory and of times online, those that are known."""
    found: dict[str, Column] = {}
    if roll.lowest_memory_bytes is not None and roll.highest_memory_bytes is not None:
        found["lowest_memory_bytes"] = roll.lowest_memory_bytes[span]
        found["highest_memory_bytes"] = roll.highest_memory_bytes[span]
    if roll.presence is not None:
        presence = roll.presence(span)
        found["last_seen_s"] = presence.last_seen_s
        if roll.ended_s:
            found["online_share"] = presence.online_s / roll.ended_s
    return found


def _sum(columns: Iterable[Any], num: int) -> Integers:
    """Return the sum of columns of counts."""
    total = np.zeros(num, np.int64)
    for column in columns:
        if not isinstance(column, Repeated):
            total += column
    return total
