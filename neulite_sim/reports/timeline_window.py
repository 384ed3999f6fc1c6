"""A few rounds of a run, read back from its folder: their aggregations, and every flight that was out meanwhile."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neulite_sim.errors import DataNotFoundError, Problem, ScenarioError
from neulite_sim.results.cells import FILES, scan_rows
from neulite_sim.results.rows import FlightRow, RoundRow
from neulite_sim.results.stored import require_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Consecutive rounds and the flights that were out between `start_s` and `end_s`, by number.

    `start_s` is the end of the round before, 0 where there is none. A flight that is aggregated in a later round, as
    asynchronous protocols have it, is among the flights and not `of` any round here.
    """

    run_dir: Path
    rounds: tuple[RoundRow, ...]
    flights: tuple[FlightRow, ...]
    start_s: float

    @property
    def end_s(self) -> float:
        """When the last of the rounds was aggregated."""
        return self.rounds[-1].virtual_time_s

    def of(self, number: int) -> list[FlightRow]:
        """Return the flights that were aggregated, or dropped, in a round."""
        return [row for row in self.flights if row.round == number]


def read_window(run_dir: Path, *, first: int = 1, count: int = 3) -> Window:
    """Return `count` rounds of a run from round `first` on, or as many as there are.

    Files are read no further than needed: a look at the beginning of a long run is short.

    Raises:
        ScenarioError: no such number of rounds, or no such first round.
        DataNotFoundError: the folder holds no rows, no round yet, or a table is damaged.
    """
    for key, value in (("--from", first), ("--rounds", count)):
        if value < 1:
            raise ScenarioError([Problem(key=key, message=f"must be at least 1, found {value}")])
    require_whole(run_dir, FILES[RoundRow], FILES[FlightRow])
    scanned = scan_rows(run_dir / FILES[RoundRow], RoundRow)
    rows = [RoundRow(**row) for row in itertools.islice(scanned, min(first - 1 + count, sys.maxsize))]
    if not rows:
        raise DataNotFoundError(
            f"{run_dir}: no round was aggregated (yet), so there is nothing to show",
            hint="summary.json or the console says why",
        )
    if len(rows) < first:
        finding = f"{first} is beyond the last round, {len(rows)}"
        hint = f"name a round from 1 to {len(rows)}"
        raise ScenarioError([Problem.advising(key="--from", found=finding, hint=hint)])
    start_s = rows[first - 2].virtual_time_s if first > 1 else 0.0
    rounds = tuple(rows[first - 1 :])
    flights = _flights(run_dir / FILES[FlightRow], rounds, start_s)
    return Window(run_dir=run_dir, rounds=rounds, flights=tuple(flights), start_s=start_s)


def _flights(path: Path, rounds: Sequence[RoundRow], start_s: float) -> list[FlightRow]:
    """Return the flights that were out during rounds, by number.

    Flights are numbered by dispatch and written when they have ended. Once one that left after the rounds is known,
    all that left before are known as soon as there are as many as its number says.
    """
    end_s, numbers = rounds[-1].virtual_time_s, {row.round for row in rounds}
    found: list[FlightRow] = []
    num_before, first_after = 0, None
    for cells in scan_rows(path, FlightRow):
        row = FlightRow(**cells)
        if row.round in numbers or (row.dispatched_s < end_s and row.ended_s > start_s):
            found.append(row)
        if row.dispatched_s < end_s:
            num_before += 1
        elif row.round not in numbers:
            first_after = min(row.flight, first_after or row.flight)
        if first_after is not None and num_before >= first_after - 1:
            break
    return sorted(found, key=lambda row: row.flight)
