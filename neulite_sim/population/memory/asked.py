"""Motion of memory of a plug-in, whose answers are looked at before they are believed."""

from __future__ import annotations

from typing import Any

import numpy as np

from neulite_sim.arrays import Integers
from neulite_sim.errors import SimulationError
from neulite_sim.population.memory.contract import MemoryMotion
from neulite_sim.user_code.origins import in_a_line

_HINT = "population/memory/contract.py says what each lookup returns; check_memory_motion tests them all"


class AskedMotion:
    """Passes questions on to `own`, and answers on to whoever asked.

    Each lookup raises:
        SimulationError: it fails, or its answer is no answer to the question; names the lookup and what it returned.
    """

    def __init__(self, own: MemoryMotion, name: str, num_devices: int) -> None:
        self._own = own
        self._name = name
        self._num_devices = num_devices
        self.notes = tuple(getattr(own, "notes", ()))

    def available_bytes(self, at_s: float, round_number: int) -> Integers:
        """Return the available memory of every device, as `MemoryMotion` has it."""
        return self._bytes("available_bytes", self._num_devices, at_s, round_number)

    def available_bytes_of(self, devices: Integers, at_s: float, round_number: int) -> Integers:
        """Return the same for some devices."""
        return self._bytes("available_bytes_of", len(devices), devices, at_s, round_number)

    def short_from_s(self, device: int, needed_bytes: int, at_s: float, until_s: float) -> float:
        """Return when a device first has too little, as `MemoryMotion` has it."""
        found = self._moment("short_from_s", device, needed_bytes, at_s, until_s)
        if not found >= at_s:
            raise self._refused("short_from_s", f"returned {found:g} s", f"return {at_s:g} or later, or inf for never")
        return found

    def next_change_s(self, at_s: float) -> float:
        """Return a moment before which nothing changes, as `MemoryMotion` has it."""
        found = self._moment("next_change_s", at_s)
        if not found > at_s:
            told = f"returned {found:g} s at {at_s:g} s"
            raise self._refused("next_change_s", told, "return a later moment, or inf for never")
        return found

    def _bytes(self, lookup: str, count: int, *question: Any) -> Integers:
        answer = self._answer(lookup, *question)
        found = np.asarray(answer)
        wish = f"return one whole number of bytes for each of {count} devices, 0 or more"
        if found.shape != (count,):
            raise self._refused(lookup, f"returned {type(answer).__name__} of shape {found.shape}", wish)
        if found.dtype.kind not in "iu":
            raise self._refused(lookup, f"returned numbers of type {found.dtype}", wish)
        if (found < 0).any():
            raise self._refused(lookup, f"returned {found.min()} bytes", wish)
        return found.astype(np.int64, copy=False)

    def _moment(self, lookup: str, *question: Any) -> float:
        answer = self._answer(lookup, *question)
        try:
            return float(answer)
        except (TypeError, ValueError):
            told = f"returned {type(answer).__name__}"
            raise self._refused(lookup, told, "return a moment in seconds, or inf for never") from None

    def _answer(self, lookup: str, *question: Any) -> Any:
        try:
            return getattr(self._own, lookup)(*question)
        except SimulationError:
            raise
        except Exception as error:
            raise SimulationError(f"{self._name}.{lookup} fails: {in_a_line(error)}", hint=_HINT) from error

    def _refused(self, lookup: str, told: str, hint: str) -> SimulationError:
        return SimulationError(f"{self._name}.{lookup} {told}", hint=hint)
