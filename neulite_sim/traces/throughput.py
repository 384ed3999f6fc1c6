"""Throughput read from a file: a CSV table of rates, each holding until the next line of its trace.

    trace,t_s,bits_per_second
    bus-1,0,4000000
    bus-1,2.5,0
    bus-1,3,2500000
    bus-1,10,

The last line of a trace has no rate: it is the end. Times count from the trace's first line and ascend; lines of
several traces may be mixed.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.outside import plain_numbers
from neulite_sim.traces.intervals import LAST_S, TICKS_PER_SECOND, TOO_LATE, TOO_SHORT
from neulite_sim.traces.steps import Steps, steps
from neulite_sim.traces.tables import TraceKind, first_problems, problem, read_table

MOST_BITS_PER_SECOND = 1e18
LEAST_BITS_PER_SECOND = 1.0
"""What a trace must carry on average; with less, a transfer would outlast any clock."""
HEADER = ("trace", "t_s", "bits_per_second")
KIND = TraceKind(
    name="throughput",
    noun="throughput trace",
    key="path",
    form="a CSV file with the header trace,t_s,bits_per_second whose rates hold until the next line",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputFile:
    """The traces of a file and their labels, in the order in which the file first names them."""

    labels: tuple[str, ...]
    traces: tuple[Steps, ...]


def read_throughput(path: Path, key: str = KIND.key) -> ThroughputFile:
    """Return the traces in a CSV file, or in a gzipped one (`.gz`); `key` is what messages call the path.

    Raises:
        DataNotFoundError: there is no such file, or it cannot be read.
        ScenarioError: the file is not such a table; the problems name their lines.
    """
    kind = TraceKind(name=KIND.name, noun=KIND.noun, key=key, form=KIND.form)
    table = read_table(path, kind)
    if table.header != HEADER:
        found = ",".join(table.header) or "nothing"
        wish = f"or turn the table into such a file: neulite-sim traces import throughput-csv {shlex.quote(str(path))}"
        message = f"the header is {found!r}; write {','.join(HEADER)}, {wish}"
        raise ScenarioError([problem(kind, path, table.header_line, message)])
    open_traces: dict[str, _Open] = {}
    problems: list[Problem] = []
    whole = [(line, cells) for line, cells in table.rows if len(cells) == len(HEADER) and cells[0]]
    # Whole columns at a time are several times as fast; the end of a trace has no rate.
    numbers = iter(
        zip(
            plain_numbers([cells[1] for _, cells in whole]),
            plain_numbers([cells[2] or "0" for _, cells in whole]),
            strict=True,
        )
    )
    for line, cells in table.rows:
        if len(cells) != len(HEADER) or not cells[0]:
            wrong = f"{','.join(cells)!r} is not {','.join(HEADER)}"
        else:
            wrong = open_traces.setdefault(cells[0], _Open()).take(line, cells[1], cells[2], next(numbers))
        if wrong:
            problems.append(problem(kind, path, line, wrong))
    for label, found_trace in open_traces.items():
        wrong = found_trace.unfinished(label) if not problems else ""
        if wrong:
            problems.append(problem(kind, path, found_trace.line, wrong))
    if problems:
        raise ScenarioError(first_problems(problems, kind, path))
    if not open_traces:
        raise ScenarioError([problem(kind, path, table.header_line, f"holds no rate; expected {kind.form}")])
    made = tuple(steps(np.array(found.at_s), np.array(found.rates)) for found in open_traces.values())
    return ThroughputFile(labels=tuple(open_traces), traces=made)


class _Open:
    """A trace as far as its lines have been read."""

    def __init__(self) -> None:
        self.at_s: list[float] = []
        self.rates: list[float] = []
        self.line = 0
        self._is_ended = False

    def take(self, line: int, at: str, rate: str, numbers: tuple[float, float]) -> str:
        """Add one line, as text and as numbers; return what is wrong with it, or nothing."""
        previous, self.line = self.line, line
        at_s, bits_per_second = numbers
        if not at_s >= 0:
            return f"t_s {at!r} is not a number of seconds from 0 up"
        if at_s > LAST_S:
            return f"t_s {at!r} {TOO_LATE}"
        if not bits_per_second >= 0:
            return f"bits_per_second {rate!r} is not a rate of 0 or more"
        if bits_per_second > MOST_BITS_PER_SECOND:
            return f"bits_per_second {rate!r} is above {MOST_BITS_PER_SECOND:.0e}, the most that is read"
        if self._is_ended:
            return f"follows the end of its trace, line {previous}; only a trace's last line has no rate"
        if self.at_s and at_s <= self.at_s[-1]:
            return f"t_s {at_s:.13g} is not after {self.at_s[-1]:.13g} of line {previous}; the times of a trace ascend"
        if self.at_s and at_s - self.at_s[-1] < 1 / TICKS_PER_SECOND:
            return f"the time from {self.at_s[-1]:.16g} s on line {previous} to {at_s:.16g} s {TOO_SHORT}"
        self.at_s.append(at_s)
        if rate:
            self.rates.append(bits_per_second)
        else:
            self._is_ended = True
        return ""

    def unfinished(self, label: str) -> str:
        """Return what is missing at the end of the file, or nothing."""
        if not self._is_ended:
            return f"trace {label!r} has no end; add a last line {label},T, with the time T and no rate"
        if not any(self.rates):
            return f"trace {label!r} carries nothing: it has no rate above 0; leave it out"
        mean = float(np.diff(self.at_s) @ self.rates) / (self.at_s[-1] - self.at_s[0])
        if mean < LEAST_BITS_PER_SECOND:
            return (
                f"trace {label!r} carries {mean:.3g} bits per second on average; at least {LEAST_BITS_PER_SECOND:g} is "
                "needed"
            )
        return ""
