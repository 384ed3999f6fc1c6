"""The memory of a fleet and what its submodels need: who stands where at the memory wall.

Both stand in the table of devices. Of a run without one the memory is drawn again from the scenario, which gives what
the run had: the fleet depends on nothing but its section and the seed. It is believed only where it agrees with every
flight that is asked. Needs then come from the flights; those of a submodel that nobody could hold from what its devices
lacked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from neulite_sim.arrays import Integers
from neulite_sim.errors import NeuliteError
from neulite_sim.reports.html.devices import Devices
from neulite_sim.reports.html.run_story import Flown
from neulite_sim.results.places import SCENARIO


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Available bytes of every device, ascending; None with the reason in `why` where nobody knows.

    `holders` says how many devices hold a submodel where that is more than comparing with one need.
    """

    available: Integers | None
    moves: bool = False
    why: str = ""
    holders: Mapping[str, int] = field(default_factory=dict)

    def fitting(self, submodel: str, need: int) -> int:
        """Return how many devices hold a submodel that needs so many bytes at least."""
        assert self.available is not None
        if submodel in self.holders:
            return self.holders[submodel]
        return len(self.available) - int(np.searchsorted(self.available, need))


def kept_memory(devices: Devices) -> Memory:
    """Return the memory of the fleet in a table of devices."""
    holders = {name: need.holders for name, need in devices.needs.items()}
    return Memory(available=np.sort(devices.available), moves=devices.moves, holders=holders)


def drawn_memory(run_dir: Path, flown: Flown) -> Memory:
    """Return the memory of a run's fleet at its start."""
    from neulite_sim.population.sampling import draw_fleet
    from neulite_sim.scenario.loading import load_scenario

    try:
        scenario = load_scenario(str(run_dir / SCENARIO))
        fleet = draw_fleet(scenario.population, scenario.seed).population
    except NeuliteError as error:
        first = error.what.partition("\n")[0].removeprefix(f"{run_dir / SCENARIO}: ")
        return Memory(available=None, why=f"the fleet cannot be drawn again here ({first})")
    available = fleet.available_memory_bytes
    moves = fleet.memory_motion is not None
    if not moves and any(int(available[device]) != seen for device, seen in flown.seen_memory.items()):
        return Memory(available=None, why="this version draws another fleet from the scenario than the run had")
    return Memory(available=np.sort(available), moves=moves)


def needs_of(flown: Flown, shortfalls: Mapping[str, tuple[int, int]], memory: Memory) -> dict[str, int]:
    """Return the least bytes that each known submodel needs, the smallest need first."""
    needs = {name: least for name, (least, _) in flown.peaks.items()}
    for name, (least, most) in shortfalls.items():
        found = _need(least, most, memory) if name not in needs else None
        if found is not None:
            needs[name] = found
    return dict(sorted(needs.items(), key=lambda need: (need[1], need[0])))


def _need(least: int, most: int, memory: Memory) -> int | None:
    """Return the one need that some device misses by `least` and another by `most`; None where several could be it."""
    if memory.available is None or memory.moves:
        return None
    found = np.intersect1d(memory.available + least, memory.available + most)
    return int(found[0]) if len(found) == 1 else None
