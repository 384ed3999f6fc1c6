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
from typing import Any

from neulite_sim.profiling.ledger import Cost
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


Legs = tuple[Leg, Leg, Leg]
"""Download, compute and upload."""
Pauses = tuple[tuple[float, float], ...]
"""The (start, end) in which a flight waited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What may end or interrupt a flight, all known at dispatch; absolute virtual times, `inf` where it never happens.

    `online_until_s(at_s)` and `next_online_s(at_s)` are the availability of the flight's device. With `waits_offline` a
    flight waits while its device is offline, and without it ends there. The moments count in pauses as well.

    Where nobody knows at dispatch how far a flight gets, `memory_short_by(until_s)` stands in the place of
    `memory_short_at_s`: it looks for the same moment up to `until_s`, and returns `inf` where it lies beyond.
    """

    online_until_s: Callable[[float], float]
    next_online_s: Callable[[float], float]
    waits_offline: bool = False
    memory_short_at_s: float = math.inf
    battery_empty_at_s: float = math.inf
    fails_at_s: float = math.inf
    timeout_at_s: float = math.inf
    memory_short_by: Callable[[float], float] | None = None

    def first_cause(self, dispatched_s: float, *, memory_until_s: float = -math.inf) -> tuple[float, str]:
        """Return when a flight dispatched at `dispatched_s` ends at the latest, `inf` for never, and of `CAUSES`.

        Where memory is to be looked for, it is up to `memory_until_s`, and no further than another cause ends it.
        """
        others_s = (
            self.battery_empty_at_s,
            self.fails_at_s,
            math.inf if self.waits_offline else self.online_until_s(dispatched_s),
            self.timeout_at_s,
        )
        short_s = self.memory_short_at_s
        if self.memory_short_by is not None:
            until_s = min(memory_until_s, *others_s)
            short_s = self.memory_short_by(until_s) if dispatched_s <= until_s < math.inf else math.inf
        moments_s = (short_s, *others_s)
        # `index` finds the first of equal moments, which is the order of `CAUSES`.
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
    """What a flight goes by that shares the server's link; `down` and `up` are its transfers over it."""

    legs: Legs
    conditions: Conditions
    down: Load
    up: Load


