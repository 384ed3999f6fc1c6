"""Flights for tests that do not look at what is charged."""

from typing import Any

from neulite_sim.profiling.ledger import Cost
from neulite_sim.profiling.plans import Plan
from neulite_sim.timeline.flights import ARRIVED, Flight, Outcome


def cost_of(device: int = 0, submodel: str = "full", **given: Any) -> Cost:
    """Return a cost of one byte and one sample that takes no time, but for what is given."""
    usual = {"download_s": 0.0, "compute_s": 0.0, "upload_s": 0.0, "peak_memory_bytes": 1, "available_memory_bytes": 1,
             "plan": Plan(batch_size=1)}  # fmt: skip
    return Cost(device=device, submodel=submodel, **{**usual, **given})


def outcome_after(seconds: float, *, at_s: float = 0.0, kind: str = ARRIVED, reason: str = "") -> Outcome:
    """Return the outcome of a flight that leaves at `at_s` and computes for `seconds`."""
    return Outcome(kind=kind, ended_s=at_s + seconds, download_s=0.0, compute_s=seconds, upload_s=0.0, reason=reason)


def flight_of(
    number: int = 1, *, device: int | None = None, at_s: float = 0.0, planned: Outcome | None = None, **given: Any
) -> Flight:
    """Return a flight that leaves at `at_s`, of the device of its own number where none is named; it ends at once."""
    usual = {"round": 1, "version": 0, "stage": "full", "cost": cost_of(number if device is None else device)}
    return Flight(
        number=number, dispatched_s=at_s, planned=planned or outcome_after(0.0, at_s=at_s), **{**usual, **given}
    )
