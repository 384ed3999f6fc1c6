"""From flights and rounds to rows: one flat line of results each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from neulite_sim.arrays import Floats, Integers, Repeated, joined
from neulite_sim.engine.airspace import Aloft
from neulite_sim.engine.facts import RoundFacts
from neulite_sim.engine.parts import Costing
from neulite_sim.methods.contract import Denial
from neulite_sim.population.hardware.power import powers_of
from neulite_sim.results.energy import EnergyTally, joules_of
from neulite_sim.results.flight_rows import FlightRows
from neulite_sim.results.rows import DenialRow, RoundRow
from neulite_sim.timeline.columns import Flights, Outcomes
from neulite_sim.timeline.endings import Endings
from neulite_sim.timeline.flights import CUT, DROPPED, Flight, Outcome, Pauses, waiting_s
from neulite_sim.training.evaluation import EvaluationResult, perplexity


class RowMaker:
    """Makes the rows of a fleet: what a flight was charged, and where its device stands in the fleet."""

    def __init__(self, costing: Costing) -> None:
        population = costing.population
        self._profiles = costing.ledger.profiles
        self._class_names = [each.name for each in population.classes]
        self._class_index = population.class_index
        self._num_samples = costing.partition.sizes
        self._chooses_plans = costing.chooses_plans
        self._predicts_tokens = costing.trained.spec.predicts_tokens
        energy = costing.scenario.energy
        self._has_asked = energy is not None
        known = powers_of(self._class_names, energy)
        self._powers = [known.get(name) for name in self._class_names]

    def flight_rows(self, rounds: Sequence[RoundFacts]) -> FlightRows:
        """Return the rows of flights that were handed over in rounds, at least one, in the order in which they ended.

        They are round after round, and where several are asked for the rows are those of each by itself.
        """
        ended = Endings.joined([facts.ended.in_order() for facts in rounds])
        numbers, outcomes = ended.flights.numbers, ended.outcomes
        if any(ended.refused):
            is_refused = ~ended.is_merged & outcomes.has_arrived
            outcomes = outcomes.named(np.flatnonzero(is_refused), kind=DROPPED, reasons=ended.refused)
        stalenesses = {number: facts.stalenesses[number] for facts in rounds for number in facts.learned}
        losses = {number: loss for facts in rounds for number, loss in facts.losses.items()}
        return self._rows_of(
            ended.flights,
            outcomes,
            joined([Repeated(facts.round, len(facts.ended)) for facts in rounds]),
            bytes_up=self._bytes_up(ended),
            staleness=list(map(stalenesses.get, numbers)),
            loss=list(map(losses.get, numbers)) if losses else Repeated(None, len(numbers)),
        )

    def cut_rows(self, aloft: Aloft, round_number: int, at_s: float, reason: str) -> FlightRows:
        """Return the rows of flights that were not handed over when the run ended at `at_s`, for `reason`."""
        flights = Flights.of([flight for flight, _ in aloft])
        found = Outcomes.of([outcome or _as_planned(flight, reason) for flight, outcome in aloft])
        # What would happen at the very end of the run no longer does.
        has_ended = found.ended_s < at_s
        is_waiting = has_ended & found.has_arrived
        endings = Endings.plain(flights, found)
        outcomes = found
        for place in np.flatnonzero(is_waiting).tolist():
            outcomes = outcomes.cut_short(
                np.array([place]), flights.dispatched_s, float(found.ended_s[place]), kind=CUT, reason=reason
            )
        outcomes = outcomes.cut_short(np.flatnonzero(~has_ended), flights.dispatched_s, at_s, kind=CUT, reason=reason)
        # What was sent in full has cost its bytes, although the server never learned from it.
        bytes_up = [
            sent if ended else 0 for sent, ended in zip(self._bytes_up(endings), has_ended.tolist(), strict=True)
        ]
        nothing = Repeated(None, len(flights))
        rounds = Repeated(round_number, len(flights))
        return self._rows_of(flights, outcomes, rounds, bytes_up=bytes_up, staleness=nothing, loss=nothing)

    def _bytes_down(self, flights: Flights) -> Sequence[int]:
        """Return what each device was sent; a flight that was dropped on its way is charged in full."""
        own = _looked_up(flights.submodels, {name: each.bytes_down for name, each in self._profiles.items()})
        owed = flights.costs.owed_bytes
        return own if owed is None else [each + more for each, more in zip(own, owed.tolist(), strict=True)]

    def _bytes_up(self, ended: Endings) -> Sequence[int]:
        """Return what each device sent: all of its update, or nothing."""
        sent = _looked_up(ended.flights.submodels, {name: each.bytes_up for name, each in self._profiles.items()})
        arrived = ended.outcomes.has_arrived
        return sent if arrived.all() else [each if has else 0 for each, has in zip(sent, arrived.tolist(), strict=True)]

    def _rows_of(
        self,
        flights: Flights,
        outcomes: Outcomes,
        rounds: Sequence[int],
        *,
        bytes_up: Sequence[int],
        staleness: Sequence[int | None],
        loss: Sequence[float | None],
    ) -> FlightRows:
        """Return the rows of flights that ended so; `staleness` and `loss` where an update was merged."""
        costs, devices, num = flights.costs, flights.devices, len(flights)
        if not num:
            return FlightRows.of([])
        has_pauses = any(outcomes.pauses)
        waits_s = list(map(waiting_s, outcomes.pauses)) if has_pauses else Repeated(0.0, num)
        rows = FlightRows(
            {
                "flight": flights.numbers,
                "round": rounds,
                "device": devices.tolist(),
                "device_class": [self._class_names[index] for index in self._class_index[devices].tolist()],
                "submodel": flights.submodels,
                "version": flights.versions,
                "dispatched_s": flights.dispatched_s,
                "download_s": outcomes.download_s.tolist(),
                "compute_s": outcomes.compute_s.tolist(),
                "upload_s": outcomes.upload_s.tolist(),
                "waiting_s": waits_s,
                "ended_s": outcomes.ended_s.tolist(),
                "outcome": outcomes.kinds,
                "reason": outcomes.reasons,
                "pauses": list(map(_pauses_text, outcomes.pauses)) if has_pauses else Repeated("", num),
                "peak_memory_bytes": _whole(costs.peak_memory_bytes),
                "available_memory_bytes": _whole(costs.available_memory_bytes),
                "batch_size": _whole(costs.batch_sizes),
                "samples": _whole(self._num_samples[devices]),
                "bytes_down": self._bytes_down(flights),
                "bytes_up": bytes_up,
                "staleness": staleness,
                "loss": loss,
                "plan": self._plans_of(flights),
            }
        )
        return rows.costed(self._joules(devices, outcomes, waits_s), is_column=self._has_asked)

    def _joules(self, devices: Integers, outcomes: Outcomes, waits_s: Sequence[float]) -> Floats | None:
        """Return what each flight took; None where nobody knows the watts of one of their devices."""
        class_index = self._class_index[devices].astype(np.int64)
        if None in self._powers and any(self._powers[index] is None for index in np.unique(class_index).tolist()):
            return None
        return joules_of(
            class_index,
            self._powers,
            download_s=outcomes.download_s,
            compute_s=outcomes.compute_s,
            upload_s=outcomes.upload_s,
            waiting_s=waits_s.value if isinstance(waits_s, Repeated) else np.array(waits_s),
        )

    def _plans_of(self, flights: Flights) -> Sequence[str]:
        if not self._chooses_plans:
            return Repeated("", len(flights))
        return flights.costs.plan_labels()

    def round_row(self, facts: RoundFacts, test: EvaluationResult | None, energy: EnergyTally | None) -> RoundRow:
        """Return the row of a round; without a test it has no loss and no accuracy of one.

        `energy` is that of its flights, where the scenario asks for it.
        """
        losses = [(loss, facts.learned[number].num_samples) for number, loss in facts.losses.items()]
        weight = sum(samples for _, samples in losses)
        ended = facts.ended
        merged = int(np.count_nonzero(ended.is_merged))
        return RoundRow(
            round=facts.round,
            virtual_time_s=facts.at_s,
            stage=facts.stage,
            online=facts.counts.online,
            offered=facts.counts.offered,
            selected=len(ended),
            arrived=merged,
            dropped=len(ended) - merged,
            discarded=int(np.count_nonzero(ended.outcomes.has_arrived)) - merged,
            staleness_mean=_mean(list(facts.stalenesses.values())),
            denied=facts.counts.denied,
            train_loss=sum(loss * samples for loss, samples in losses) / weight if weight else None,
            test_loss=test.loss if test and math.isfinite(test.loss) else None,
            test_accuracy=test.accuracy if test else None,
            learning_rate=facts.learning_rate,
            bytes_down=sum(self._bytes_down(ended.flights)),
            bytes_up=sum(self._bytes_up(ended)),
            peak_memory_bytes=int(ended.flights.costs.peak_memory_bytes.max(initial=0)),
            skipped_terms=facts.skipped_terms,
            workers_replaced=facts.workers_replaced,
            wall_time_s=facts.wall_time_s,
            test_perplexity=perplexity(test.loss) if test and self._predicts_tokens else None,
            energy_j=energy.energy_j if energy else None,
            wasted_energy_j=energy.wasted_energy_j if energy else None,
        )


def _as_planned(flight: Flight, reason: str) -> Outcome:
    """Return how a flight ends of which nobody has heard; over the server's link such a one was never launched."""
    if flight.ends_as_planned:
        return flight.planned
    return Outcome(kind=CUT, ended_s=flight.dispatched_s, download_s=0.0, compute_s=0.0, upload_s=0.0, reason=reason)


def _looked_up(names: Sequence[str], values: Mapping[str, int]) -> Sequence[int]:
    """Return the value of each name of a column."""
    if isinstance(names, Repeated):
        return Repeated(values[names.value], len(names))
    return [values[name] for name in names]


def _whole(column: Integers) -> Sequence[int]:
    """Return a column of whole numbers, kept once where all are the same."""
    first = column[0].item()
    return Repeated(first, len(column)) if (column == first).all() else column.tolist()


def _pauses_text(pauses: Pauses) -> str:
    return ";".join(f"{start_s!r}-{end_s!r}" for start_s, end_s in pauses)


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
