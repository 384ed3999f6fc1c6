"""What a selector is told of an aggregation: each flight, in the order in which they ended."""

from __future__ import annotations

from neulite_sim.arrays import Integers
from neulite_sim.engine.facts import RoundFacts, known_loss, loss_rms
from neulite_sim.selection.contract import Feedback, Selector
from neulite_sim.timeline.endings import Ending


def learns(selector: Selector) -> bool:
    """Return whether a selector does anything with what it is told."""
    return type(selector).observe is not Selector.observe


def tell_selector(selector: Selector, facts: RoundFacts, num_samples: Integers) -> None:
    """Let the selector observe all flights of an aggregation, dropped ones included, by (end, flight).

    `num_samples` holds the size of each device's own data.
    """
    selector.observe(
        [_feedback(ending, facts, int(num_samples[ending.flight.device])) for ending in facts.ended.in_order()]
    )


def _feedback(ending: Ending, facts: RoundFacts, num_samples: int) -> Feedback:
    flight, update = ending.flight, facts.learned.get(ending.flight.number)
    return Feedback(
        device=flight.device,
        submodel=flight.submodel,
        round=facts.round,
        duration_s=ending.outcome.ended_s - flight.dispatched_s,
        has_arrived=ending.outcome.has_arrived,
        num_samples=num_samples,
        loss=known_loss(update) if update else None,
        loss_rms=loss_rms(update) if update else None,
    )
