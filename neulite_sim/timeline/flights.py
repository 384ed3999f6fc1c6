"""Flights: when each dispatched participation moves on, and when and why it ends.

Everything random about a flight is drawn before it starts, so its outcome is known at dispatch. The plan's times
are sums in the order in which the clock will make them: the queue and the plan agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import simpy

PHASES = ("download", "compute", "upload")
ARRIVED = "arrived"
DROPPED = "dropped"
CUT = "cut"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlightPlan:
    """One dispatched participation with its outcome: `arrived`, or `dropped` with a reason.

    `download_s`, `compute_s` and `upload_s` are the seconds really spent in each phase: a dropped flight ends within
    one of them and spends nothing in those after it.
    """

    flight: int
    round: int
    device: int
    submodel: str
    dispatched_s: float
    download_s: float
    compute_s: float
    upload_s: float
    ended_s: float
    outcome: str
    reason: str = ""

    @property
    def has_arrived(self) -> bool:
        """Whether the update reaches the server."""
        return self.outcome == ARRIVED


def plan_flight(
    *,
    flight: int,
    round_number: int,
    device: int,
    submodel: str,
    dispatched_s: float,
    phases_s: tuple[float, float, float],
    offline_at_s: float,
) -> FlightPlan:
    """Return the plan of a flight whose phases last `phases_s` on a device that goes offline at `offline_at_s`.

    A device that is still online at the very moment its upload ends arrives.
    """
    spent_s = [0.0, 0.0, 0.0]
    now_s = dispatched_s
    outcome, reason = ARRIVED, ""
    for index, phase in enumerate(PHASES):
        end_s = now_s + phases_s[index]
        if end_s > offline_at_s:
            spent_s[index] = offline_at_s - now_s
            now_s += spent_s[index]
            outcome, reason = DROPPED, f"went offline during {phase}"
            break
        spent_s[index] = phases_s[index]
        now_s = end_s
    return FlightPlan(
        flight=flight,
        round=round_number,
        device=device,
        submodel=submodel,
        dispatched_s=dispatched_s,
        download_s=spent_s[0],
        compute_s=spent_s[1],
        upload_s=spent_s[2],
        ended_s=now_s,
        outcome=outcome,
        reason=reason,
    )


def fly(env: simpy.Environment, plan: FlightPlan) -> Generator[simpy.Event, None, FlightPlan]:
    """Run a flight through its phases on the virtual clock; the process's value is its plan."""
    for seconds in (plan.download_s, plan.compute_s, plan.upload_s):
        if seconds > 0:
            yield env.timeout(seconds)
    return plan
