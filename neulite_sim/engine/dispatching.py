"""Dispatching: offers, choice and planned flights, now or along the moments at which flights land.

Between two aggregations nothing happens to the server but that devices come, go and land. Where all ends are known it
chooses for one moment after the other, and plans all that leaves at once; what turns out to depend on flights that have
just been planned is taken back, and done when its time has come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neulite_sim.arrays import Integers, joined
from neulite_sim.engine.airspace import Airspace
from neulite_sim.engine.candidates import Whereabouts
from neulite_sim.engine.lookout import Lookout
from neulite_sim.engine.parts import Costing
from neulite_sim.engine.planning import Dispatch, Planner, can_plan_ahead
from neulite_sim.engine.views import NOTHING_SEEN, View
from neulite_sim.methods.contract import State
from neulite_sim.seeding import brief_stream
from neulite_sim.selection.contract import Selector, checked_choice, checked_count, may_ask_again
from neulite_sim.timeline.columns import Flights
from neulite_sim.timeline.endings import Endings
from neulite_sim.timeline.flights import Flight
from neulite_sim.timeline.skies import moments_of
from neulite_sim.user_code.drawing import drawing_where


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """Who was chosen at a moment; `mark` is that of before anything happened at it."""

    mark: int
    seen: View
    at_s: float
    devices: Integers
    submodels: Sequence[str]


class Dispatching:
    """Sends devices out. `seen` is what the server saw at the latest dispatch."""

    def __init__(
        self, costing: Costing, selector: Selector, lookout: Lookout, whereabouts: Whereabouts, airspace: Airspace
    ) -> None:
        self._seed = costing.scenario.seed
        self._chooses_of_others = costing.scenario.selection.is_brought
        self._selector = selector
        self._lookout = lookout
        self._whereabouts = whereabouts
        self._airspace = airspace
        self._planner = Planner(costing)
        self._sees_ahead = can_plan_ahead(costing) and may_ask_again(selector)
        self._num_flights = 0
        self.seen: View = NOTHING_SEEN

    def along(
        self, state: State, num_rounds: int, at_s: float, *, wanted: int, landings: Endings | None
    ) -> tuple[Sequence[Flight], int]:
        """Return what leaves now and along some landings, and how many of these were gone along with.

        `num_rounds` are those that have been aggregated; see `timeline.contract.Foresighted`.
        """
        first = self._called(state, num_rounds, at_s, wanted, mark=self._whereabouts.mark, num_before=0)
        if first is None:
            return (), 0
        calls, counts = [first], [0]
        if landings is not None and self._sees_ahead and len(first.devices) == wanted:
            self._go_along(state, num_rounds, landings, calls, counts)
        flights = self._planned(state, num_rounds, calls)
        num_calls = _num_valid(calls, flights)
        if num_calls < len(calls):
            self._whereabouts.retract(calls[num_calls].mark)
            calls = calls[:num_calls]
            flights = flights[: sum(len(call.devices) for call in calls)]
        num_along = counts[num_calls - 1]
        if landings is not None and num_along:
            self._airspace.book(landings[:num_along])
        self._airspace.depart(flights)
        self._num_flights += len(flights)
        self.seen = calls[-1].seen
        return flights, num_along

    def _go_along(
        self, state: State, num_rounds: int, landings: Endings, calls: list[_Call], counts: list[int]
    ) -> None:
        """Add a call for each moment at which devices land and as many leave, and how many have landed by then."""
        num_before = len(calls[0].devices)
        for moment_s, devices in moments_of(landings):
            mark = self._whereabouts.mark
            self._whereabouts.land(devices.tolist())
            call = self._called(state, num_rounds, moment_s, len(devices), mark=mark, num_before=num_before)
            if call is None or len(call.devices) < len(devices):
                self._whereabouts.retract(mark)
                return
            calls.append(call)
            counts.append(counts[-1] + len(devices))
            num_before += len(devices)

    def _called(
        self, state: State, num_rounds: int, at_s: float, wanted: int, *, mark: int, num_before: int
    ) -> _Call | None:
        """Choose among the offers of a moment, and take note of who leaves; None where nobody does."""
        # 1. Offers: what the method could give to whoever is online and not in flight.
        offers = (seen := self._lookout.look(state, at_s, num_rounds + 1)).offers

        # 2. Choice: whom of them the selector asks, from a stream of this dispatch.
        number = self._num_flights + num_before
        with drawing_where(self._chooses_of_others, self._seed, "selector.choose", num_rounds, number):
            rng = brief_stream(self._seed, "selection", num_rounds, number)
            count = checked_count(self._selector, self._selector.num_to_choose(wanted, len(offers)), len(offers))
            positions = checked_choice(self._selector, self._selector.choose(offers, count, rng), len(offers), count)
        if not len(positions):
            return None
        devices, submodels = offers.taken(positions)
        self._whereabouts.depart(devices.tolist())
        return _Call(mark=mark, seen=seen, at_s=at_s, devices=devices, submodels=submodels)

    def _planned(self, state: State, num_rounds: int, calls: Sequence[_Call]) -> Flights:
        # 3. Dispatch: all that is random about a flight is drawn now, so its outcome is known.
        counts = [len(call.devices) for call in calls]
        dispatch = Dispatch(
            at_s=calls[0].at_s if len(calls) == 1 else np.repeat([each.at_s for each in calls], counts),
            round=num_rounds + 1,
            version=state.version,
            stage=calls[0].seen.stage,
            first_flight=self._num_flights + 1,
        )
        devices = joined([call.devices for call in calls])
        submodels = joined([call.submodels for call in calls])
        return self._planner.flights(dispatch, devices, submodels, state)


def _num_valid(calls: Sequence[_Call], flights: Flights) -> int:
    """Return how many calls, from the first on, come before any landing of a flight that left at an earlier one."""
    if len(calls) == 1:
        return 1
    lasts = np.cumsum([len(call.devices) for call in calls]) - 1
    earliest_s = np.minimum.accumulate(flights.planned.ended_s)[lasts[:-1]]
    is_late = earliest_s <= np.array([call.at_s for call in calls[1:]])
    return 1 + (int(np.argmax(is_late)) if is_late.any() else len(is_late))
