"""AI-Benchmark's table of phones as a joint distribution of memory and speed.

A. Ignatov et al., "AI Benchmark: All About Deep Learning on Smartphones in 2019", ICCV Workshops 2019. A line is a
phone with its RAM and scores; a higher score is a faster phone. Phones with little memory are slow phones, which two
independent draws would lose.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from pathlib import Path

from neulite_sim.bounds import Name
from neulite_sim.errors import close_matches
from neulite_sim.outside import number_or_nan
from neulite_sim.registry import Component, Options
from neulite_sim.traces.importers.contract import Imported, ReadForeign, counted, only, read_csv, refused
from neulite_sim.units import BYTES

MOST = 2.0**60
MISSING = ("", "-", "n/a", "na")
"""What stands in a table where nothing is known."""


class BenchmarkOptions(Options):
    """Which columns of the table are taken."""

    speed: Name = "CPU_F_AI_Score"
    """Column with the speed, higher is faster; the CPU's score in 32-bit floats, in which training computes."""
    memory: Name = "ram_bytes"
    """Column with the installed memory: in bytes, or in the unit that its name ends in, such as ram_gb."""
    reference: Name | None = None
    """Model whose speed is `speed_factor` 1; the median of the table where it is not given."""


def _read(options: BenchmarkOptions, paths: Sequence[Path]) -> Imported:
    path = only(paths, "a table of phones")
    phones = _phones(path, options)
    right = [(model, memory, speed) for model, memory, speed in phones if memory > 0 and speed > 0]
    if not right:
        raise refused(path, f"none of its {counted(len(phones), 'phone')} has memory and speed above 0")
    reference = _reference(path, right, options.reference)
    rows = [(model, round(memory), speed / reference) for model, memory, speed in right]
    left_out = len(phones) - len(right)
    whose = options.reference or "the median phone"
    notes = [f"speed_factor 1 is {options.speed} {reference:g}, {whose}"]
    if left_out:
        notes.append(f"{counted(left_out, 'phone')} left out: no memory or no speed")
    return Imported(
        kind="devices",
        header=("model", "memory_bytes", "speed_factor"),
        rows=rows,
        notes=tuple(notes),
        facts={"reference_score": reference, "left_out": left_out},
    )


def _phones(path: Path, options: BenchmarkOptions) -> list[tuple[str, float, float]]:
    """Return model, memory in bytes and speed of each line; NaN where it gives none."""
    (line, header), *rows = read_csv(path) or [(1, [])]
    columns = ("model", options.memory, options.speed)
    for column in columns:
        if header.count(column) != 1:
            near = close_matches(column, header)
            names = ", ".join(header)[:300] or "none"
            how = "no" if column not in header else "more than one"
            raise refused(path, f"has {how} column {column!r}{near} (columns: {names})", line)
    model, memory, speed = (header.index(column) for column in columns)
    factor = _bytes_per_unit(options.memory)
    phones = []
    for number, cells in rows:
        if len(cells) != len(header):
            raise refused(path, f"has {len(cells)} columns where the header has {len(header)}", number)
        values = [_number(path, header[place], cells[place], number) for place in (memory, speed)]
        phones.append((cells[model], values[0] * factor, values[1]))
    return phones


def _number(path: Path, column: str, cell: str, line: int) -> float:
    """Return a number, NaN where the table has none.

    Raises:
        ScenarioError: the cell holds something else.
    """
    found = number_or_nan(cell)
    if cell.lower() in MISSING:
        return math.nan
    if not 0 <= found < MOST:
        wish = f"is not a number from 0 to {MOST:.3g}; leave it empty where it is not known"
        raise refused(path, f"{column} {cell[:40]!r} {wish}", line)
    return found


def _bytes_per_unit(column: str) -> float:
    """Return how many bytes the unit is that a column's name ends in; bytes where it has none."""
    unit = re.split(r"[^A-Za-z]+", column.strip(" )]"))[-1]
    return float({name.lower(): size for name, size in BYTES.items()}.get(unit.lower(), 1))


def _reference(path: Path, phones: Sequence[tuple[str, float, float]], model: str | None) -> float:
    if model is None:
        return statistics.median(speed for _, _, speed in phones)
    found = [speed for name, _, speed in phones if name == model]
    if not found:
        near = close_matches(model, {name for name, _, _ in phones})
        raise refused(path, f"reference {model!r} is none of its {counted(len(phones), 'phone')}{near}")
    return statistics.median(found)


def _build(options: BenchmarkOptions) -> ReadForeign:
    return lambda paths: _read(options, paths)


COMPONENT = Component(
    kind="ai-benchmark",
    summary="AI-Benchmark's table of phones: installed memory and speed together",
    source="Ignatov et al., AI Benchmark, ICCV Workshops 2019, https://ai-benchmark.com",
    options=BenchmarkOptions,
    build=_build,
)
