"""Measured throughput as a table: `trace,t_s,mbps`, or two columns of time and rate with one trace per file.

FCC's Measuring Broadband America, the 3G commutes of H. Riiser et al. (MMSys 2013) and Oboe's sessions (Z. Akhtar
et al., SIGCOMM 2018) are shared in these forms. Neither says when the last rate ends; an option does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from neulite_sim.bounds import Duration
from neulite_sim.outside import number_or_nan
from neulite_sim.registry import Component, Options
from neulite_sim.traces.importers.contract import Cells, Imported, ReadForeign, counted, label_of, read_csv, refused
from neulite_sim.traces.intervals import LAST_S, TICKS_PER_SECOND, TOO_LATE, TOO_SHORT
from neulite_sim.units import BITS_PER_SECOND

HEADER = ("trace", "t_s", "bits_per_second")
# What the last column may be called, and its unit. Case matters: b is a bit and B is a byte, eight of them. What is
# written in small letters throughout (mbps) is bits, as in the files that others share.
_POWERS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
_BITS = ("bps", "bit/s", "bits/s", "b/s", "bitps", "bits_per_second")
_BYTES = ("Bps", "B/s", "byte/s", "bytes/s", "Byte/s", "Bytes/s", "bytes_per_second")
RATE_UNITS = {
    **{power + name: scale for power, scale in _POWERS.items() for name in _BITS},
    **{power + name: 8 * scale for power, scale in _POWERS.items() for name in _BYTES},
    "mbps": 1e6,
    "gbps": 1e9,
}
_TIMES = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "milliseconds": 1e-3, "us": 1e-6, "min": 60.0, "h": 3600.0}
_OTHER_TIMES = {"msec", "millis", "usec", "microseconds", "ns", "nanoseconds", "minutes", "minute", "hours", "hour",
                "hr", "d", "day", "days"}  # fmt: skip


class ThroughputOptions(Options):
    """What the numbers of the table mean."""

    unit: Literal["bps", "kbps", "Mbps", "Gbps"] | None = None
    """Unit of the rates; that which the header of the last column names (mbps), or Mbps without a header."""
    holds: Literal["until-next", "since-last"] = "until-next"
    """Whether a rate holds from its line until the next, or was measured since the line before."""
    last: Duration | None = None
    """How long the last rate of a trace holds; as long as its median line where it is not given."""


def _is_name(cell: str) -> bool:
    """Return whether a cell begins as a word does, and is no number."""
    return cell[:1].isalpha() and cell.lower() not in ("nan", "inf", "infinity", "true", "false")


@dataclass(slots=True)
class _Lines:
    at_s: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


def _read(options: ThroughputOptions, paths: Sequence[Path]) -> Imported:
    if options.holds == "since-last" and options.last is not None:
        raise refused(paths[0], "last acts only with holds until-next: since-last has no rate after the last line")
    traces: dict[str, _Lines] = {}
    for path in paths:
        found = _traces(path, options)
        for label in found.keys() & traces.keys():
            raise refused(path, f"has a trace {label!r} as an earlier file has; rename one")
        traces |= found
    rows: list[Cells] = []
    short, silent = [], []
    for label, lines in traces.items():
        made = _made(label, lines, options)
        if not made:
            short.append(label)
        elif not any(rate for _, _, rate in made[:-1]):
            silent.append(label)
        else:
            rows += made
    if not rows:
        raise refused(paths[0], "holds no trace with two lines and a rate above 0")
    notes = [f"{counted(len(traces) - len(short) - len(silent), 'trace')}; a rate holds {options.holds}"]
    if options.holds == "until-next":
        notes.append(f"the last rate of a trace holds for {f'{options.last:g} s' if options.last else 'a median line'}")
    if short:
        notes.append(f"{counted(len(short), 'trace')} of a single line left out, the first: {short[0]}")
    if silent:
        notes.append(f"{counted(len(silent), 'trace')} without a rate above 0 left out, the first: {silent[0]}")
    facts = {"too_short": len(short), "without_rate": len(silent)}
    return Imported(kind="throughput", header=HEADER, rows=rows, notes=tuple(notes), facts=facts)


def _made(label: str, lines: _Lines, options: ThroughputOptions) -> list[tuple[str, float, float | str]]:
    """Return the lines of one trace in the project's own format; none where it has no length."""
    at_s, rates = lines.at_s, lines.rates
    if options.holds == "since-last":
        # The first line only says where the second begins to count.
        at_s, rates, end_s = at_s[:-1], rates[1:], at_s[-1]
    elif options.last is not None:
        end_s = at_s[-1] + options.last
    else:
        end_s = at_s[-1] + float(np.median(np.diff(at_s))) if len(at_s) > 1 else at_s[-1]
    if not rates or end_s <= at_s[-1]:
        return []
    return [*((label, t_s, rate) for t_s, rate in zip(at_s, rates, strict=True)), (label, end_s, "")]


