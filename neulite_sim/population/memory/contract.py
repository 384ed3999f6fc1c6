"""What the wing of memory answers: how much of a device's memory training may use, and how that moves.

`conformance.check_memory_distribution` and `check_memory_motion` test what is promised here for ones of your own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from neulite_sim.arrays import Integers
from neulite_sim.registry import Choice

MemorySampler = Callable[[int, Integers, np.random.Generator], Integers]
"""What a distribution's `build(options)` returns: `(count, installed_memory_bytes, rng) -> int64[count]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetMemory:
    """The memory of a fleet as columns: what is installed, what is usable, and what each device was drawn.

    `cap_bytes` is what available memory never exceeds: the usable memory, or an `explicit` budget above it.
    `choice_index[d]` says which of `choices` the memory of device d was drawn from.
    """

    nominal_bytes: Integers
    installed_bytes: Integers
    usable_bytes: Integers
    choices: tuple[Choice, ...]
    choice_index: NDArray[np.int16]

    @property
    def num_devices(self) -> int:
        """Number of devices, N."""
        return len(self.nominal_bytes)

    @property
    def cap_bytes(self) -> Integers:
        """The most that each device may ever have."""
        return np.maximum(self.usable_bytes, self.nominal_bytes)


class MemoryMotion(Protocol):
    """How available memory changes in time. Pure lookups: any order of queries gives the same answers.

    A value holds over a half-open stretch of time. `round_number` counts rounds from 1; it matters only where memory
    changes from round to round, and a flight then keeps what its device had when it was dispatched.
    """

    def available_bytes(self, at_s: float, round_number: int) -> Integers:
        """Return the available memory of every device at virtual time `at_s`, in a round."""
        ...

    def available_bytes_of(self, devices: Integers, at_s: float, round_number: int) -> Integers:
        """Return the same for some devices, without the work for the others."""
        ...

    def short_from_s(self, device: int, needed_bytes: int, at_s: float, until_s: float) -> float:
        """Return the first moment from `at_s` to `until_s` at which a device has less than `needed_bytes`.

        `inf` where there is none.
        """
        ...

    # A motion may also have `enough_from_s(devices, needed_bytes, at_s, until_s)`: of each of some devices the first
    # moment from its `at_s` to `until_s` at which it has its `needed_bytes`, `inf` where there is none. Then a run that
    # waits for memory looks months ahead; without it, at 10 000 changes of memory.

    def next_change_s(self, at_s: float) -> float:
        """Return a moment after `at_s` before which nobody's memory changes; `inf` where it never does again."""
        ...


MotionFactory = Callable[[FleetMemory, int], MemoryMotion | None]
"""What a motion's `build(options)` returns: `(memory, seed) -> MemoryMotion`, or None where nothing ever moves."""
