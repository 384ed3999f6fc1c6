"""From flights and rounds to rows: one flat line of results each."""

from __future__ import annotations

import math
from collections.abc import Sequence

from neulite_sim.engine.facts import RoundFacts, known_loss, skipped_terms
from neulite_sim.engine.parts import Costing
from neulite_sim.methods.contract import Denial
from neulite_sim.results.rows import DenialRow, FlightRow, RoundRow
from neulite_sim.timeline.flights import Flight, Outcome
from neulite_sim.training.evaluation import EvaluationResult


class RowMaker:
    """Makes the rows of a fleet: what a flight was charged, and where its device stands in the fleet."""

    def __init__(self, costing: Costing) -> None:
        self._costing = costing

    def bytes_down(self, flight: Flight) -> int:
        """Return what the device was sent; a flight that was dropped on its way is charged in full."""
        return self._costing.ledger.profiles[flight.submodel].bytes_down

    def bytes_up(self, flight: Flight, outcome: Outcome) -> int:
        """Return what the device sent: all of its update, or nothing."""
        return self._costing.ledger.profiles[flight.submodel].bytes_up if outcome.has_arrived else 0

    def flight_row(
        self,
        flight: Flight,
        outcome: Outcome,
        round_number: int,
        staleness: int | None = None,
        loss: float | None = None,
    ) -> FlightRow:
        """Return the row of a flight that ended so; `staleness` and `loss` where its update was merged."""
        population, cost = self._costing.population, flight.cost
        return FlightRow(
            flight=flight.number,
            round=round_number,
            device=cost.device,
            device_class=population.classes[population.class_index[cost.device]].name,
            submodel=cost.submodel,
            version=flight.version,
            dispatched_s=flight.dispatched_s,
            download_s=outcome.download_s,
            compute_s=outcome.compute_s,
            upload_s=outcome.upload_s,
            waiting_s=outcome.waiting_s,
            ended_s=outcome.ended_s,
            outcome=outcome.kind,
            reason=outcome.reason,
            pauses=";".join(f"{start_s!r}-{end_s!r}" for start_s, end_s in outcome.pauses),
            peak_memory_bytes=cost.peak_memory_bytes,
            available_memory_bytes=cost.available_memory_bytes,
            batch_size=cost.batch_size,
            samples=len(self._costing.partition.of(cost.device)),
            bytes_down=self.bytes_down(flight),
            bytes_up=self.bytes_up(flight, outcome),
            staleness=staleness,
            loss=loss,
        )

    def round_row(self, facts: RoundFacts, test: EvaluationResult | None) -> RoundRow:
        """Return the row of a round; without a test it has no loss and no accuracy of one."""
        known = ((known_loss(update), update.num_samples) for update in facts.learned.values())
        losses = [(loss, samples) for loss, samples in known if loss is not None]
        weight = sum(samples for _, samples in losses)
        merged = sum(ending.is_merged for ending in facts.ended)
        return RoundRow(
            round=facts.round,
            virtual_time_s=facts.at_s,
            stage=facts.stage,
            online=facts.num_online,
            offered=len(facts.proposal.offers),
            selected=len(facts.ended),
            arrived=merged,
            dropped=len(facts.ended) - merged,
            discarded=sum(ending.outcome.has_arrived for ending in facts.ended) - merged,
            staleness_mean=_mean(list(facts.stalenesses.values())),
            denied=sum(map(len, facts.proposal.denials)),
            train_loss=sum(loss * samples for loss, samples in losses) / weight if weight else None,
            test_loss=test.loss if test and math.isfinite(test.loss) else None,
            test_accuracy=test.accuracy if test else None,
            learning_rate=facts.learning_rate,
            bytes_down=sum(self.bytes_down(ending.flight) for ending in facts.ended),
            bytes_up=sum(self.bytes_up(ending.flight, ending.outcome) for ending in facts.ended),
            peak_memory_bytes=max((ending.flight.cost.peak_memory_bytes for ending in facts.ended), default=0),
            skipped_terms=sum(map(skipped_terms, facts.learned.values())),
            workers_replaced=facts.workers_replaced,
            wall_time_s=facts.wall_time_s,
        )


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def denial_row(round_number: int, denial: Denial) -> DenialRow:
    """Return the row of the devices that were denied for one reason."""
    least, median, most = denial.shortfall_range() or (None, None, None)
    return DenialRow(
        round=round_number,
        reason=denial.reason,
        submodel=denial.submodel,
        devices=len(denial),
        shortfall_bytes_min=least,
        shortfall_bytes_median=median,
        shortfall_bytes_max=most,
    )
