"""Flights: when each dispatched participation moves on, and when and why it ends.

Everything random about a flight is drawn before it starts, so its outcome is known at dispatch. What can end a flight
before it arrives are moments; the earliest ends it, and an update that arrives at that very moment has arrived. At
equal moments the cause is the first of `CAUSES`: what befalls the device stands before what the server decides.

A device that goes offline either drops its flight or, with `Conditions.waits_offline`, keeps what it has done and goes
on when it is back (as in FLASH: Yang et al., "Characterizing Impacts of Heterogeneity in Federated Learning upon
Large-Scale Smartphone Data", WWW 2021, arXiv 2006.06983).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import simpy

from neulite_sim.timeline.clock import Clock
from neulite_sim.timeline.legs import Leg, Steady

PHASES = ("download", "compute", "upload")
ARRIVED = "arrived"
DROPPED = "dropped"
CUT = "cut"

CAUSES = ("out of memory", "battery empty", "failed", "went offline", "timed out")
"""Why a flight ends early, in the order in which they count at equal moments; ` during <phase>` follows."""
LOST = "went offline and did not come back"
STALLED = "stalled, its link never carries the rest,"
WORN_OUT = "interrupted too often"
MOST_PAUSES = 10_000
"""Pauses within one phase after which a flight is taken never to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is dispatched: `version` is the state of the method that the device is sent, `round` the next digest.

    The bytes are the peak that is charged, and what the device had available at dispatch.
    """

    flight: int
    round: int
    version: int
    device: int
    submodel: str
    stage: str
    dispatched_s: float
    peak_memory_bytes: int
    available_memory_bytes: int
    batch_size: int
    """Samples per step that are charged: the workload's, or fewer where the device shrinks its batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What may end or interrupt a flight, all known at dispatch; absolute virtual times, `inf` where it never happens.

    `online_until_s(at_s)` and `next_online_s(at_s)` are the availability of the flight's device. With `waits_offline` a
    flight waits while its device is offline, and without it ends there. The moments count in pauses as well.
    """

    online_until_s: Callable[[float], float]
    next_online_s: Callable[[float], float]
    waits_offline: bool = False
    memory_short_at_s: float = math.inf
    battery_empty_at_s: float = math.inf
    fails_at_s: float = math.inf
    timeout_at_s: float = math.inf

    def first_cause(self, dispatched_s: float) -> tuple[float, str]:
        """Return when a flight dispatched at `dispatched_s` ends at the latest, `inf` for never, and of `CAUSES`."""
        moments_s = (
            self.memory_short_at_s,
            self.battery_empty_at_s,
            self.fails_at_s,
            math.inf if self.waits_offline else self.online_until_s(dispatched_s),
            self.timeout_at_s,
        )
        first_s = min(moments_s)
        return first_s, CAUSES[moments_s.index(first_s)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A transfer over a shared link: its bits, the rate of the device's own link, the latency before the first bit."""

    num_bits: float
    limit_bits_per_second: float
    latency_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """What a flight is planned from; `down` and `up` are its transfers over the server's link."""

    legs: tuple[Leg, Leg, Leg]
    conditions: Conditions
    down: Load
    up: Load


@dataclass(frozen=True, slots=True, kw_only=True)
class FlightPlan:
    """One dispatched participation with its outcome: `arrived`, or `dropped` with a reason.

    `download_s`, `compute_s` and `upload_s` are the seconds really spent in each phase: a dropped flight ends within
    one of them and spends nothing in those after it. `pauses` are the (start, end) in which it waited; they belong to
    no phase.
    """

    order: Order
    download_s: float
    compute_s: float
    upload_s: float
    ended_s: float
    outcome: str
    reason: str = ""
    pauses: tuple[tuple[float, float], ...] = ()
    departure: Departure | None = None
    """What the flight was planned from, kept where it shares a link with others and so may come about otherwise."""

    @property
    def flight(self) -> int:
        """Number of the flight, from 1 in the order of dispatch."""
        return self.order.flight

    @property
    def device(self) -> int:
        """Number of the device."""
        return self.order.device

    @property
    def submodel(self) -> str:
        """What is trained."""
        return self.order.submodel

    @property
    def dispatched_s(self) -> float:
        """When the flight began."""
        return self.order.dispatched_s

    @property
    def waiting_s(self) -> float:
        """Seconds in which the flight waited for its device."""
        return math.fsum(end_s - start_s for start_s, end_s in self.pauses)

    @property
    def has_arrived(self) -> bool:
        """Whether the update reaches the server."""
        return self.outcome == ARRIVED


