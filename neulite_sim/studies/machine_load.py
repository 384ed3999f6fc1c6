"""What else ran on this machine while something was timed on it: whether the seconds can be believed."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

MOST_OTHERS = 0.1
"""Share of the processors that others may keep busy; a desktop at rest takes a few hundredths."""
LEAST_OWN = 0.9
"""Seconds of processor per second: while it computes, at least one thread of this process runs all the time."""
MOST_SPREAD = 0.25
"""How much longer the slowest tenth of equal calls may take than the fastest; at rest it is a few hundredths."""
_IDLE = (3, 4)
"""Places of idle time and waiting for disks in a line of `/proc/stat` (man 5 proc_stat)."""
_NUM_TIMES = 8
"""Times after these are those of guests, which stand in the first ones as well."""
ROOT = Path("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineLoad:
    """What ran beside the measurements.

    `others` is how many of the `num_processors` that this process may use were busy with something else, on average;
    None where the system does not tell. `own` is how many seconds of processor this process took per second; None where
    something else computes for it, as a GPU.
    `spread` is how much longer equal calls took than the fastest of them, as a share: of the slowest tenth, and of
    what was timed the median. `load_average` is the system's, of the last minute before; None where it has none.
    """

    num_processors: int
    others: float | None
    own: float | None
    spread: float
    load_average: float | None

    @property
    def signs(self) -> tuple[str, ...]:
        """What says that the machine was busy, in words; empty where nothing does."""
        found = []
        if self.others is not None and self.others > MOST_OTHERS * self.num_processors:
            found.append(f"other programs kept {self.others:.1f} of {self.num_processors} processors busy")
        elif self.others is None and (self.load_average or 0) > max(0.5, MOST_OTHERS * self.num_processors):
            found.append(f"the load average was {self.load_average:.1f} before it began")
        if self.own is not None and self.own < LEAST_OWN:
            found.append(f"this process ran {self.own:.0%} of the time")
        if self.spread > MOST_SPREAD:
            found.append(f"equal steps took up to {self.spread:.0%} longer than the fastest")
        return tuple(found)

    def to_json(self) -> Mapping[str, object]:
        """Return plain values by name, with `busy` and its signs."""
        return {**asdict(self), "busy": bool(self.signs), "signs": list(self.signs)}


@dataclass(frozen=True, slots=True)
class Moment:
    """Three clocks at one moment: of the wall, of this process's threads, and of all work of its processors."""

    wall_s: float
    own_s: float
    busy_s: float | None

    @classmethod
    def now(cls, root: Path = ROOT) -> Moment:
        """Read them."""
        return cls(time.perf_counter(), time.process_time(), busy_processor_s(root))


@dataclass(slots=True)
class LoadWatch:
    """Gathers what the machine did while something was timed on it; made before the first of that.

    `computes_here` says whether this process itself computes.
    """

    computes_here: bool = True
    _busy_s: float | None = 0.0
    _wall_s: float = 0.0
    _own_s: float = 0.0
    _spreads: list[float] = field(default_factory=list)
    _load_average: float | None = None

    def __post_init__(self) -> None:
        """Ask for the load average now: later it is this process's own."""
        try:
            self._load_average = os.getloadavg()[0]
        except OSError:
            self._load_average = None

    def watched(self, seconds: Sequence[float], before: Moment, after: Moment) -> None:
        """Take note of equal calls that were timed between two moments."""
        told = (self._busy_s, before.busy_s, after.busy_s)
        self._busy_s = None if None in told else self._busy_s + after.busy_s - before.busy_s  # type: ignore[operator]
        self._wall_s += after.wall_s - before.wall_s
        self._own_s += after.own_s - before.own_s
        if len(seconds) > 1:
            self._spreads.append(float(np.quantile(seconds, 0.9) / max(min(seconds), 1e-9)) - 1)

    @property
    def load(self) -> MachineLoad:
        """What was seen so far."""
        wall_s = max(self._wall_s, 1e-9)
        return MachineLoad(
            num_processors=len(processors()),
            others=None if self._busy_s is None else max(0.0, self._busy_s - self._own_s) / wall_s,
            own=self._own_s / wall_s if self.computes_here else None,
            spread=float(np.median(self._spreads)) if self._spreads else 0.0,
            load_average=self._load_average,
        )


def processors() -> Sequence[int]:
    """Return the numbers of the processors that this process may use."""
    try:
        return sorted(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return range(os.cpu_count() or 1)


def busy_processor_s(root: Path = ROOT) -> float | None:
    """Return the seconds of work of this process's processors since they started, theft by other machines included.

    None where the system does not tell. `root` is where `/proc` is looked up.
    """
    wanted = {f"cpu{number}" for number in processors()}
    try:
        lines = [line.split() for line in (root / "proc/stat").read_text(encoding="ascii").splitlines()]
        found = [list(map(int, line[1:])) for line in lines if line and line[0] in wanted]
        ticks = os.sysconf("SC_CLK_TCK")
    except (AttributeError, OSError, ValueError):
        return None
    work = [sum(times[:_NUM_TIMES]) - sum(times[place] for place in _IDLE) for times in found if len(times) > _IDLE[-1]]
    # A sandbox may show processors that never do anything.
    return sum(work) / ticks if any(work) else None
