"""A matrix of availability: one string of slots per device, `1` online, `0` offline, `-` unknown.

The half-hours of 723 phones that others derived from FLASH's traces have this form. What is unknown was not observed:
a phone that was not yet part of the study is not a phone that was offline.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.registry import Component, Options
from neulite_sim.traces.importers.contract import (
    Cells,
    Imported,
    ReadForeign,
    availability_rows,
    counted,
    label_of,
    only,
    read_csv,
    refused,
)
from neulite_sim.units import DAY_S, Seconds

_MAX_PROBLEMS = 20


class MatrixOptions(Options):
    """How long a slot is, and what is made of slots that nobody observed."""

    slot: Annotated[Seconds, Field(ge=1, le=DAY_S)] = 1800.0
    """Length of a slot."""
    unknown: Literal["same-time", "leave-out", "offline", "online"] = "same-time"
    """What an unknown slot becomes: what the device did at the same time of the nearest day that is known (earlier
    before later; a device that is never known at some time of day is left out), a reason to leave the device out,
    offline, or online."""
    whole_days: bool = True
    """Whether slots after the last whole day are cut off, so that repetitions keep the time of day."""


def _read(options: MatrixOptions, paths: Sequence[Path]) -> Imported:
    path = only(paths, "a matrix")
    per_day = DAY_S / options.slot
    is_daily = options.unknown == "same-time" or options.whole_days
    if is_daily and per_day != int(per_day):
        message = f"slot {options.slot:g} s does not divide a day; set unknown=offline (or online) and whole_days=false"
        raise refused(path, message)
    found = _matrix(path)
    num_slots = len(next(iter(found.values())))
    kept = num_slots - num_slots % int(per_day) if options.whole_days else num_slots
    if not kept:
        raise refused(path, f"its {num_slots} slots of {options.slot:g} s are less than a day; set whole_days=false")
    rows: list[Cells] = []
    left_out = num_never = 0
    for device, slots in found.items():
        filled = _filled(slots[:num_slots], options.unknown, int(per_day))
        if filled is None:
            left_out += 1
            continue
        lines = availability_rows(device, _runs(filled[:kept], options.slot), kept * options.slot)
        num_never += lines[0][1] == ""
        rows += lines
    if not rows:
        raise refused(path, f"all {counted(len(found), 'device')} left out with unknown={options.unknown}")
    marks = Counter(itertools.chain.from_iterable(found.values()))
    unknown_share = marks["-"] / marks.total()
    notes = [f"{unknown_share:.1%} of the slots are unknown: {options.unknown}"]
    if kept < num_slots:
        notes.append(f"the last {counted(num_slots - kept, 'slot')} of {num_slots} cut off, to repeat in whole days")
    if left_out:
        notes.append(f"{counted(left_out, 'device')} of {len(found):,} left out: too little is known")
    if num_never:
        notes.append(f"{counted(num_never, 'device')} never online")
    facts = {"unknown_share": unknown_share, "left_out": left_out, "never_online": num_never}
    header = ("device", "start_s", "end_s", "period_s")
    return Imported(kind="availability", header=header, rows=rows, notes=tuple(notes), facts=facts)


def _matrix(path: Path) -> dict[str, str]:
    """Return the slots of each device, equally many."""
    found: dict[str, str] = {}
    problems: list[Problem] = []
    rows = read_csv(path)
    if rows and not set(rows[0][1][-1]) - set("01-"):
        raise refused(path, f"has no header but {','.join(rows[0][1])[:40]!r}; write device,slots above", rows[0][0])
    num_slots = len(rows[1][1][-1]) if len(rows) > 1 else 0
    for line, cells in rows[1:]:
        slots = cells[-1]
        strange = sorted(set(slots) - set("01-"))
        if len(cells) != 2 or not cells[0]:
            wrong = "is not a device and its slots, with a comma between"
        elif strange:
            wrong = f"has slots {' '.join(strange[:5])!r}; a slot is 1 (online), 0 (offline) or - (unknown)"
        elif len(slots) != num_slots or not slots:
            wrong = f"has {len(slots)} slots, the first device has {num_slots}; all must have the same number"
        elif (label := label_of(path, cells[0], line)) in found:
            wrong = f"is device {cells[0]!r} again; write each device once"
        else:
            found[label] = slots
            continue
        problems.append(Problem(key="", message=wrong, file=str(path), line=line))
    if problems:
        more = len(problems) - _MAX_PROBLEMS
        rest = [Problem(key="", message=f"and {more} more problems", file=str(path))] if more > 0 else []
        raise ScenarioError(problems[:_MAX_PROBLEMS] + rest)
    if not found:
        raise refused(path, "holds no device; expected a header line and lines such as 17,0011-0")
    return found


def _filled(slots: str, unknown: str, per_day: int) -> str | None:
    """Return the slots without unknown ones; None where the device is left out."""
    if "-" not in slots:
        return slots
    if unknown == "leave-out":
        return None
    if unknown != "same-time":
        return slots.replace("-", "1" if unknown == "online" else "0")
    return _same_time(slots, per_day)


def _same_time(slots: str, per_day: int) -> str | None:
    """Return the slots, each unknown one as at the same time of the nearest known day, earlier before later.

    None where a time of day is never known.
    """
    filled = list(slots)
    for first in range(min(per_day, len(slots))):
        column = slots[first::per_day]
        if "-" not in column:
            continue
        known = np.flatnonzero(np.frombuffer(column.encode("ascii"), np.uint8) != ord("-"))
        if not len(known):
            return None
        days = np.arange(len(column))
        after = np.searchsorted(known, days)
        earlier, later = known[np.maximum(after - 1, 0)], known[np.minimum(after, len(known) - 1)]
        nearest = np.where(np.abs(days - earlier) <= np.abs(later - days), earlier, later)
        filled[first::per_day] = [column[day] for day in nearest]
    return "".join(filled)


def _runs(slots: str, slot_s: float) -> list[tuple[float, float]]:
    """Return the intervals of slots online."""
    runs = []
    place = 0
    for state, group in itertools.groupby(slots):
        length = len(list(group))
        if state == "1":
            runs.append((place * slot_s, (place + length) * slot_s))
        place += length
    return runs


def _build(options: MatrixOptions) -> ReadForeign:
    return lambda paths: _read(options, paths)


COMPONENT = Component(
    kind="flash-matrix",
    summary="a string of slots per device (1 online, 0 offline, - unknown), such as half-hours derived from FLASH",
    source="the form of the half-hour table that others derived from Yang et al., FLASH, WWW 2021",
    options=MatrixOptions,
    build=_build,
)