def plan_flight(order: Order, *, legs: tuple[Leg, Leg, Leg], conditions: Conditions) -> FlightPlan:
    """Return the plan of a flight through its legs: download, compute, upload.

    A device that is still online at the very moment its upload ends arrives. A flight that can neither arrive nor be
    ended by a moment of `conditions` is dropped when that is certain: when its device goes offline for good, or at
    the beginning of a leg that never ends.
    """
    stop_s, cause = conditions.first_cause(order.dispatched_s)
    leaves_s = conditions.online_until_s(order.dispatched_s) if conditions.waits_offline else math.inf
    smooth = _undisturbed(order, legs, min(stop_s, leaves_s))
    if smooth is not None:
        return smooth
    spent_s = [0.0, 0.0, 0.0]
    pauses: list[tuple[float, float]] = []
    now_s = order.dispatched_s
    outcome, reason = ARRIVED, ""
    for index, (phase, leg) in enumerate(zip(PHASES, legs, strict=True)):
        stretch = stretch_of(leg, now_s, stop_s, conditions)
        spent_s[index] = stretch.worked_s
        pauses += stretch.pauses
        now_s = stretch.ended_s
        if not stretch.is_done:
            outcome, reason = DROPPED, f"{stretch.hopeless or cause} during {phase}"
            break
    return FlightPlan(
        order=order,
        download_s=spent_s[0],
        compute_s=spent_s[1],
        upload_s=spent_s[2],
        ended_s=now_s,
        outcome=outcome,
        reason=reason,
        pauses=tuple(pauses),
    )


def earliest_end_s(order: Order, legs: tuple[Leg, Leg, Leg]) -> float:
    """Return when a flight arrives if nothing disturbs it; `inf` where it never does."""
    return _undisturbed_ends_s(order, legs)[-1]


def _undisturbed_ends_s(order: Order, legs: tuple[Leg, Leg, Leg]) -> list[float]:
    """Return when each leg ends if nothing disturbs the flight; `inf` from one that never ends on."""
    ends_s = [order.dispatched_s]
    for leg in legs:
        ends_s.append(leg.ends_s(ends_s[-1]) if ends_s[-1] < math.inf else math.inf)
    return ends_s[1:]


