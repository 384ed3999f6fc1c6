"""Flights and their outcomes as columns: what leaves at one moment is one table, and no object per flight.

A flight or an outcome as a value is made where somebody asks for it: a protocol that looks at one, a training, an event
of the clock. Both tables are sequences of such values, so that whoever goes through them need not know.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np

from neulite_sim.arrays import Flags, Floats, Integers, Repeated, joined, taken
from neulite_sim.profiling.cost import Costs
from neulite_sim.timeline.flights import ARRIVED, Departure, Flight, Outcome, Pauses, cut_short


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcomes(Sequence[Outcome]):
    """How flights end, as columns; `outcomes[i]` is the i-th as a value."""

    kinds: Sequence[str]
    ended_s: Floats
    download_s: Floats
    compute_s: Floats
    upload_s: Floats
    reasons: Sequence[str]
    pauses: Sequence[Pauses]

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> Outcomes:
        """Return outcomes as columns."""
        if isinstance(outcomes, Outcomes):
            return outcomes
        return cls(
            kinds=[outcome.kind for outcome in outcomes],
            reasons=[outcome.reason for outcome in outcomes],
            pauses=[outcome.pauses for outcome in outcomes],
            **{name: np.array([getattr(outcome, name) for outcome in outcomes], np.float64) for name in _SECONDS},
        )

    def __len__(self) -> int:
        return len(self.ended_s)

    @overload
    def __getitem__(self, place: int) -> Outcome: ...

    @overload
    def __getitem__(self, place: slice) -> Outcomes: ...

    def __getitem__(self, place: int | slice) -> Outcome | Outcomes:
        if isinstance(place, slice):
            return self.taken(np.arange(len(self))[place])
        return Outcome(
            kind=self.kinds[place],
            ended_s=float(self.ended_s[place]),
            download_s=float(self.download_s[place]),
            compute_s=float(self.compute_s[place]),
            upload_s=float(self.upload_s[place]),
            reason=self.reasons[place],
            pauses=self.pauses[place],
        )

    @functools.cached_property
    def has_arrived(self) -> Flags:
        """Which updates reach the server."""
        if isinstance(self.kinds, Repeated):
            return np.full(len(self), self.kinds.value == ARRIVED)
        return np.array([kind == ARRIVED for kind in self.kinds], np.bool_)

    @classmethod
    def joined(cls, parts: Sequence[Outcomes]) -> Outcomes:
        """Return those of all parts, at least one, one after the other."""
        return cls(**{name: joined([getattr(part, name) for part in parts]) for name in (*_SECONDS, *_TEXTS)})

    def taken(self, places: Integers) -> Outcomes:
        """Return those at some places."""
        return Outcomes(
            kinds=taken(self.kinds, places),
            reasons=taken(self.reasons, places),
            pauses=taken(self.pauses, places),
            **{name: getattr(self, name)[places] for name in _SECONDS},
        )

    def changed(self, others: Mapping[int, Outcome]) -> Outcomes:
        """Return the same with other outcomes at some places."""
        if not others:
            return self
        columns: dict[str, Any] = {name: getattr(self, name).copy() for name in _SECONDS}
        columns |= {name: list(getattr(self, name)) for name in _TEXTS}
        for place, outcome in others.items():
            for name in _SECONDS:
                columns[name][place] = getattr(outcome, name)
            for name, own in _TEXTS.items():
                columns[name][place] = getattr(outcome, own)
        return Outcomes(**columns)

    def named(self, places: Integers, *, kind: str, reasons: Sequence[str]) -> Outcomes:
        """Return the same with another kind and reason at some places; `reasons` has an entry for every place."""
        kinds, own = list(self.kinds), list(self.reasons)
        for place in places.tolist():
            kinds[place], own[place] = kind, reasons[place]
        return replace(self, kinds=kinds, reasons=own)

    def cut_short(
        self, places: Integers, dispatched_s: Sequence[float], at_s: float, *, kind: str, reason: str
    ) -> Outcomes:
        """Return the same with the server ending those at some places at `at_s`; see `flights.cut_short`."""
        waits = [place for place in places.tolist() if self.pauses[place]]
        others = {place: cut_short(self[place], dispatched_s[place], at_s, kind=kind, reason=reason) for place in waits}
        left_s = np.maximum(0.0, at_s - np.asarray(taken(dispatched_s, places), np.float64))
        columns: dict[str, Any] = {name: getattr(self, name).copy() for name in _SECONDS}
        columns["ended_s"][places] = at_s
        for name in ("download_s", "compute_s", "upload_s"):
            columns[name][places] = spent_s = np.minimum(columns[name][places], left_s)
            left_s = left_s - spent_s
        cut = self.named(places, kind=kind, reasons=Repeated(reason, len(self)))
        return replace(cut, **columns).changed(others)


_SECONDS = ("ended_s", "download_s", "compute_s", "upload_s")
_TEXTS: Mapping[str, str] = {"kinds": "kind", "reasons": "reason", "pauses": "pauses"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Flights(Sequence[Flight]):
    """Flights as columns; `flights[i]` is the i-th as a value, the same one each time."""

    numbers: Sequence[int]
    rounds: Sequence[int]
    versions: Sequence[int]
    stages: Sequence[str]
    dispatched_s: Sequence[float]
    costs: Costs
    plans: Outcomes
    """How the flights end that all left together, of which these are some, at `places`; all where that is None."""
    departures: Sequence[Departure | None]
    places: Integers | None = None
    made: dict[int, Flight] = field(default_factory=dict)
    """Those that were asked for as values, by number."""

    @classmethod
    def of(cls, flights: Sequence[Flight]) -> Flights:
        """Return flights as columns."""
        if isinstance(flights, Flights):
            return flights
        return cls(
            numbers=[flight.number for flight in flights],
            rounds=[flight.round for flight in flights],
            versions=[flight.version for flight in flights],
            stages=[flight.stage for flight in flights],
            dispatched_s=[flight.dispatched_s for flight in flights],
            costs=Costs.of([flight.cost for flight in flights]),
            plans=Outcomes.of([flight.planned for flight in flights]),
            departures=[flight.departure for flight in flights],
            made={flight.number: flight for flight in flights},
        )

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> Flight: ...

    @overload
    def __getitem__(self, place: slice) -> Flights: ...

    def __getitem__(self, place: int | slice) -> Flight | Flights:
        if isinstance(place, slice):
            return self.taken(np.arange(len(self))[place])
        number = self.numbers[place]
        if number not in self.made:
            self.made[number] = Flight(
                number=number,
                round=self.rounds[place],
                version=self.versions[place],
                stage=self.stages[place],
                dispatched_s=self.dispatched_s[place],
                cost=self.costs[place],
                planned=self.planned[place],
                departure=self.departures[place],
            )
        return self.made[number]

    @functools.cached_property
    def planned(self) -> Outcomes:
        """How they end."""
        return self.plans if self.places is None else self.plans.taken(self.places)

    @property
    def devices(self) -> Integers:
        """Number of each device."""
        return self.costs.devices

    @property
    def submodels(self) -> Sequence[str]:
        """What each trains."""
        return self.costs.submodels

    @property
    def end_as_planned(self) -> bool:
        """Whether nothing but the server itself can make any of them end otherwise."""
        return all(departure is None for departure in _distinct(self.departures))

    @classmethod
    def joined(cls, parts: Sequence[Flights]) -> Flights:
        """Return the flights of all parts, at least one, one after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            costs=Costs.after_each_other([part.costs for part in parts]),
            plans=Outcomes.joined([part.planned for part in parts]),
            made={number: flight for part in parts for number, flight in part.made.items()},
            **{name: joined([getattr(part, name) for part in parts]) for name in _COMMON},
        )

    def taken(self, places: Integers) -> Flights:
        """Return those at some places."""
        if len(places) == len(self) == 1:
            return self
        columns = {name: taken(getattr(self, name), places) for name in _COMMON}
        # Of those that have left, few are asked any more how they were planned to end.
        own = places if self.places is None else self.places[places]
        return Flights(costs=self.costs.taken(places), plans=self.plans, places=own, made=self.made, **columns)


_COMMON = ("numbers", "rounds", "versions", "stages", "dispatched_s", "departures")


def _distinct(column: Sequence[Any]) -> Sequence[Any]:
    return (column.value,) if isinstance(column, Repeated) else column
