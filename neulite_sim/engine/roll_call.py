"""The roll call: for every device, in how many rounds it was denied work for which reason, and how its flights ended.

Counted in columns. Where a round's proposal lists devices they are counted at once; a proposal of candidates that are
kept up to date lists nobody, and is counted together with others (`looks`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neulite_sim.arrays import Counts, Flags, Floats, Integers
from neulite_sim.engine.candidates import Whereabouts
from neulite_sim.engine.comings import Comings, Presence, asked_presence
from neulite_sim.engine.looks import Looks
from neulite_sim.engine.stays import Airtime
from neulite_sim.engine.views import IN_FLIGHT, NO_DATA, OFFLINE, Look
from neulite_sim.methods.offering import OUT_OF_MEMORY, Denial
from neulite_sim.population.table import Population
from neulite_sim.results.flight_rows import FlightRows
from neulite_sim.timeline.flights import ARRIVED
from neulite_sim.timeline.reasons import cause_of

FEW_FLIGHTS = 4096
"""Flights are counted so many at a time: an asynchronous protocol ends one per round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roll:
    """What was counted of every device in `num_rounds` rounds, until the moment `ended_s`.

    `denied` and `dropped` are by reason and by cause; what is in neither was never the case. The memory columns are
    None where memory does not move; `presence` tells of some devices, and is None where it took too long to find out.
    """

    num_rounds: int
    ended_s: float
    denied: Mapping[str, Counts]
    dropped: Mapping[str, Counts]
    arrived: Counts
    last_flight_s: Floats
    lowest_memory_bytes: Integers | None
    highest_memory_bytes: Integers | None
    presence: Callable[[slice], Presence] | None


class RollCall:
    """Counts what happens to the devices of a population; `owns` says who owns data."""

    def __init__(self, population: Population, owns: Flags) -> None:
        self._population = population
        self._owns = owns
        self._denied = _Tables(population.num_devices)
        self._flights = _FlightCounts(population.num_devices)
        self._memory = _Range()
        self._open_memory = _Range()
        """Of the dispatches since the latest round."""
        self._comings: Comings | None = None
        self._looks: Looks | None = None
        self._num_rounds = 0
        self._at_s = 0.0
        self.is_whole = True
        """Whether no count was broken off: by an interruption from outside, say."""

    def follow(self, whereabouts: Whereabouts) -> None:
        """Follow who is where from the beginning of a run on."""
        if whereabouts.stretch(0.0) is not None:
            self._comings = Comings(whereabouts)
            self._looks = Looks(self._comings, Airtime(whereabouts))

    def note_dispatch(self, memory_bytes: Integers) -> None:
        """Take note of the memory of every device as flights leave; it counts with the round that is open then.

        A round may have many dispatches. Those after the last round of all never were.
        """
        if self._population.memory_motion is not None:
            with self.unsettled():
                self._open_memory.add(memory_bytes)

    def count_round(self, look: Look, denials: Sequence[Denial]) -> None:
        """Count a round: what was seen at its dispatch, with a denial for everybody who was offered nothing."""
        with self.unsettled():
            self._count_round(look, denials)

    def _count_round(self, look: Look, denials: Sequence[Denial]) -> None:
        self._num_rounds += 1
        self._at_s = max(self._at_s, look.at_s)
        if self._open_memory.ends is not None:
            for end in self._open_memory.ends:
                self._memory.add(end)
            self._open_memory = _Range()
        if look.unable is not None and self._looks is not None:
            self._looks.add(look)
            if self._looks.are_many:
                self._work_out()
            return
        for denial in denials:
            if len(denial):
                self._denied.add(denial.reason, denial.devices)

    def count_flights(self, rows: FlightRows) -> None:
        """Count flights that have ended."""
        with self.unsettled():
            self._flights.add(rows)

    @contextlib.contextmanager
    def unsettled(self) -> Iterator[None]:
        """Have the counts for broken off until the end of a block, and for good where that fails."""
        self.is_whole = False
        yield
        self.is_whole = True

    def come_to(self, at_s: float) -> None:
        """Take note that the run goes on at least until a moment."""
        self._at_s = max(self._at_s, at_s)

    def _work_out(self) -> None:
        seen = self._looks.worked_out() if self._looks is not None else None
        if seen is None:
            return
        num_looks = np.int32(seen.num_looks)
        self._denied.add_counts(OFFLINE, self._owns * (num_looks - seen.online))
        self._denied.add_counts(IN_FLIGHT, seen.aloft)
        self._denied.add_counts(OUT_OF_MEMORY, seen.unable)
        self._denied.add_counts(NO_DATA, ~self._owns * num_looks)

    def roll(self) -> Roll:
        """Return what was counted so far."""
        self._work_out()
        lowest, highest = self._memory.ends or (None, None)
        self._flights.work_out()
        return Roll(
            num_rounds=self._num_rounds,
            ended_s=self._at_s,
            denied=self._denied.by_name,
            dropped=self._flights.dropped.by_name,
            arrived=self._flights.arrived,
            last_flight_s=self._flights.last_s,
            lowest_memory_bytes=lowest,
            highest_memory_bytes=highest,
            presence=self._presence(),
        )

    def _presence(self) -> Callable[[slice], Presence] | None:
        if self._comings is None:
            population = self._population
            if population.charges is not None:
                # What flights drain decides who is online, and what was once is not asked again.
                return None
            found = asked_presence(population.availability, population.num_devices, self._at_s)
            return None if found is None else found.part
        for _ in self._comings.until(self._at_s):
            pass
        return self._comings.presence


