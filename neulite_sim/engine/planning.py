"""From offers to flights: what each costs now, how long its legs take, and what may end it before its time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from neulite_sim.arrays import Integers
from neulite_sim.engine.parts import Costing
from neulite_sim.methods.contract import Offer
from neulite_sim.population.availability.battery import build_batteries
from neulite_sim.population.link.contract import Direction
from neulite_sim.population.link.network import BITS_PER_BYTE
from neulite_sim.population.link.throughput import ConstantRate
from neulite_sim.profiling.ledger import Cost
from neulite_sim.seeding import streams
from neulite_sim.timeline.flights import (
    Conditions,
    Departure,
    Flight,
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
    """What all flights that leave at one moment have in common; their numbers go on from `first_flight`."""

    at_s: float
    round: int
    version: int
    stage: str
    first_flight: int


class Planner:
    """Draws everything random about a flight from streams of (root seed, purpose, device, flight)."""

    def __init__(self, costing: Costing) -> None:
        self._ledger = costing.ledger
        self._population = costing.population
        self._enforces_memory = costing.method.enforces_memory
        self._seed = costing.scenario.seed
        self._churn = costing.scenario.churn
        self._shares_link = costing.timing.rates is not None
        self._batteries = build_batteries(
            self._churn.battery, num_devices=self._population.num_devices, seed=self._seed
        )
        self._can_end_early = self._population.memory_motion is not None or self._batteries is not None

    def flights(self, dispatch: Dispatch, offers: Sequence[Offer]) -> list[Flight]:
        """Return the flights that take up `offers`, at least one, each with its planned outcome."""
        devices = np.array([offer.device for offer in offers], dtype=np.int64)
        submodels = [offer.submodel for offer in offers]
        costs = self._ledger.costs_at(submodels, devices, dispatch.at_s, dispatch.round)
        numbers = np.arange(dispatch.first_flight, dispatch.first_flight + len(costs))
        legs = list(map(self._legs, costs, self._jitters(devices, numbers)))
        until_s = self._online_until_s(dispatch.at_s, devices, legs)
        fail_at_s = self._fail_at_s(dispatch.at_s, devices, numbers)
        planned = map(self._plan, [dispatch.at_s] * len(costs), costs, legs, until_s, fail_at_s)
        return [
            Flight(
                number=number,
                round=dispatch.round,
                version=dispatch.version,
                stage=dispatch.stage,
                dispatched_s=dispatch.at_s,
                cost=cost,
                planned=outcome,
                departure=departure,
            )
            for number, cost, (outcome, departure) in zip(numbers.tolist(), costs, planned, strict=True)
        ]

    def _online_until_s(self, at_s: float, devices: Integers, legs: Sequence[Legs]) -> list[float]:
        """Return when each device goes offline next, as far as its flight depends on that.

        Asked once for all: a lookup in the table of a million devices costs far more than its answers.
        """
        # Who shares the server's link may fly for longer.
        horizon_s = math.inf if self._shares_link else max(earliest_end_s(at_s, each) for each in legs)
        until_s: list[float] = self._population.availability.online_until_s(devices, at_s, horizon_s).tolist()
        return until_s

    def _plan(
        self, at_s: float, cost: Cost, legs: Legs, online_until_s: float, fails_at_s: float
    ) -> tuple[Outcome, Departure | None]:
        conditions = self._conditions(at_s, cost.device, online_until_s, fails_at_s)
        outcome = planned_outcome(at_s, legs=legs, conditions=conditions)
        if not (self._can_end_early or self._shares_link):
            return outcome, None
        # Memory and battery can only end it earlier, so how far to look ahead is known from the plan without them.
        ends = replace(
            conditions,
            memory_short_at_s=self._memory_short_at_s(at_s, cost, outcome.ended_s),
            battery_empty_at_s=self._battery_empty_at_s(at_s, cost.device, outcome),
        )
        if ends != conditions:
            outcome = planned_outcome(at_s, legs=legs, conditions=ends)
        return outcome, self._departure(at_s, cost, legs, conditions) if self._shares_link else None

    def _departure(self, at_s: float, cost: Cost, legs: Legs, conditions: Conditions) -> Departure:
        """Return what a flight over the server's link goes by; it may last longer than planned, so nothing is cut."""
        profile, population = self._ledger.profiles[cost.submodel], self._population
        latency_s = float(population.latency_s[cost.device])
        rates = population.downlink_bits_per_second[cost.device], population.uplink_bits_per_second[cost.device]
        down, up = (
            Load(num_bits=BITS_PER_BYTE * num_bytes, limit_bits_per_second=float(rate), latency_s=latency_s)
            for num_bytes, rate in zip((profile.bytes_down, profile.bytes_up), rates, strict=True)
        )
        ends = replace(conditions, memory_short_at_s=self._memory_short_at_s(at_s, cost, math.inf))
        return Departure(legs=legs, conditions=ends, down=down, up=up)

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

    def _legs(self, cost: Cost, jitter: float) -> Legs:
        profile = self._ledger.profiles[cost.submodel]
        return (
            self._transfer(cost.device, "down", profile.bytes_down, cost.download_s),
            Steady(cost.compute_s * jitter),
            self._transfer(cost.device, "up", profile.bytes_up, cost.upload_s),
        )

    def _jitters(self, devices: Integers, numbers: Integers) -> list[float]:
        """Return by how much longer each flight computes than its device usually would, 1 on average."""
        sigma = self._population.speed_jitter
        if not sigma:
            return [1.0] * len(devices)
        noises = [rng.standard_normal() for rng in self._streams("jitter", devices, numbers)]
        # The mean of a lognormal is exp(mu + sigma^2 / 2); this mu makes it one.
        jitters: list[float] = np.exp(sigma * np.array(noises) - sigma**2 / 2).tolist()
        return jitters

    def _streams(self, purpose: str, devices: Integers, numbers: Integers) -> Iterator[np.random.Generator]:
        return streams(self._seed, purpose, devices, numbers)

    def _transfer(self, device: int, direction: Direction, num_bytes: int, seconds: float) -> Leg:
        """Return a transfer: `seconds` long, or along the trace that the link of the device follows."""
        traces = self._population.throughput
        link = None if traces is None else traces.of(device, direction)
        if link is None or isinstance(link, ConstantRate):
            return Steady(seconds)
        return TracedTransfer(link, BITS_PER_BYTE * num_bytes, float(self._population.latency_s[device]))

    def _conditions(self, at_s: float, device: int, online_until_s: float, fails_at_s: float) -> Conditions:
        """Return what may end or interrupt a flight that leaves at `at_s`, memory and battery aside.

        `online_until_s` is when its device goes offline, as seen at the dispatch, or any moment after its planned end.
        """
        availability, churn = self._population.availability, self._churn

        def until_s(moment_s: float) -> float:
            if moment_s == at_s:
                return online_until_s
            return float(availability.online_until_s(np.array([device]), moment_s)[0])

        return Conditions(
            online_until_s=until_s,
            next_online_s=lambda moment_s: float(availability.next_online_s(np.array([device]), moment_s)[0]),
            waits_offline=churn.offline == "pause",
            fails_at_s=fails_at_s,
            timeout_at_s=math.inf if churn.timeout is None else at_s + churn.timeout,
        )

    def _fail_at_s(self, at_s: float, devices: Integers, numbers: Integers) -> list[float]:
        """Return when each flight would fail: exponential with the scenario's hazard, counted from its dispatch."""
        per_hour = self._churn.failures_per_hour
        if per_hour == 0:
            return [math.inf] * len(devices)
        drawn = [rng.standard_exponential() for rng in self._streams("hazard", devices, numbers)]
        return [at_s + hazards * HOUR_S / per_hour for hazards in drawn]
