"""Measured throughput as a table: `trace,t_s,mbps`, or two columns of time and rate with one trace per file.

FCC's Measuring Broadband America, the 3G commutes of H. Riiser et al. (MMSys 2013) and Oboe's sessions (Z. Akhtar
et al., SIGCOMM 2018) are shared in these forms. Neither says when the last rate ends; an option does.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from neulite_sim.bounds import Duration
from neulite_sim.population.importers.contract import Imported, Reader, Row, counted, number, read_text, refused
from neulite_sim.registry import Component, Options
from neulite_sim.units import BITS_PER_SECOND

HEADER = ("trace", "t_s", "bits_per_second")
# What the last column may be called, and its unit.
_UNITS = {unit.lower(): factor for unit, factor in BITS_PER_SECOND.items()} | {"bits_per_second": 1.0}


class ThroughputOptions(Options):
    """What the numbers of the table mean."""

    unit: Literal["bps", "kbps", "Mbps", "Gbps"] | None = None
    """Unit of the rates; that which the header of the last column names (mbps), or Mbps without a header."""
    holds: Literal["until-next", "since-last"] = "until-next"
    """Whether a rate holds from its line until the next, or was measured since the line before."""
    last: Duration | None = None
    """How long the last rate of a trace holds; as long as its median line where it is not given."""


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
    rows: list[Row] = []
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
    rows = _rows(path)
    if not rows:
        raise refused(path, "is empty; expected lines of trace,t_s,mbps or of a time and a rate")
    width = len(rows[0][1])
    if width not in (2, 3):
        raise refused(path, f"has {width} columns; expected trace,t_s,mbps or a time and a rate", rows[0][0])
    has_header = not np.isfinite(number(rows[0][1][-1]))
    factor = _factor(path, rows[0][1][-1] if has_header else None, options)
    found: dict[str, _Lines] = {}
    for line, cells in rows[1 if has_header else 0 :]:
        if len(cells) != width:
            raise refused(path, f"has {len(cells)} columns where the first line has {width}", line)
        label = cells[0] if width == 3 else path.name
        at_s, rate = number(cells[-2]), number(cells[-1])
        if not 0 <= at_s < 1e12:
            raise refused(path, f"time {cells[-2]!r} is not a number of seconds from 0 up", line)
        if not 0 <= rate * factor < 1e18:
            raise refused(path, f"rate {cells[-1]!r} is not a number from 0 up", line)
        lines = found.setdefault(label, _Lines())
        if lines.at_s and at_s <= lines.at_s[-1]:
            raise refused(path, f"time {at_s:g} of {label!r} is not after {lines.at_s[-1]:g}; times ascend", line)
        lines.at_s.append(at_s)
        lines.rates.append(rate * factor)
    return found


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return the lines that are not empty: split at commas, or at spaces and tabs where there is no comma."""
    lines = read_text(path).splitlines()
    if not any("," in line for line in lines[:1]):
        return [(line, text.split()) for line, text in enumerate(lines, start=1) if text.strip()]
    reader = csv.reader(lines)
    try:
        return [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if cells]
    except csv.Error as error:
        raise refused(path, f"is not a CSV table ({error})", reader.line_num) from None


def _factor(path: Path, name: str | None, options: ThroughputOptions) -> float:
    if options.unit is not None:
        return BITS_PER_SECOND[options.unit]
    if name is None:
        return BITS_PER_SECOND["Mbps"]
    if name.lower() not in _UNITS:
        units = ", ".join(unit for unit in BITS_PER_SECOND if unit[0] != "K")
        raise refused(path, f"its last column {name[:40]!r} names no unit; set unit to one of {units}", 1)
    return _UNITS[name.lower()]


def _build(options: ThroughputOptions) -> Reader:
    return lambda paths: _read(options, paths)


COMPONENT = Component(
    kind="throughput-csv",
    summary="lines of trace,t_s,mbps, or of a time and a rate with one trace per file: FCC, Norway 3G, Oboe",
    source="FCC Measuring Broadband America; Riiser et al., MMSys 2013; Akhtar et al., Oboe, SIGCOMM 2018",
    options=ThroughputOptions,
    build=_build,
)
