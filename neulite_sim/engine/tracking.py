"""From what happened to rows: the recorder writes them to the sink, the digest and the tally, and tells observers."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from neulite_sim.engine.assembly import Costing
from neulite_sim.methods.contract import Denial, Proposal, Update
from neulite_sim.methods.offering import OUT_OF_MEMORY
from neulite_sim.results.contract import Observer, Sink
from neulite_sim.results.digest import Digest
from neulite_sim.results.rows import DenialRow, FlightRow, Notice, Progress, RoundRow, Row
from neulite_sim.results.summary import Tally
from neulite_sim.timeline.flights import CUT, FlightPlan
from neulite_sim.training.evaluation import EvaluationResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What the rows and the selector keep of an update.

    `loss` and `loss_rms`, the root mean square over samples, are None where nothing was trained or training diverged.
    """

    loss: float | None
    loss_rms: float | None
    num_samples: int
    skipped_terms: int

    @classmethod
    def of(cls, update: Update) -> Learned:
        """Return the part of an update that is kept."""
        squared_loss = update.metrics.get("squared_loss", math.nan)
        return cls(
            loss=update.loss if math.isfinite(update.loss) else None,
            loss_rms=math.sqrt(squared_loss) if math.isfinite(squared_loss) else None,
            num_samples=update.num_samples,
            skipped_terms=round(update.metrics.get("num_skipped_terms", 0.0)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundFacts:
    """A round that has ended, before its test: `learned` by flight number, for those that arrived."""

    round: int
    at_s: float
    proposal: Proposal
    num_online: int
    learning_rate: float
    plans: tuple[FlightPlan, ...]
    learned: Mapping[int, Learned]
    wall_time_s: float = 0.0


class Recorder:
    """Writes each row once to everything that keeps or adds up rows."""

    def __init__(self, costing: Costing, sink: Sink, observers: Sequence[Observer], tally: Tally) -> None:
        self._costing = costing
        self._sink = sink
        self._observers = observers
        self._tally = tally
        self._started = time.perf_counter()
        self.digest = Digest()

    @property
    def wall_time_s(self) -> float:
        """Seconds since the recorder was made."""
        return time.perf_counter() - self._started

    def _write(self, row: Row) -> None:
        self._sink.write(row)
        self.digest.add(row)
        self._tally.add(row)

    def _notify(self, event: Progress | RoundRow | Notice) -> None:
        for observer in self._observers:
            observer.notify(event)

    def notice(self, message: str) -> None:
        """Tell observers something that a user should know."""
        self._notify(Notice(message=message))

    def dispatched(self, round_number: int, at_s: float, proposal: Proposal, *, online: int, training: int) -> None:
        """Tell observers that flights have left."""
        self._progress(round_number, at_s, proposal, (online, training, 0))

    def trained(self, round_number: int, at_s: float, proposal: Proposal, counts: tuple[int, int, int]) -> None:
        """Tell observers that one more result came in; `counts` are devices online, flights, and results so far."""
        self._progress(round_number, at_s, proposal, counts)

    def _progress(self, round_number: int, at_s: float, proposal: Proposal, counts: tuple[int, int, int]) -> None:
        online, flights, trained = counts
        self._notify(
            Progress(
                round=round_number,
                virtual_time_s=at_s,
                stage=proposal.stage,
                online=online,
                offline=self._costing.population.num_devices - online,
                training=flights - trained,
                trained=trained,
                denied_by_memory=sum(len(item.devices) for item in proposal.denials if item.reason == OUT_OF_MEMORY),
            )
        )

    def round_ended(self, facts: RoundFacts) -> None:
        """Write the denials and the flights of a round, flights in the order in which they ended."""
        for denial in facts.proposal.denials:
            self._write(_denial_row(facts.round, denial))
        for plan in sorted(facts.plans, key=lambda item: (item.ended_s, item.flight)):
            self._write(self._flight_row(plan, facts.learned.get(plan.flight)))

    def round_tested(self, facts: RoundFacts, test: EvaluationResult | None) -> None:
        """Write the row of a round and tell observers."""
        row = self._round_row(facts, test)
        self._write(row)
        self._notify(row)

    def cut(self, round_number: int, at_s: float, proposal: Proposal, plans: Sequence[FlightPlan]) -> None:
        """Write the denials and flights of the round that was open when the run's virtual time was over."""
        for denial in proposal.denials:
            self._write(_denial_row(round_number, denial))
        for plan in plans:
            has_ended = plan.ended_s < at_s
            if has_ended and not plan.has_arrived:
                self._write(self._flight_row(plan, None))
                continue
            row = self._flight_row(_cut(plan, min(at_s, plan.ended_s)), None)
            # What was sent in full has cost its bytes, although the server never learned from it.
            self._write(replace(row, bytes_up=self._bytes_up(plan) if has_ended else 0))
        self.notice(f"round {round_number} was cut off: the virtual time of the run was over")

    def _bytes_down(self, plan: FlightPlan) -> int:
        return self._costing.ledger.profiles[plan.submodel].bytes_down

    def _bytes_up(self, plan: FlightPlan) -> int:
        return self._costing.ledger.profiles[plan.submodel].bytes_up if plan.has_arrived else 0

    def _peak_memory_bytes(self, plan: FlightPlan) -> int:
        return self._costing.ledger.cost(plan.submodel, plan.device).peak_memory_bytes

    def _flight_row(self, plan: FlightPlan, learned: Learned | None) -> FlightRow:
        population = self._costing.population
        return FlightRow(
            flight=plan.flight,
            round=plan.round,
            device=plan.device,
            device_class=population.classes[population.class_index[plan.device]].name,
            submodel=plan.submodel,
            dispatched_s=plan.dispatched_s,
            download_s=plan.download_s,
            compute_s=plan.compute_s,
            upload_s=plan.upload_s,
            ended_s=plan.ended_s,
            outcome=plan.outcome,
            reason=plan.reason,
            peak_memory_bytes=self._peak_memory_bytes(plan),
            available_memory_bytes=int(population.available_memory_bytes[plan.device]),
            samples=len(self._costing.partition.of(plan.device)),
            bytes_down=self._bytes_down(plan),
            bytes_up=self._bytes_up(plan),
            loss=learned.loss if learned else None,
        )

    def _round_row(self, facts: RoundFacts, test: EvaluationResult | None) -> RoundRow:
        losses = [(item.loss, item.num_samples) for item in facts.learned.values() if item.loss is not None]
        weight = sum(samples for _, samples in losses)
        arrived = sum(plan.has_arrived for plan in facts.plans)
        return RoundRow(
            round=facts.round,
            virtual_time_s=facts.at_s,
            stage=facts.proposal.stage,
            online=facts.num_online,
            offered=len(facts.proposal.offers),
            selected=len(facts.plans),
            arrived=arrived,
            dropped=len(facts.plans) - arrived,
            denied=sum(len(denial.devices) for denial in facts.proposal.denials),
            train_loss=sum(loss * samples for loss, samples in losses) / weight if weight else None,
            test_loss=test.loss if test and math.isfinite(test.loss) else None,
            test_accuracy=test.accuracy if test else None,
            learning_rate=facts.learning_rate,
            bytes_down=sum(map(self._bytes_down, facts.plans)),
            bytes_up=sum(map(self._bytes_up, facts.plans)),
            peak_memory_bytes=max(map(self._peak_memory_bytes, facts.plans), default=0),
            skipped_terms=sum(item.skipped_terms for item in facts.learned.values()),
            wall_time_s=facts.wall_time_s,
        )


def _cut(plan: FlightPlan, at_s: float) -> FlightPlan:
    """Return a flight as far as it had come at `at_s`."""
    left_s = at_s - plan.dispatched_s
    download_s = min(plan.download_s, left_s)
    compute_s = min(plan.compute_s, left_s - download_s)
    return FlightPlan(
        flight=plan.flight,
        round=plan.round,
        device=plan.device,
        submodel=plan.submodel,
        dispatched_s=plan.dispatched_s,
        download_s=download_s,
        compute_s=compute_s,
        upload_s=min(plan.upload_s, left_s - download_s - compute_s),
        ended_s=at_s,
        outcome=CUT,
        reason="the virtual time of the run was over",
    )


def _denial_row(round_number: int, denial: Denial) -> DenialRow:
    shortfall = denial.shortfall_bytes
    return DenialRow(
        round=round_number,
        reason=denial.reason,
        submodel=denial.submodel,
        devices=len(denial.devices),
        shortfall_bytes_min=None if shortfall is None else int(shortfall.min()),
        shortfall_bytes_median=None if shortfall is None else int(np.median(shortfall)),
        shortfall_bytes_max=None if shortfall is None else int(shortfall.max()),
    )
