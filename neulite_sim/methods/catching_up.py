"""What devices have missed: which version each of them holds, and what has been made known since.

A device that takes part is brought to the version that it trains from, and keeps what it got. Before it trains again it
downloads what has been made known since. The server knows of a device what has arrived from it: one that was sent a
version and did not answer is taken not to hold it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neulite_sim.arrays import Integers
from neulite_sim.methods.contract import Method, State

CAME, BYTES = "came", "bytes"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attendance:
    """Which version each device holds, and the bytes of all that was made known before each version.

    `came` are the devices of the last digest, each with the version that it trained from. Everybody holds version 0,
    which was there before the run.
    """

    held: NDArray[np.int64]
    totals: NDArray[np.int64]
    came: tuple[tuple[int, int], ...] = ()

    @classmethod
    def begin(cls, num_devices: int) -> Attendance:
        """Return the attendance before the first round."""
        return cls(held=np.zeros(num_devices, np.int64), totals=np.zeros(1, np.int64))

    def noted(self, came: Iterable[tuple[int, int]], num_bytes: int) -> Attendance:
        """Return the attendance after a digest of which `num_bytes` are made known, with who came into it."""
        found = tuple(came)
        held = self.held
        if found:
            held = held.copy()
            devices, versions = (np.array(column, np.int64) for column in zip(*found, strict=True))
            np.maximum.at(held, devices, versions)
        totals = np.append(self.totals, self.totals[-1] + num_bytes)
        return replace(self, held=held, totals=totals, came=found)

    def missed_bytes(self, devices: Integers, *, most: int) -> Integers:
        """Return the bytes of what each device has missed, `most` where it takes everything anew instead."""
        missed: Integers = self.totals[-1] - self.totals[self.held[devices]]
        return np.minimum(missed, most)

    def missed_rounds(self, devices: Integers) -> Integers:
        """Return how many digests each device has not been told of."""
        rounds: Integers = len(self.totals) - 1 - self.held[devices]
        return rounds

    @property
    def progress(self) -> Mapping[str, Any]:
        """What `followed` needs of the last digest, as plain values."""
        num_bytes = int(self.totals[-1] - self.totals[-2]) if len(self.totals) > 1 else 0
        return {CAME: [list(each) for each in self.came], BYTES: num_bytes}

    def followed(self, progress: Mapping[str, Any]) -> Attendance:
        """Return the attendance after a digest of which only `progress` is known."""
        return self.noted(((device, version) for device, version in progress[CAME]), progress[BYTES])


class CatchingUp(Method):
    """A method whose devices catch up with what they missed: `State.extra` is a dataclass with an `attendance`."""

    def progress(self, state: State) -> Mapping[str, Any]:
        """Return who came into the last digest, and what it made known."""
        attendance: Attendance = state.extra.attendance
        return attendance.progress

    def follow(self, state: State, progress: Mapping[str, Any]) -> State:
        """Return the state after the next digest without its weights."""
        extra = replace(state.extra, attendance=state.extra.attendance.followed(progress))
        return replace(state, version=state.version + 1, extra=extra)
