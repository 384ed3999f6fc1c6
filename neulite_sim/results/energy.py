"""Joules of flights: the seconds in each state times the watts of the device in it, added up without rounding.

    joules = download_s * receive_watts + compute_s * compute_watts + upload_s * send_watts + waiting_s * idle_watts

`waiting_s` are the pauses of the flight. Before its dispatch and after its end a device draws nothing that is counted
here. The joules of a flight lie on a grid of 2**-30 J, about a nanojoule, and are added up as whole numbers of these: a
total does not depend on the order, and it is that of its parts however they are put together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from neulite_sim.arrays import Flags, Floats, Integers, Repeated
from neulite_sim.population.hardware.power import Power
from neulite_sim.results.flight_rows import FlightRows

PER_JOULE = 2**30
"""Units of the grid in a joule."""
_EXACT = 2.0**62


def joules_of(
    class_index: Integers,
    powers: Sequence[Power | None],
    *,
    download_s: Floats,
    compute_s: Floats,
    upload_s: Floats,
    waiting_s: Floats | float,
) -> Floats:
    """Return the joules of flights, float64 on the grid; flight i is of a device of `powers[class_index[i]]`."""
    idle, compute, receive, send = (
        np.array([getattr(power, f"{state}_watts", np.nan) for power in powers])[class_index]
        for state in ("idle", "compute", "receive", "send")
    )
    found = download_s * receive + compute_s * compute + upload_s * send + waiting_s * idle
    joules: Floats = np.rint(found * PER_JOULE) / PER_JOULE
    return joules


def joules_of_cells(cells: Mapping[str, Sequence[Any]], powers: Mapping[str, Power]) -> Floats | None:
    """Return the same of columns of rows; None where the watts of a device among them are not known."""
    names = cells["device_class"]
    known = {name: place for place, name in enumerate(powers)}
    distinct = {names.value} if isinstance(names, Repeated) else set(names)
    if not distinct <= known.keys():
        return None
    seconds = {name: np.array(cells[name], np.float64) for name in ("download_s", "compute_s", "upload_s", "waiting_s")}
    class_index = np.array([known[name] for name in names], np.int64)
    return joules_of(class_index, list(powers.values()), **seconds)


def units_of(joules: Floats) -> int:
    """Return the sum of joules on the grid as a whole number of its units, exactly."""
    units = joules * PER_JOULE
    if float(np.max(units, initial=0.0)) * max(len(units), 1) < _EXACT:
        return int(units.astype(np.int64).sum())
    return sum(map(int, units.tolist()))


class EnergyTally:
    """The joules of a run so far; None once there was a flight of which they are not known."""

    def __init__(self) -> None:
        self._units = self._wasted = 0
        self._is_known = True

    @classmethod
    def unknown(cls) -> EnergyTally:
        """Return the joules of a run of which they cannot be known."""
        found = cls()
        found._is_known = False
        return found

    def add(self, joules: Floats | None, has_arrived: Flags) -> None:
        """Take in flights, and which of them were merged: the others are wasted."""
        if joules is None:
            self._is_known = False
        elif self._is_known:
            self._units += units_of(joules)
            self._wasted += units_of(joules[~has_arrived])

    def add_rows(self, rows: FlightRows, powers: Mapping[str, Power]) -> None:
        """Take in rows of flights; `powers` are for those that do not come with their joules."""
        has_arrived = np.array([outcome == "arrived" for outcome in rows.cells["outcome"]], np.bool_)
        self.add(joules_of_cells(rows.cells, powers) if rows.joules is None else rows.joules, has_arrived)

    @property
    def energy_j(self) -> float | None:
        """Joules of all flights, rounded once."""
        return self._units / PER_JOULE if self._is_known else None

    @property
    def wasted_energy_j(self) -> float | None:
        """Joules of flights whose update was not merged."""
        return self._wasted / PER_JOULE if self._is_known else None


def tally_of(rows: FlightRows, powers: Mapping[str, Power] = MappingProxyType({})) -> EnergyTally:
    """Return the joules of some flights together."""
    found = EnergyTally()
    if len(rows):
        found.add_rows(rows, powers)
    return found
