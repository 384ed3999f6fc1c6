"""From what happened to rows: the recorder writes them to the sink, the digest and the tally, and tells observers."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np

from neulite_sim.engine.parts import Costing
from neulite_sim.methods.contract import Denial, Proposal, Update
from neulite_sim.methods.offering import OUT_OF_MEMORY
from neulite_sim.results.contract import Observer, Sink
from neulite_sim.results.digest import Digest
from neulite_sim.results.rows import DenialRow, DiagnosticRow, FlightRow, Notice, Progress, RoundRow, Row
from neulite_sim.results.summary import Tally
from neulite_sim.timeline.contract import Ending
from neulite_sim.timeline.flights import CUT, DROPPED, FlightPlan, cut_short
from neulite_sim.training.evaluation import EvaluationResult

TIME_OVER = "the virtual time of the run was over"
RUN_OVER = "the run had aggregated its last round"


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
    """A round that has ended, before its test; `learned` and `stalenesses` by flight, for those that were merged."""

    round: int
    at_s: float
    stage: str
    proposal: Proposal
    num_online: int
    learning_rate: float
    ended: tuple[Ending, ...]
    learned: Mapping[int, Learned]
    stalenesses: Mapping[int, int]
    workers_replaced: int
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

    @property
    def is_watched(self) -> bool:
        """Whether anybody is told of moments within a round."""
        return bool(self._observers)

    def restore(self, wall_time_s: float) -> None:
        """Go on counting from the wall time of a checkpoint."""
        self._started = time.perf_counter() - wall_time_s

    def came_to(self, version: int, plans: Sequence[FlightPlan], proposal: Proposal | None) -> str:
        """Return the digest of the rows so far, of the version, of flights in the air, and of the latest proposal."""
        found: list[Any] = [self.digest.rows_hexdigest(), version]
        found += [(astuple(plan.order), plan.ended_s) for plan in plans]
        if proposal is not None:
            found += [proposal.stage, [(item.reason, item.submodel) for item in proposal.denials]]
        digest = hashlib.sha256(json.dumps(found, default=str).encode())
        # As bytes: as text a million devices would be a list, and megabytes, at each checkpoint.
        groups = [] if proposal is None else [proposal.offers.devices, *(item.devices for item in proposal.denials)]
        for devices in groups:
            digest.update(len(devices).to_bytes(8, "little"))
            digest.update(devices.astype("<i8").tobytes())
        return digest.hexdigest()

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
        for ending in sorted(facts.ended, key=lambda item: (item.plan.ended_s, item.plan.flight)):
            plan = ending.plan
            learned = facts.learned.get(plan.flight)
            if learned is not None:
                self._write(self._flight_row(plan, facts.round, facts.stalenesses[plan.flight], learned.loss))
            elif ending.refused and plan.has_arrived:
                self._write(replace(self._flight_row(plan, facts.round), outcome=DROPPED, reason=ending.refused))
            else:
                self._write(self._flight_row(plan, facts.round))

    def round_tested(self, facts: RoundFacts, test: EvaluationResult | None) -> None:
        """Write the diagnostics of its test and the row of a round, and tell observers."""
        for found in test.diagnostics if test else ():
            self._write(
                DiagnosticRow(
                    round=facts.round,
                    virtual_time_s=facts.at_s,
                    name=found.name,
                    block=found.block,
                    value=found.value,
                )
            )
        row = self._round_row(facts, test)
        self._write(row)
        self._notify(row)

    def cut(
        self, round_number: int, at_s: float, proposal: Proposal, plans: Sequence[FlightPlan], *, reason: str
    ) -> None:
        """Write the denials and flights of the round that was open when the run was over, for `reason`."""
        for denial in proposal.denials:
            self._write(_denial_row(round_number, denial))
        for plan in plans:
            # A plan that still has its departure is only what the flight would have been on a link of its own.
            has_ended = plan.departure is None and plan.ended_s < at_s
            if has_ended and not plan.has_arrived:
                self._write(self._flight_row(plan, round_number))
                continue
            row = self._flight_row(
                cut_short(plan, plan.ended_s if has_ended else at_s, outcome=CUT, reason=reason), round_number
            )
            # What was sent in full has cost its bytes, although the server never learned from it.
            self._write(replace(row, bytes_up=self._bytes_up(plan) if has_ended else 0))
        if reason == TIME_OVER:
            self.notice(f"round {round_number} was cut off: {reason}")

    def _bytes_down(self, plan: FlightPlan) -> int:
        return self._costing.ledger.profiles[plan.submodel].bytes_down

    def _bytes_up(self, plan: FlightPlan) -> int:
        return self._costing.ledger.profiles[plan.submodel].bytes_up if plan.has_arrived else 0

    def _flight_row(
        self, plan: FlightPlan, round_number: int, staleness: int | None = None, loss: float | None = None
    ) -> FlightRow:
        population, order = self._costing.population, plan.order
        device = order.device
        return FlightRow(
            flight=order.flight,
            round=round_number,
            device=device,
            device_class=population.classes[population.class_index[device]].name,
            submodel=order.submodel,
            version=order.version,
            dispatched_s=order.dispatched_s,
            download_s=plan.download_s,
            compute_s=plan.compute_s,
            upload_s=plan.upload_s,
            waiting_s=plan.waiting_s,
            ended_s=plan.ended_s,
            outcome=plan.outcome,
            reason=plan.reason,
            pauses=";".join(f"{start_s!r}-{end_s!r}" for start_s, end_s in plan.pauses),
            peak_memory_bytes=order.peak_memory_bytes,
            available_memory_bytes=order.available_memory_bytes,
            batch_size=order.batch_size,
            samples=len(self._costing.partition.of(device)),
            bytes_down=self._bytes_down(plan),
            bytes_up=self._bytes_up(plan),
            staleness=staleness,
            loss=loss,
        )

    def _round_row(self, facts: RoundFacts, test: EvaluationResult | None) -> RoundRow:
        losses = [(item.loss, item.num_samples) for item in facts.learned.values() if item.loss is not None]
        weight = sum(samples for _, samples in losses)
        plans = [ending.plan for ending in facts.ended]
        merged = sum(ending.is_merged for ending in facts.ended)
        return RoundRow(
            round=facts.round,
            virtual_time_s=facts.at_s,
            stage=facts.stage,
            online=facts.num_online,
            offered=len(facts.proposal.offers),
            selected=len(plans),
            arrived=merged,
            dropped=len(plans) - merged,
            discarded=sum(plan.has_arrived for plan in plans) - merged,
            staleness_mean=_mean(list(facts.stalenesses.values())),
            denied=sum(len(denial.devices) for denial in facts.proposal.denials),
            train_loss=sum(loss * samples for loss, samples in losses) / weight if weight else None,
            test_loss=test.loss if test and math.isfinite(test.loss) else None,
            test_accuracy=test.accuracy if test else None,
            learning_rate=facts.learning_rate,
            bytes_down=sum(map(self._bytes_down, plans)),
            bytes_up=sum(map(self._bytes_up, plans)),
            peak_memory_bytes=max((plan.order.peak_memory_bytes for plan in plans), default=0),
            skipped_terms=sum(item.skipped_terms for item in facts.learned.values()),
            workers_replaced=facts.workers_replaced,
            wall_time_s=facts.wall_time_s,
        )


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


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