def waiting_s(pauses: Pauses) -> float:
    """Return the seconds of all pauses together."""
    return math.fsum(end_s - start_s for start_s, end_s in pauses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a flight ends: its update has `arrived`, or it was `dropped` or `cut` for a reason.

    `download_s`, `compute_s` and `upload_s` are the seconds really spent in each phase: a dropped flight ends within
    one of them and spends nothing in those after it. `pauses` are the (start, end) in which it waited; they belong to
    no phase.
    """

    kind: str
    ended_s: float
    download_s: float
    compute_s: float
    upload_s: float
    reason: str = ""
    pauses: Pauses = ()

    @property
    def waiting_s(self) -> float:
        """Seconds in which the flight waited for its device."""
        return waiting_s(self.pauses)

    @property
    def has_arrived(self) -> bool:
        """Whether the update reaches the server."""
        return self.kind == ARRIVED


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """One dispatched participation, from dispatch to its outcome.

    `number` counts from 1 in the order of dispatch, `round` is that of the next digest, `version` the state of the
    method that the device is sent, `cost` what its submodel costs on its device. `planned` is how it ends; where it
    shares a link with others it is how it would end alone, and `departure` is what it really flies by.
    """

    number: int
    round: int
    version: int
    stage: str
    dispatched_s: float
    cost: Cost
    planned: Outcome
    departure: Departure | None = None

    @property
    def device(self) -> int:
        """Number of the device."""
        return self.cost.device

    @property
    def submodel(self) -> str:
        """What is trained."""
        return self.cost.submodel

    @property
    def ends_as_planned(self) -> bool:
        """Whether nothing but the server itself can make it end otherwise."""
        return self.departure is None


def planned_outcome(dispatched_s: float, *, legs: Legs, conditions: Conditions) -> Outcome:
    """Return how a flight through its legs (download, compute, upload) ends that leaves at `dispatched_s`.

    A device that is still online at the very moment its upload ends arrives. A flight that can neither arrive nor be
    ended by a moment of `conditions` is dropped when that is certain: when its device goes offline for good, or at
    the beginning of a leg that never ends.
    """
    stop_s, cause = conditions.first_cause(dispatched_s)
    leaves_s = conditions.online_until_s(dispatched_s) if conditions.waits_offline else math.inf
    # Nearly every flight is one of these, and a fleet has millions: they skip the walk leg by leg.
    smooth = _undisturbed(dispatched_s, legs, min(stop_s, leaves_s))
    if smooth is not None:
        return smooth
    spent_s = [0.0, 0.0, 0.0]
    pauses: list[tuple[float, float]] = []
    now_s = dispatched_s
    kind, reason = ARRIVED, ""
    for index, (phase, leg) in enumerate(zip(PHASES, legs, strict=True)):
        stretch = stretch_of(leg, now_s, stop_s, conditions)
        spent_s[index] = stretch.worked_s
        pauses += stretch.pauses
        now_s = stretch.ended_s
        if not stretch.is_done:
            kind, reason = DROPPED, f"{stretch.hopeless or cause} during {phase}"
            break
    return Outcome(
        kind=kind,
        ended_s=now_s,
        download_s=spent_s[0],
        compute_s=spent_s[1],
        upload_s=spent_s[2],
        reason=reason,
        pauses=tuple(pauses),
    )


def earliest_end_s(dispatched_s: float, legs: Legs) -> float:
    """Return when a flight arrives if nothing disturbs it; `inf` where it never does."""
    return _undisturbed_ends_s(dispatched_s, legs)[-1]


def _undisturbed_ends_s(dispatched_s: float, legs: Legs) -> list[float]:
    """Return when each leg ends if nothing disturbs the flight; `inf` from one that never ends on."""
    ends_s = [dispatched_s]
    for leg in legs:
        ends_s.append(leg.ends_s(ends_s[-1]) if ends_s[-1] < math.inf else math.inf)
    return ends_s[1:]


def _undisturbed(dispatched_s: float, legs: Legs, until_s: float) -> Outcome | None:
    """Return how a flight ends that nothing disturbs until then, as most do; None where its end lies later."""
    ends_s = _undisturbed_ends_s(dispatched_s, legs)
    if ends_s[-1] > until_s or ends_s[-1] == math.inf:
        return None
    starts_s = (dispatched_s, *ends_s)
    download_s, compute_s, upload_s = (
        leg.seconds if isinstance(leg, Steady) else end_s - start_s
        for leg, start_s, end_s in zip(legs, starts_s, ends_s, strict=False)
    )
    return Outcome(kind=ARRIVED, ended_s=ends_s[-1], download_s=download_s, compute_s=compute_s, upload_s=upload_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """How far one leg got: `hopeless` says why it would never have ended where no other cause ends the flight."""

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
        # What ends the flight at the moment at which its device leaves ends it: no pause begins.
        if stop_s <= leaves_s:
            pieces_s.append(stop_s - now_s)
            return Stretch(worked_s=math.fsum(pieces_s), ended_s=stop_s, pauses=pauses)
        pieces_s.append(leaves_s - now_s)
        rest = rest.rest(now_s, leaves_s)
        back_s = conditions.next_online_s(leaves_s)
        # It left in the middle of its work; that it never returns is certain now, not at some later time-out.
        if back_s == stop_s == math.inf:
            return Stretch(worked_s=math.fsum(pieces_s), ended_s=leaves_s, pauses=pauses, hopeless=LOST)
        now_s = min(back_s, stop_s)
        pauses.append((leaves_s, now_s))
        if stop_s <= back_s:
            return Stretch(worked_s=math.fsum(pieces_s), ended_s=stop_s, pauses=pauses)
    return Stretch(worked_s=math.fsum(pieces_s), ended_s=now_s, pauses=pauses, hopeless=WORN_OUT)


def cut_short(outcome: Outcome, dispatched_s: float, at_s: float, *, kind: str, reason: str) -> Outcome:
    """Return how a flight ends that the server ends at `at_s`, before its `outcome`; pauses go on until then."""
    pauses = tuple((start_s, min(end_s, at_s)) for start_s, end_s in outcome.pauses if start_s < at_s)
    left_s = max(0.0, at_s - dispatched_s - math.fsum(end_s - start_s for start_s, end_s in pauses))
    download_s = min(outcome.download_s, left_s)
    compute_s = min(outcome.compute_s, left_s - download_s)
    return Outcome(
        kind=kind,
        ended_s=at_s,
        download_s=download_s,
        compute_s=compute_s,
        upload_s=min(outcome.upload_s, left_s - download_s - compute_s),
        reason=reason,
        pauses=pauses,
    )


def __getattr__(name: str) -> Any:
    """Return what annotations of protocols written for version 0.1.0 name.

    Raises:
        AttributeError: there is no such name, and was none.
    """
    if name in ("FlightPlan", "Launch"):
        return Flight if name == "FlightPlan" else Callable
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
