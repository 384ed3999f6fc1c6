"""Berths: the columns of flights that are out, wherever they left from, in memory of the size of the most of them.

An asynchronous protocol takes in flights of many dispatches at a time. Each has a row here from its dispatch until it
is taken, so that those that are wanted together are picked from one table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neulite_sim.arrays import Repeated
from neulite_sim.profiling.cost import Costs
from neulite_sim.profiling.plans import Plan
from neulite_sim.timeline.columns import Flights, Outcomes
from neulite_sim.timeline.flights import Flight

_FLOATS = ("download_s", "compute_s", "upload_s")
_INTEGERS = ("devices", "peak_memory_bytes", "available_memory_bytes")
_ENDS = ("ended_s", "download_s", "compute_s", "upload_s")
_TEXTS = ("kinds", "reasons", "pauses")
_NOTHING = -1


class Berths:
    """Holds flights that end as they were planned, each at a place that is used again when it is taken."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._floats = np.zeros((0, 1 + len(_FLOATS) + len(_ENDS)))
        # Number, round and version, plan and owed bytes, then the costs.
        self._integers = np.zeros((0, 5 + len(_INTEGERS)), np.int64)
        self._texts: list[list[Any]] = [[] for _ in ("stage", "submodel", *_TEXTS)]
        self._plans: tuple[Plan, ...] = ()
        self._made: dict[int, Flight] = {}

    def put(self, flights: Flights) -> list[int]:
        """Take in flights, and return the place of each."""
        num, costs, planned = len(flights), flights.costs, flights.planned
        if len(self._free) < num:
            self._grow(num)
        places = self._free[-num:]
        del self._free[-num:]
        floats = [flights.dispatched_s, *(getattr(costs, name) for name in _FLOATS)]
        floats += [getattr(planned, name) for name in _ENDS]
        for place, column in enumerate(floats):
            self._floats[places, place] = _plain(column)
        owed = _NOTHING if costs.owed_bytes is None else costs.owed_bytes
        plans = costs.plan_index if costs.plans == self._plans else self._plan_numbers(costs)
        integers = [flights.numbers, flights.rounds, flights.versions, plans, owed]
        integers += [getattr(costs, name) for name in _INTEGERS]
        for place, column in enumerate(integers):
            self._integers[places, place] = _plain(column)
        texts = [flights.stages, costs.submodels, *(getattr(planned, name) for name in _TEXTS)]
        for held, texts_of in zip(self._texts, texts, strict=True):
            for place, text in zip(places, texts_of, strict=True):
                held[place] = text
        if made := flights.made:
            self._made |= {number: made[number] for number in flights.numbers if number in made}
        return places

    def take(self, places: Sequence[int]) -> Flights:
        """Return the flights at some places, and give these up."""
        floats, integers = self._floats[list(places)], self._integers[list(places)]
        stages, submodels, *texts = (_picked(held, places) for held in self._texts)
        numbers, rounds, versions = (integers[:, place].tolist() for place in range(3))
        owed = integers[:, 4]
        self._free += places
        after = 1 + len(_FLOATS)
        costs: dict[str, Any] = {name: floats[:, place] for place, name in enumerate(_FLOATS, start=1)}
        costs |= {name: integers[:, place] for place, name in enumerate(_INTEGERS, start=5)}
        planned: dict[str, Any] = {name: floats[:, place] for place, name in enumerate(_ENDS, start=after)}
        planned |= dict(zip(_TEXTS, texts, strict=True))
        return Flights(
            numbers=numbers,
            rounds=rounds,
            versions=versions,
            stages=stages,
            dispatched_s=floats[:, 0].tolist(),
            costs=Costs(
                submodels=submodels,
                plan_index=integers[:, 3].astype(np.int16),
                plans=self._plans,
                owed_bytes=None if (owed == _NOTHING).all() else np.maximum(owed, 0),
                **costs,
            ),
            plans=Outcomes(**planned),
            departures=Repeated(None, len(numbers)),
            made={number: self._made.pop(number) for number in numbers if number in self._made} if self._made else {},
        )

    def _grow(self, num: int) -> None:
        """Make room for so many more, and at least for twice as many as before."""
        before = len(self._floats)
        more = max(num, before)
        self._floats = np.concatenate([self._floats, np.zeros((more, self._floats.shape[1]))])
        self._integers = np.concatenate([self._integers, np.zeros((more, self._integers.shape[1]), np.int64)])
        for held in self._texts:
            held += [None] * more
        self._free += range(before, before + more)

    def _plan_numbers(self, costs: Costs) -> Any:
        """Return the number of each one's plan among those known here, which become more."""
        self._plans = tuple(dict.fromkeys((*self._plans, *costs.plans)))
        return np.array([self._plans.index(plan) for plan in costs.plans], np.int64)[costs.plan_index]


def _plain(column: Any) -> Any:
    return column.value if isinstance(column, Repeated) else column


def _picked(held: Sequence[Any], places: Sequence[int]) -> Sequence[Any]:
    """Return some entries, kept once where all are the same."""
    found = [held[place] for place in places]
    return Repeated(found[0], len(found)) if found and found.count(found[0]) == len(found) else found