class _Range:
    """The least and the most of what was added, device by device: `ends`, None as long as that is nothing."""

    def __init__(self) -> None:
        self.ends: tuple[Integers, Integers] | None = None
        self._latest: Integers | None = None

    def add(self, memory_bytes: Integers) -> None:
        # Memory that moves by steps is one array until the next.
        if memory_bytes is self._latest:
            return
        self._latest = memory_bytes
        if self.ends is None:
            self.ends = memory_bytes.copy(), memory_bytes.copy()
            return
        lowest, highest = self.ends
        np.minimum(lowest, memory_bytes, out=lowest)
        np.maximum(highest, memory_bytes, out=highest)


class _Tables:
    """A column of counts for each name that comes up."""

    def __init__(self, num_devices: int) -> None:
        self._num_devices = num_devices
        self.by_name: dict[str, Counts] = {}

    def add(self, name: str, devices: Integers) -> None:
        """Count some devices, each once."""
        column = self._column(name)
        if len(devices) < self._num_devices // 8:
            column[devices] += 1
            return
        # Of many devices adding flags is faster than adding by number.
        is_one = np.zeros(self._num_devices, np.bool_)
        is_one[devices] = True
        np.add(column, is_one, out=column)

    def add_counts(self, name: str, counts: Counts) -> None:
        """Add a count of every device."""
        if counts.any():
            column = self._column(name)
            np.add(column, counts, out=column)

    def add_each(self, name: str, devices: Integers) -> None:
        """Count some devices, as often as each is named."""
        np.add.at(self._column(name), devices, np.int32(1))

    def _column(self, name: str) -> Counts:
        if name not in self.by_name:
            self.by_name[name] = np.zeros(self._num_devices, np.int32)
        return self.by_name[name]


class _FlightCounts:
    """How the flights of every device ended, and when the last of them did."""

    def __init__(self, num_devices: int) -> None:
        self.arrived: Counts = np.zeros(num_devices, np.int32)
        self.last_s: Floats = np.full(num_devices, np.nan)
        self.dropped = _Tables(num_devices)
        self._devices: list[int] = []
        self._ended_s: list[float] = []
        self._outcomes: list[tuple[str, str]] = []

    def add(self, rows: FlightRows) -> None:
        cells = rows.cells
        self._devices += cells["device"]
        self._ended_s += cells["ended_s"]
        self._outcomes += zip(cells["outcome"], cells["reason"], strict=True)
        if len(self._devices) >= FEW_FLIGHTS:
            self.work_out()

    def work_out(self) -> None:
        """Count those that were held."""
        devices, outcomes = np.array(self._devices, np.int64), self._outcomes
        np.fmax.at(self.last_s, devices, np.array(self._ended_s, np.float64))
        numbers = {outcome: number for number, outcome in enumerate(dict.fromkeys(outcomes))}
        which = np.array([numbers[outcome] for outcome in outcomes], np.int64)
        for (kind, reason), number in numbers.items():
            those = devices[which == number]
            if kind == ARRIVED:
                np.add.at(self.arrived, those, np.int32(1))
            else:
                self.dropped.add_each(cause_of(kind, reason), those)
        self._devices, self._ended_s, self._outcomes = [], [], []
