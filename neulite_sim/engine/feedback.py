"""What a selector is told of an aggregation: each flight, in the order in which they ended."""

from __future__ import annotations

from neulite_sim.arrays import Integers
from neulite_sim.engine.tracking import RoundFacts
from neulite_sim.selection.contract import Feedback, Selector
from neulite_sim.timeline.contract import in_order
from neulite_sim.timeline.flights import FlightPlan


def learns(selector: Selector) -> bool:
    """Return whether a selector does anything with what it is told."""
    return type(selector).observe is not Selector.observe


def tell_selector(selector: Selector, facts: RoundFacts, num_samples: Integers) -> None:
    """Let the selector observe all flights of an aggregation, dropped ones included, by (end, flight).

    `num_samples` holds the size of each device's own data.
    """
    plans = in_order(ending.plan for ending in facts.ended)
    selector.observe([_feedback(plan, facts, int(num_samples[plan.device])) for plan in plans])


def _feedback(plan: FlightPlan, facts: RoundFacts, num_samples: int) -> Feedback:
    learned = facts.learned.get(plan.flight)
    return Feedback(
        device=plan.device,
        submodel=plan.submodel,
        round=facts.round,
        duration_s=plan.ended_s - plan.dispatched_s,
        has_arrived=plan.has_arrived,
        num_samples=num_samples,
        loss=learned.loss if learned else None,
        loss_rms=learned.loss_rms if learned else None,
    )
