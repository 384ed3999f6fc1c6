"""Individuals: a table of real devices from which those of a group are drawn, memory, speed and link together.

    model,memory_bytes,speed_factor,downlink_bits_per_second,uplink_bits_per_second,weight
    Xiaomi Redmi 5A,2147483648,0.31,20e6,5e6,1

`model` is any label; any one of the other columns may be missing, but not all. `speed_factor` is relative to the
group's device: 2 computes in half the time. A row is drawn with a probability in proportion to its `weight`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neulite_sim.arrays import Floats, Integers
from neulite_sim.errors import ScenarioError
from neulite_sim.outside import plain_numbers
from neulite_sim.traces.tables import Table, TraceKind, first_problems, problem, read_table

LABEL = "model"
QUANTITIES = ("memory_bytes", "speed_factor", "downlink_bits_per_second", "uplink_bits_per_second")
WEIGHT = "weight"
COLUMNS = (LABEL, *QUANTITIES, WEIGHT)
KIND = TraceKind(
    name="devices",
    noun="table of devices",
    key="path",
    form=f"a CSV file with the columns {LABEL} and any of {', '.join((*QUANTITIES, WEIGHT))}",
)
# The least and the most that a number may be. One exbibyte is far above any device, and inside int64.
_LIMITS = {
    "memory_bytes": (1.0, 2.0**60),
    "speed_factor": (1e-9, 1e9),
    "downlink_bits_per_second": (1.0, 1e18),
    "uplink_bits_per_second": (1.0, 1e18),
    WEIGHT: (0.0, 1e15),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredDevices:
    """Columns over the rows of a table, float64 `[R]`; those that the file has, all above 0."""

    models: tuple[str, ...]
    columns: Mapping[str, Floats]
    weight: Floats

    def draw(self, count: int, rng: np.random.Generator) -> Integers:
        """Return the row of each of `count` devices, int64 `[count]`, drawn by weight with replacement."""
        rows: Integers = rng.choice(len(self.weight), size=count, p=self.weight / self.weight.sum())
        return rows


def read_individuals(path: Path, key: str = KIND.key) -> MeasuredDevices:
    """Return the table in a CSV file, or in a gzipped one (`.gz`); `key` is what messages call the path.

    Raises:
        DataNotFoundError: there is no such file, or it cannot be read.
        ScenarioError: the file is not such a table; the problems name their lines.
    """
    kind = dataclasses.replace(KIND, key=key)
    table = read_table(path, kind)
    _check_header(table, path, kind)
    width = len(table.header)
    problems = [
        problem(kind, path, line, f"{','.join(cells)!r} is not {','.join(table.header)}")
        for line, cells in table.rows
        if len(cells) != width
    ]
    whole = [(line, cells) for line, cells in table.rows if len(cells) == width]
    columns: dict[str, Floats] = {}
    for place, name in enumerate(table.header):
        if name == LABEL:
            continue
        least, most = _LIMITS[name]
        columns[name] = np.array(plain_numbers([cells[place] for _, cells in whole]))
        for at in np.flatnonzero(~((columns[name] >= least) & (columns[name] <= most))):
            line, cells = whole[at]
            wish = f"is not a number from {least:g} to {most:.3g}"
            problems.append(problem(kind, path, line, f"{name} {cells[place]!r} {wish}"))
    if problems:
        raise ScenarioError(first_problems(problems, kind, path))
    weight = columns.pop(WEIGHT, np.ones(len(whole)))
    if not weight.sum() > 0:
        what = "all weights are 0" if len(whole) else "holds no device"
        raise ScenarioError([problem(kind, path, table.header_line, f"{what}; expected {kind.form}")])
    label = table.header.index(LABEL)
    return MeasuredDevices(models=tuple(cells[label] for _, cells in whole), columns=columns, weight=weight)


def _check_header(table: Table, path: Path, kind: TraceKind) -> None:
    header = table.header
    strange = [name for name in header if name not in COLUMNS]
    if strange or len(set(header)) != len(header) or LABEL not in header:
        found = ",".join(header) or "nothing"
        message = f"the header is {found!r}; write {LABEL} and any of {', '.join(COLUMNS[1:])}"
        raise ScenarioError([problem(kind, path, table.header_line, message)])
    if not set(QUANTITIES) & set(header):
        message = f"has none of the columns {', '.join(QUANTITIES)}; a table of devices needs at least one"
        raise ScenarioError([problem(kind, path, table.header_line, message)])
    if ("downlink_bits_per_second" in header) != ("uplink_bits_per_second" in header):
        message = "has one of downlink_bits_per_second and uplink_bits_per_second; write both or none"
        raise ScenarioError([problem(kind, path, table.header_line, message)])