def _undisturbed(order: Order, legs: tuple[Leg, Leg, Leg], until_s: float) -> FlightPlan | None:
    """Return the plan of a flight that nothing meets before its end, as most are; None where that lies later."""
    ends_s = _undisturbed_ends_s(order, legs)
    if ends_s[-1] > until_s or ends_s[-1] == math.inf:
        return None
    starts_s = (order.dispatched_s, *ends_s)
    download_s, compute_s, upload_s = (
        leg.seconds if isinstance(leg, Steady) else end_s - start_s
        for leg, start_s, end_s in zip(legs, starts_s, ends_s, strict=False)
    )
    return FlightPlan(
        order=order,
        download_s=download_s,
        compute_s=compute_s,
        upload_s=upload_s,
        ended_s=ends_s[-1],
        outcome=ARRIVED,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """One leg as it came about: `hopeless` says why it would never have ended where no other cause ends the flight."""

    worked_s: float
    ended_s: float
    pauses: list[tuple[float, float]]
    is_done: bool = False
    hopeless: str = ""


def stretch_of(leg: Leg, now_s: float, stop_s: float, conditions: Conditions) -> Stretch:
    """Return how far a leg gets from `now_s` until it is done, or until `stop_s` at the latest."""
    rest, pieces_s = leg, [0.0]
    pauses: list[tuple[float, float]] = []
    for _ in range(MOST_PAUSES):
        leaves_s = conditions.online_until_s(now_s) if conditions.waits_offline else math.inf
        ends_s = rest.ends_s(now_s)
        if ends_s <= min(leaves_s, stop_s) and ends_s < math.inf:
            # What a steady leg takes is known to the last bit; a difference of two moments is not.
            worked_s = leg.seconds if isinstance(leg, Steady) else math.fsum([*pieces_s, ends_s - now_s])
            return Stretch(worked_s=worked_s, ended_s=ends_s, pauses=pauses, is_done=True)
        if ends_s == stop_s == math.inf:
            return Stretch(worked_s=math.fsum(pieces_s), ended_s=now_s, pauses=pauses, hopeless=STALLED)
        if stop_s <= leaves_s:
            pieces_s.append(stop_s - now_s)
            return Stretch(worked_s=math.fsum(pieces_s), ended_s=stop_s, pauses=pauses)
        pieces_s.append(leaves_s - now_s)
        rest = rest.rest(now_s, leaves_s)
        back_s = conditions.next_online_s(leaves_s)
        if back_s == stop_s == math.inf:
            return Stretch(worked_s=math.fsum(pieces_s), ended_s=leaves_s, pauses=pauses, hopeless=LOST)
        now_s = min(back_s, stop_s)
        pauses.append((leaves_s, now_s))
        if stop_s <= back_s:
            return Stretch(worked_s=math.fsum(pieces_s), ended_s=stop_s, pauses=pauses)
    return Stretch(worked_s=math.fsum(pieces_s), ended_s=now_s, pauses=pauses, hopeless=WORN_OUT)


def cut_short(plan: FlightPlan, at_s: float, *, outcome: str, reason: str) -> FlightPlan:
    """Return a flight as far as it had come at `at_s`, where the server ended it; pauses go on until then."""
    pauses = tuple((start_s, min(end_s, at_s)) for start_s, end_s in plan.pauses if start_s < at_s)
    left_s = max(0.0, at_s - plan.dispatched_s - math.fsum(end_s - start_s for start_s, end_s in pauses))
    download_s = min(plan.download_s, left_s)
    compute_s = min(plan.compute_s, left_s - download_s)
    return FlightPlan(
        order=plan.order,
        download_s=download_s,
        compute_s=compute_s,
        upload_s=min(plan.upload_s, left_s - download_s - compute_s),
        ended_s=at_s,
        outcome=outcome,
        reason=reason,
        pauses=pauses,
    )


class LoneFlight(simpy.Event):
    """A flight that shares nothing with others: an event at its end, whose value is the plan as it came about.

    The stages between have no events of their own: nothing in the simulation depends on when they pass.
    """

    def __init__(self, clock: Clock, plan: FlightPlan) -> None:
        super().__init__(clock)
        self._clock = clock
        self._plan = plan
        clock.at(max(plan.ended_s, clock.now)).callbacks.append(self._end)

    @property
    def is_alive(self) -> bool:
        """Whether the flight has not ended yet."""
        return not self.triggered

    def _end(self, at: simpy.Event) -> None:
        del at
        if self.is_alive:
            self.succeed(self._plan)

    def interrupt(self, cause: str) -> None:
        """End a flight that is alive now: it is dropped, with the cause as the reason."""
        self.succeed(cut_short(self._plan, float(self._clock.now), outcome=DROPPED, reason=cause))


Flight = LoneFlight | simpy.Process
"""A launched flight: its value is the plan as it came about; an interrupt with a reason ends it there."""

Launch = Callable[[FlightPlan], Flight]
"""Starts a dispatched flight."""
