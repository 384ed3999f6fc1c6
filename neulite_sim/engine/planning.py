"""From an offer to a flight: how long each leg takes on this device, and what may end the flight before its time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from neulite_sim.engine.parts import Costing
from neulite_sim.methods.contract import Offer
from neulite_sim.population.availability.battery import build_batteries
from neulite_sim.population.link.contract import Direction
from neulite_sim.population.link.network import BITS_PER_BYTE
from neulite_sim.population.link.throughput import ConstantRate
from neulite_sim.profiling.ledger import Cost
from neulite_sim.seeding import streams
from neulite_sim.timeline.flights import Conditions, Departure, FlightPlan, Load, Order, earliest_end_s, plan_flight
from neulite_sim.timeline.legs import Leg, Steady, TracedTransfer
from neulite_sim.units import HOUR_S


class Planner:
    """Draws everything random about a flight from streams of (root seed, purpose, device, flight)."""

    def __init__(self, costing: Costing) -> None:
        self._costing = costing
        self._population = costing.population
        self._seed = costing.scenario.seed
        self._churn = costing.scenario.churn
        self._shares_link = costing.rates is not None
        self._batteries = build_batteries(
            self._churn.battery, num_devices=self._population.num_devices, seed=self._seed
        )
        self._can_end_early = self._population.memory_motion is not None or self._batteries is not None

    def plan(self, order: Order, offer: Offer) -> FlightPlan:
        """Return the plan of a flight that takes up an offer."""
        return self.plan_all([order], [self._cost(order, offer)])[0]

    def plan_all(self, orders: Sequence[Order], costs: Sequence[Cost]) -> list[FlightPlan]:
        """Return the plans of flights that leave at one moment, each with its cost before jitter."""
        if not orders:
            return []
        legs = [self._legs(*flight) for flight in zip(orders, costs, self._jitters(orders), strict=True)]
        columns = (orders, legs, self._online_until_s(orders, legs), self._fail_at_s(orders))
        return [self._plan(*flight) for flight in zip(*columns, strict=True)]

    def _online_until_s(self, orders: Sequence[Order], legs: Sequence[tuple[Leg, Leg, Leg]]) -> list[float]:
        """Return when each device goes offline next, as far as its flight depends on that.

        Asked once for all: a lookup in the table of a million devices costs far more than its answers.
        """
        # Who shares the server's link may fly for longer.
        horizon_s = math.inf if self._shares_link else max(map(earliest_end_s, orders, legs))
        devices = np.array([order.device for order in orders], dtype=np.int64)
        availability = self._population.availability
        until_s: list[float] = availability.online_until_s(devices, orders[0].dispatched_s, horizon_s).tolist()
        return until_s

    def _plan(self, order: Order, legs: tuple[Leg, Leg, Leg], online_until_s: float, fails_at_s: float) -> FlightPlan:
        conditions = self._conditions(order, online_until_s, fails_at_s)
        plan = plan_flight(order, legs=legs, conditions=conditions)
        if not (self._can_end_early or self._shares_link):
            return plan
        # Memory and battery can only end it earlier, so how far to look ahead is known from the plan without them.
        ends = replace(
            conditions,
            memory_short_at_s=self._memory_short_at_s(order, plan.ended_s),
            battery_empty_at_s=self._battery_empty_at_s(plan),
        )
        plan = plan if ends == conditions else plan_flight(order, legs=legs, conditions=ends)
        return replace(plan, departure=self._departure(order, legs, conditions)) if self._shares_link else plan

    def _departure(self, order: Order, legs: tuple[Leg, Leg, Leg], conditions: Conditions) -> Departure:
        """Return what a flight over the server's link goes by; it may last longer than planned, so nothing is cut."""
        profile, population = self._costing.ledger.profiles[order.submodel], self._population
        latency_s = float(population.latency_s[order.device])
        rates = population.downlink_bits_per_second[order.device], population.uplink_bits_per_second[order.device]
        down, up = (
            Load(num_bits=BITS_PER_BYTE * num_bytes, limit_bits_per_second=float(rate), latency_s=latency_s)
            for num_bytes, rate in zip((profile.bytes_down, profile.bytes_up), rates, strict=True)
        )
        ends = replace(conditions, memory_short_at_s=self._memory_short_at_s(order, math.inf))
        return Departure(legs=legs, conditions=ends, down=down, up=up)

    def _memory_short_at_s(self, order: Order, until_s: float) -> float:
        """Return when, up to `until_s`, the device no longer has the memory of the flight's peak; `inf` for never."""
        motion = self._population.memory_motion
        if motion is None or not self._costing.method.enforces_memory:
            return math.inf
        return motion.short_from_s(order.device, order.peak_memory_bytes, order.dispatched_s, until_s)

    def _battery_empty_at_s(self, plan: FlightPlan) -> float:
        """Return when, up to its planned end, the battery of a flight's device is empty; `inf` for never."""
        if self._batteries is None:
            return math.inf
        return self._batteries.empty_at_s(plan.device, plan.dispatched_s, plan.ended_s, plan.pauses)

    def _cost(self, order: Order, offer: Offer) -> Cost:
        return self._costing.ledger.cost_at(offer.submodel, offer.device, order.dispatched_s, order.round)

    def _legs(self, order: Order, cost: Cost, jitter: float) -> tuple[Leg, Leg, Leg]:
        profile = self._costing.ledger.profiles[cost.submodel]
        return (
            self._transfer(order.device, "down", profile.bytes_down, cost.download_s),
            Steady(cost.compute_s * jitter),
            self._transfer(order.device, "up", profile.bytes_up, cost.upload_s),
        )

    def _jitters(self, orders: Sequence[Order]) -> list[float]:
        """Return by how much longer each flight computes than its device usually would, 1 on average."""
        sigma = self._population.speed_jitter
        if not sigma:
            return [1.0] * len(orders)
        noises = [numbers.standard_normal() for numbers in self._streams("jitter", orders)]
        # The mean of a lognormal is exp(mu + sigma^2 / 2); this mu makes it one.
        jitters: list[float] = np.exp(sigma * np.array(noises) - sigma**2 / 2).tolist()
        return jitters

    def _streams(self, purpose: str, orders: Sequence[Order]) -> Iterator[np.random.Generator]:
        devices = np.array([order.device for order in orders], dtype=np.int64)
        return streams(self._seed, purpose, devices, np.array([order.flight for order in orders], dtype=np.int64))

    def _transfer(self, device: int, direction: Direction, num_bytes: int, seconds: float) -> Leg:
        """Return a transfer: `seconds` long, or along the trace that the link of the device follows."""
        traces = self._population.throughput
        link = None if traces is None else traces.of(device, direction)
        if link is None or isinstance(link, ConstantRate):
            return Steady(seconds)
        return TracedTransfer(link, BITS_PER_BYTE * num_bytes, float(self._population.latency_s[device]))

    def _conditions(self, order: Order, online_until_s: float, fails_at_s: float) -> Conditions:
        """Return what may end or interrupt the flight, memory and battery aside.

        `online_until_s` is when its device goes offline, as seen at the dispatch, or any moment after its planned end.
        """
        availability, churn, dispatched_s = self._population.availability, self._churn, order.dispatched_s

        def until_s(at_s: float) -> float:
            if at_s == dispatched_s:
                return online_until_s
            return float(availability.online_until_s(np.array([order.device]), at_s)[0])

        return Conditions(
            online_until_s=until_s,
            next_online_s=lambda at_s: float(availability.next_online_s(np.array([order.device]), at_s)[0]),
            waits_offline=churn.offline == "pause",
            fails_at_s=fails_at_s,
            timeout_at_s=math.inf if churn.timeout is None else order.dispatched_s + churn.timeout,
        )

    def _fail_at_s(self, orders: Sequence[Order]) -> list[float]:
        """Return when each flight would fail: exponential with the scenario's hazard, counted from its dispatch."""
        if self._churn.failures_per_hour == 0:
            return [math.inf] * len(orders)
        drawn = [numbers.standard_exponential() for numbers in self._streams("hazard", orders)]
        return [
            order.dispatched_s + hazards * HOUR_S / self._churn.failures_per_hour
            for order, hazards in zip(orders, drawn, strict=True)
        ]