def _traces(path: Path, options: ThroughputOptions) -> dict[str, _Lines]:
    """Return the traces of one file, times ascending, rates in bits per second."""
    rows = read_csv(path, blank=True)
    if not rows:
        raise refused(path, "is empty; expected lines of trace,t_s,mbps or of a time and a rate")
    width = len(rows[0][1])
    if width not in (2, 3):
        raise refused(path, f"has {width} columns; expected trace,t_s,mbps or a time and a rate", rows[0][0])
    # A header is a line without any number: a damaged first line of numbers is none.
    first = rows[0][1]
    has_header = all(_is_name(cell) for cell in first[-2:])
    factor = _factor(path, first[-1] if has_header else None, options)
    seconds = _seconds_per_unit(path, first[-2]) if has_header else 1.0
    found: dict[str, _Lines] = {}
    for line, cells in rows[1 if has_header else 0 :]:
        if len(cells) != width:
            raise refused(path, f"has {len(cells)} columns where the first line has {width}", line)
        label = label_of(path, cells[0] if width == 3 else path.name, line)
        at_s, rate = number_or_nan(cells[-2]) * seconds, number_or_nan(cells[-1])
        if not at_s >= 0:
            raise refused(path, f"time {cells[-2]!r} is not a number of seconds from 0 up", line)
        if at_s > LAST_S:
            raise refused(path, f"time {cells[-2]!r} {TOO_LATE}", line)
        if not 0 <= rate * factor < 1e18:
            raise refused(path, f"rate {cells[-1]!r} is not a number from 0 up", line)
        lines = found.setdefault(label, _Lines())
        if lines.at_s and at_s <= lines.at_s[-1]:
            raise refused(path, f"time {at_s:.13g} of {label!r} is not after {lines.at_s[-1]:.13g}; times ascend", line)
        if lines.at_s and at_s - lines.at_s[-1] < 1 / TICKS_PER_SECOND:
            raise refused(path, f"the time to {cells[-2]!r} {TOO_SHORT}", line)
        lines.at_s.append(at_s)
        lines.rates.append(rate * factor)
    return found


def _factor(path: Path, name: str | None, options: ThroughputOptions) -> float:
    """Return how many bits per second a rate of 1 is: as the option says, else the header, else Mbps."""
    if options.unit is not None:
        return BITS_PER_SECOND[options.unit]
    if name is None:
        return BITS_PER_SECOND["Mbps"]
    if name not in RATE_UNITS:
        units = ", ".join(unit for unit in BITS_PER_SECOND if unit[0] != "K")
        wish = f"set unit to one of {units}, or spell it as Mbps (bits) or MB/s (bytes)"
        raise refused(path, f"its last column {name[:40]!r} names no unit; {wish}", 1)
    return RATE_UNITS[name]


def _seconds_per_unit(path: Path, name: str) -> float:
    """Return how long a time of 1 is, by the unit that the name of its column ends in; seconds where it has none."""
    unit = re.split(r"[^A-Za-z]+", name.strip(" )]"))[-1]
    if unit in _TIMES:
        return _TIMES[unit]
    if unit.lower() in _OTHER_TIMES:
        raise refused(path, f"its time column {name[:40]!r} is in {unit}; write seconds, as t_s", 1)
    return 1.0


def _build(options: ThroughputOptions) -> ReadForeign:
    return lambda paths: _read(options, paths)


COMPONENT = Component(
    kind="throughput-csv",
    summary="lines of trace,t_s,mbps, or of a time and a rate with one trace per file: FCC, Norway 3G, Oboe",
    source="FCC Measuring Broadband America; Riiser et al., MMSys 2013; Akhtar et al., Oboe, SIGCOMM 2018",
    options=ThroughputOptions,
    build=_build,
)
