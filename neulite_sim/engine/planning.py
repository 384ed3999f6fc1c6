"""From offers to flights: what each costs now, how long its legs take, and what may end it before its time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from neulite_sim.arrays import Floats, Integers, Repeated
from neulite_sim.engine.memory_watch import MemoryWatch
from neulite_sim.engine.parts import Costing
from neulite_sim.methods.contract import State
from neulite_sim.population.availability.battery import build_batteries
from neulite_sim.population.availability.charges import Charges
from neulite_sim.population.link.contract import Direction
from neulite_sim.population.link.network import BITS_PER_BYTE, transfer_s
from neulite_sim.population.link.throughput import ConstantRate
from neulite_sim.profiling.cost import Cost, Costs
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.seeding import standard_exponentials, standard_normals
from neulite_sim.timeline.columns import Flights, Outcomes
from neulite_sim.timeline.flights import (
    ARRIVED,
    Conditions,
    Departure,
    Legs,
    Load,
    Outcome,
    earliest_end_s,
    planned_outcome,
)
from neulite_sim.timeline.legs import Leg, Steady, TracedTransfer
from neulite_sim.units import HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """What flights that are planned together have in common; their numbers go on from `first_flight`.

    They leave at one moment, or each at one of its own.
    """

    at_s: float | Floats
    round: int
    version: int
    stage: str
    first_flight: int


@dataclass(slots=True, kw_only=True)
class _Plan:
    """The flights of one dispatch while they are planned, as columns.

    `ends_s` is when each ends if nothing disturbs it, `traced` those whose links change over time. `online_until_s` is
    when a device goes offline, as seen at the dispatch, or any moment after its planned end.
    """

    at_s: float | Floats
    costs: Costs
    compute_s: Floats
    ends_s: Floats
    traced: Integers = field(default_factory=lambda: np.zeros(0, np.int64))
    online_until_s: Floats = field(default_factory=lambda: np.zeros(0))
    fails_at_s: Floats = field(default_factory=lambda: np.zeros(0))

    def leaves_s(self, place: int) -> float:
        """Return when one of them leaves."""
        return self.at_s if isinstance(self.at_s, float) else float(self.at_s[place])


def owing(ledger: Ledger, costs: Costs, owed_bytes: Integers) -> Costs:
    """Return costs of devices that download `owed_bytes` more, with the seconds that this takes."""
    own = np.array([ledger.profiles[name].bytes_down for name in costs.submodels], np.int64)
    rates, latency_s = ledger.population.downlink_bits_per_second, ledger.population.latency_s
    seconds = transfer_s(own + owed_bytes, rates[costs.devices], latency_s[costs.devices])
    return replace(costs, download_s=np.asarray(seconds), owed_bytes=owed_bytes)


def can_plan_ahead(costing: Costing) -> bool:
    """Return whether flights can be planned ahead, and anew: nothing that one flight changes decides on another."""
    population, churn = costing.population, costing.scenario.churn
    moves = population.memory_motion is not None or population.charges is not None or churn.battery is not None
    return not moves and costing.timing.rates is None


class Planner:
    """Draws everything random about a flight from streams of (root seed, purpose, device, flight)."""

    def __init__(self, costing: Costing) -> None:
        self._method = costing.asked_method
        self._ledger = costing.ledger
        self._population = costing.population
        self._enforces_memory = costing.method.enforces_memory
        self._seed = costing.scenario.seed
        self._churn = costing.scenario.churn
        self._shares_link = costing.timing.rates is not None
        self._batteries = build_batteries(
            self._churn.battery, num_devices=self._population.num_devices, seed=self._seed
        )
        traces = self._population.throughput
        self._is_traced = None if traces is None else traces.is_traced()
        self._charges = self._population.charges
        self._aloft = self._population.aloft or self._population.availability
        self._can_end_early = self._population.memory_motion is not None or self._batteries is not None

    def flights(
        self, dispatch: Dispatch, devices: Integers, submodels: Sequence[str], state: State | None = None
    ) -> Flights:
        """Return the flights in which `devices`, at least one, train `submodels`, each with its planned outcome.

        What devices download beyond their submodel's own bytes is that of a `state` of the method.
        """
        # The clock begins at a whole number.
        at_s = dispatch.at_s if isinstance(dispatch.at_s, np.ndarray) else float(dispatch.at_s)
        num, first_s = len(devices), float(np.min(at_s))
        costs = self._ledger.costs_at(submodels, devices, first_s, dispatch.round)
        owed_bytes = None if state is None else self._method.owed_bytes(state, devices, submodels)
        if owed_bytes is not None:
            costs = owing(self._ledger, costs, owed_bytes)
        numbers = np.arange(dispatch.first_flight, dispatch.first_flight + num)
        plan = self._undisturbed(at_s, costs, _jitters(self._population.speed_jitter, self._seed, devices, numbers))
        plan.fails_at_s = self._fail_at_s(at_s, devices, numbers)
        plan.online_until_s = self._online_until_s(at_s, devices, plan.ends_s)
        return Flights(
            numbers=numbers.tolist(),
            rounds=Repeated(dispatch.round, num),
            versions=Repeated(dispatch.version, num),
            stages=Repeated(dispatch.stage, num),
            dispatched_s=Repeated(at_s, num) if isinstance(at_s, float) else at_s.tolist(),
            costs=costs,
            plans=self._planned(plan),
            departures=[self._departure(plan, place) for place in range(num)]
            if self._shares_link
            else Repeated(None, num),
        )

    def _undisturbed(self, at_s: float | Floats, costs: Costs, jitters: Floats | None) -> _Plan:
        """Return how long the legs of each flight take, and when they end if nothing disturbs it."""
        compute_s = costs.compute_s if jitters is None else costs.compute_s * jitters
        plan = _Plan(
            at_s=at_s,
            costs=costs,
            compute_s=compute_s,
            ends_s=at_s + costs.download_s + compute_s + costs.upload_s,
        )
        if self._is_traced is not None:
            plan.traced = np.flatnonzero(self._is_traced[costs.devices])
            for place in plan.traced.tolist():
                plan.ends_s[place] = earliest_end_s(plan.leaves_s(place), self._legs(plan, place))
        return plan

    def _planned(self, plan: _Plan) -> Outcomes:
        """Return how the flights end: most undisturbed, and worked out for all of them at once."""
        at_s, num = plan.at_s, len(plan.costs)
        stops_s = np.minimum(plan.online_until_s, plan.fails_at_s)
        if self._churn.timeout is not None:
            stops_s = np.minimum(stops_s, at_s + self._churn.timeout)
        outcomes = Outcomes(
            kinds=Repeated(ARRIVED, num),
            ended_s=plan.ends_s,
            download_s=plan.costs.download_s,
            compute_s=plan.compute_s,
            upload_s=plan.costs.upload_s,
            reasons=Repeated("", num),
            pauses=Repeated((), num),
        )
        is_disturbed = (plan.ends_s > stops_s) | (plan.ends_s == math.inf)
        is_disturbed[plan.traced] = True
        disturbed = np.flatnonzero(is_disturbed).tolist()
        outcomes = outcomes.changed({place: self._outcome(plan, place) for place in disturbed})
        if self._charges is not None:
            outcomes = outcomes.changed(self._emptied(plan, outcomes, self._charges))
        if not self._can_end_early:
            return outcomes
        # Memory and battery can only end it earlier, so how far to look ahead is known from the plan without them.
        limits = ((place, self._limits(plan, place, outcomes[place])) for place in range(num))
        return outcomes.changed({place: self._outcome(plan, place, **found) for place, found in limits if found})

    def _emptied(self, plan: _Plan, planned: Outcomes, charges: Charges) -> dict[int, Outcome]:
        """Return how those flights end in which a battery is empty before their planned end."""
        seconds = (planned.download_s, planned.compute_s, planned.upload_s)
        empty_s = charges.empty_s(plan.costs.devices, plan.leaves_s(0), seconds, planned.pauses)
        places = np.flatnonzero(empty_s < planned.ended_s).tolist()
        # Memory may end it earlier still, so what is known of that is asked with it.
        return {place: self._outcome(plan, place, battery_empty_at_s=float(empty_s[place])) for place in places}

    def _outcome(self, plan: _Plan, place: int, **limits: Any) -> Outcome:
        """Return how one flight ends, leg by leg; `limits` are those of memory and battery."""
        conditions = replace(self._conditions(plan, place), **limits)
        return planned_outcome(plan.leaves_s(place), legs=self._legs(plan, place), conditions=conditions)

    def _limits(self, plan: _Plan, place: int, planned: Outcome) -> dict[str, float]:
        """Return when, up to its planned end, a flight's device lacks memory, or its battery is empty, if ever."""
        cost = plan.costs[place]
        found = {
            "memory_short_at_s": self._memory_short_at_s(plan.leaves_s(place), cost, planned.ended_s),
            "battery_empty_at_s": self._battery_empty_at_s(plan.leaves_s(place), cost.device, planned),
        }
        return {name: moment_s for name, moment_s in found.items() if moment_s < math.inf}

    def _online_until_s(self, at_s: float | Floats, devices: Integers, ends_s: Floats) -> Floats:
        """Return when each device goes offline next, as far as its flight depends on that.

        Asked once for all that leave together: a lookup in the table of a million devices costs far more than its
        answers.
        """
        if not isinstance(at_s, float):
            moments_s, horizons_s = at_s.tolist(), ends_s.tolist()
            return np.concatenate(
                [
                    self._aloft.online_until_s(devices[place : place + 1], moments_s[place], horizons_s[place])
                    for place in range(len(devices))
                ]
            )
        # Who shares the server's link may fly for longer.
        horizon_s = math.inf if self._shares_link else float(ends_s.max())
        return self._aloft.online_until_s(devices, at_s, horizon_s)

    def _departure(self, plan: _Plan, place: int) -> Departure:
        """Return what a flight goes by over the server's link; it may last longer than planned, so nothing is cut."""
        cost = plan.costs[place]
        profile, population = self._ledger.profiles[cost.submodel], self._population
        latency_s = float(population.latency_s[cost.device])
        rates = population.downlink_bits_per_second[cost.device], population.uplink_bits_per_second[cost.device]
        down, up = (
            Load(num_bits=BITS_PER_BYTE * num_bytes, limit_bits_per_second=float(rate), latency_s=latency_s)
            for num_bytes, rate in zip((profile.bytes_down + cost.owed_bytes, profile.bytes_up), rates, strict=True)
        )
        ends, motion, at_s = self._conditions(plan, place), self._population.memory_motion, plan.leaves_s(place)
        if motion is not None and self._enforces_memory:
            watch = MemoryWatch(motion, cost.device, peak_bytes=cost.peak_memory_bytes, dispatched_s=at_s)
            ends = replace(ends, memory_short_by=watch.short_by)
        return Departure(legs=self._legs(plan, place), conditions=ends, down=down, up=up)

    def _memory_short_at_s(self, at_s: float, cost: Cost, until_s: float) -> float:
        """Return when, up to `until_s`, the device no longer has the memory of the flight's peak; `inf` for never."""
        motion = self._population.memory_motion
        if motion is None or not self._enforces_memory:
            return math.inf
        return motion.short_from_s(cost.device, cost.peak_memory_bytes, at_s, until_s)

    def _battery_empty_at_s(self, at_s: float, device: int, planned: Outcome) -> float:
        """Return when, up to its planned end, the battery of a flight's device is empty; `inf` for never."""
        if self._batteries is None:
            return math.inf
        return self._batteries.empty_at_s(device, at_s, planned.ended_s, planned.pauses)

    def _legs(self, plan: _Plan, place: int) -> Legs:
        costs, device = plan.costs, int(plan.costs.devices[place])
        profile = self._ledger.profiles[costs.submodels[place]]
        down_bytes = profile.bytes_down + (0 if costs.owed_bytes is None else int(costs.owed_bytes[place]))
        return (
            self._transfer(device, "down", down_bytes, float(costs.download_s[place])),
            Steady(float(plan.compute_s[place])),
            self._transfer(device, "up", profile.bytes_up, float(costs.upload_s[place])),
        )

    def _transfer(self, device: int, direction: Direction, num_bytes: int, seconds: float) -> Leg:
        """Return a transfer: `seconds` long, or along the trace that the link of the device follows."""
        traces = self._population.throughput
        link = None if traces is None else traces.of(device, direction)
        if link is None or isinstance(link, ConstantRate):
            return Steady(seconds)
        return TracedTransfer(link, BITS_PER_BYTE * num_bytes, float(self._population.latency_s[device]))

    def _conditions(self, plan: _Plan, place: int) -> Conditions:
        """Return what may end or interrupt a flight, memory and battery aside."""
        availability, churn, device = self._aloft, self._churn, plan.costs.devices[place : place + 1]
        at_s, online_until_s = plan.leaves_s(place), float(plan.online_until_s[place])

        def until_s(moment_s: float) -> float:
            if moment_s == at_s:
                return online_until_s
            return float(availability.online_until_s(device, moment_s)[0])

        return Conditions(
            online_until_s=until_s,
            next_online_s=lambda moment_s: float(availability.next_online_s(device, moment_s)[0]),
            waits_offline=churn.offline == "pause",
            fails_at_s=float(plan.fails_at_s[place]),
            timeout_at_s=math.inf if churn.timeout is None else at_s + churn.timeout,
        )

    def _fail_at_s(self, at_s: float | Floats, devices: Integers, numbers: Integers) -> Floats:
        """Return when each flight would fail: exponential with the scenario's hazard, counted from its dispatch."""
        per_hour = self._churn.failures_per_hour
        if per_hour == 0:
            return np.full(len(devices), math.inf)
        return at_s + standard_exponentials(self._seed, "hazard", devices, numbers) * HOUR_S / per_hour


def _jitters(sigma: float, seed: int, devices: Integers, numbers: Integers) -> Floats | None:
    """Return by how much longer each flight computes than its device usually would, 1 on average; None: not."""
    if not sigma:
        return None
    noises = standard_normals(seed, "jitter", devices, numbers)
    # The mean of a lognormal is exp(mu + sigma^2 / 2); this mu makes it one.
    jitters: Floats = np.exp(sigma * noises - sigma**2 / 2)
    return jitters
