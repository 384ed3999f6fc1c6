"""What tests find over virtual time and rounds, such as accuracy: of a run, and the mean of the seeds of a group.

A seed that ended before the others keeps its last value from there on: that of the model it ended with. So the mean
goes on to the end of the longest seed, is of the same seeds everywhere, and never jumps because one of them ended;
where each did stands in `ends`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neulite_sim.arrays import Floats
from neulite_sim.results.stored import StoredRun

_MOST_OF_IT = 0.75
# Shares of the longest curve from where a curve counts as one that ended with the others.
TOGETHER_SHARE = 0.985


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanCurve:
    """What tests find over rounds or seconds; `low` and `high` are its limits over the seeds of a group."""

    at: Floats
    mean: Floats
    low: Floats
    high: Floats
    count: int
    """How many curves it is the mean of."""
    ends: Floats
    """Where curves end before the last one does, rising; empty where all end together (within 1.5 % of the longest)."""

    @property
    def has_band(self) -> bool:
        """Whether its curves differ anywhere."""
        return bool((self.high > self.low).any())

    def value_at(self, place: float) -> float:
        """Return the mean at a place between two tests."""
        return float(np.interp(place, self.at, self.mean))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """The tests of a run: rounds, virtual seconds and what was found, such as accuracies (0 to 1)."""

    rounds: Floats
    seconds: Floats
    values: Floats

    def __len__(self) -> int:
        return len(self.rounds)


def tested_rounds(run: StoredRun, column: str) -> Tested:
    """Return the tests of a run, with what a column has of each; those whose value is no number are left out.

    Raises:
        DataNotFoundError: rounds.csv is missing or damaged.
    """
    columns = np.array(run.curve(column), dtype=np.float64).reshape(-1, 3)
    columns = columns[np.isfinite(columns).all(axis=1)]
    return Tested(rounds=columns[:, 0], seconds=columns[:, 1], values=columns[:, 2])


def joined(curves: Sequence[tuple[Floats, Floats]]) -> MeanCurve | None:
    """Return the mean curve of several and its limits, from the latest start of them to the latest end.

    Each curve is a pair of places, rising, and values; between two tests it is taken as straight, and after its last
    as constant. None where one of them has no values.
    """
    if not curves or any(not len(at) for at, _ in curves):
        return None
    first, last = max(at[0] for at, _ in curves), max(at[-1] for at, _ in curves)
    places = np.unique(np.concatenate([at for at, _ in curves]))
    places = places[(places >= first) & (places <= last)]
    values = np.stack([np.interp(places, at, value) for at, value in curves])
    ends = np.array(sorted(at[-1] for at, _ in curves if at[-1] < TOGETHER_SHARE * last), dtype=np.float64)
    return MeanCurve(
        at=places, mean=values.mean(axis=0), low=values.min(axis=0), high=values.max(axis=0), count=len(curves),
        ends=np.maximum(ends, first),
    )  # fmt: skip


def coinciding(curves: Sequence[tuple[Floats, Floats] | None], *, tolerance: float) -> list[tuple[int, int]]:
    """Return of each curve its place among those it lies on, and how many those are; (0, 1) where it lies alone.

    Each curve is a pair of places, rising, and values. Two lie on each other where their values differ by at most
    `tolerance` over most of what they have in common.
    """
    groups: list[list[int]] = []
    for number, curve in enumerate(curves):
        home = next((group for group in groups if any(_lie_on(curve, curves[other], tolerance) for other in group)), [])
        home.append(number)
        if len(home) == 1:
            groups.append(home)
    place = {number: (rank, len(group)) for group in groups for rank, number in enumerate(group)}
    return [place[number] for number in range(len(curves))]


def _lie_on(one: tuple[Floats, Floats] | None, other: tuple[Floats, Floats] | None, tolerance: float) -> bool:
    if one is None or other is None or not len(one[0]) or not len(other[0]):
        return False
    first, last = max(one[0][0], other[0][0]), min(one[0][-1], other[0][-1])
    if first > last:
        return False
    places = np.linspace(first, last, 200)
    near = np.abs(np.interp(places, *one) - np.interp(places, *other)) <= tolerance
    return bool(near.mean() >= _MOST_OF_IT)
