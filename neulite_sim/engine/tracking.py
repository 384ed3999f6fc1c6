"""From what happened to rows: the recorder writes them to the sink, the digest and the tally, and tells observers."""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from neulite_sim.engine.airspace import Aloft
from neulite_sim.engine.facts import RoundFacts
from neulite_sim.engine.parts import Costing
from neulite_sim.engine.roll_call import RollCall
from neulite_sim.engine.rowing import RowMaker, denial_row
from neulite_sim.engine.views import Look, Report, View
from neulite_sim.methods.contract import Denial, Proposal
from neulite_sim.methods.offering import OUT_OF_MEMORY
from neulite_sim.results.contract import Observer, Sink
from neulite_sim.results.digest import Digest
from neulite_sim.results.energy import EnergyTally, tally_of
from neulite_sim.results.flight_rows import FlightRows
from neulite_sim.results.rows import DiagnosticRow, Notice, Progress, RoundRow, Row
from neulite_sim.results.summary import Tally
from neulite_sim.timeline.flights import Flight, Outcome
from neulite_sim.training.evaluation import EvaluationResult

TIME_OVER = "the virtual time of the run was over"
RUN_OVER = "the run had aggregated its last round"


class Recorder:
    """Writes each row once to everything that keeps or adds up rows."""

    def __init__(self, costing: Costing, sink: Sink, observers: Sequence[Observer], tally: Tally) -> None:
        self._costing = costing
        self._rows = RowMaker(costing)
        self.roll_call = RollCall(costing.population, costing.partition.sizes > 0)
        self._num_devices = costing.population.num_devices
        self._sink = sink
        self._observers = observers
        self._tally = tally
        self._energy_of: dict[int, EnergyTally] = {}
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

    def came_to(self, version: int, aloft: Aloft, proposal: Proposal) -> str:
        """Return the digest of the rows so far, of the version, of flights in the air, and of the latest proposal."""
        found: list[Any] = [self.digest.rows_hexdigest(), version]
        found += [_what_flies(flight, outcome or flight.planned) for flight, outcome in aloft]
        found += [proposal.stage, [(item.reason, item.submodel) for item in proposal.denials]]
        digest = hashlib.sha256(json.dumps(found).encode())
        # As bytes: as text a million devices would be a list, and megabytes, at each checkpoint.
        for devices in (proposal.offers.devices, *(item.devices for item in proposal.denials)):
            digest.update(len(devices).to_bytes(8, "little"))
            digest.update(np.ascontiguousarray(devices, "<i8").data)
        return digest.hexdigest()

    def _write(self, row: Row) -> None:
        self._sink.write(row)
        self.digest.add(row)
        self._tally.add(row)

    def _write_ended(
        self, round_number: int, at_s: float, denials: Sequence[Denial], look: Look | None, rows: FlightRows
    ) -> None:
        """Write what a round came to, and count it: who was denied, and the flights that ended."""
        for denial in denials:
            self._write(denial_row(round_number, denial))
        if look is not None:
            self.roll_call.count_round(look, denials)
        self.roll_call.come_to(at_s)
        if len(rows):
            self._sink.write_flights(rows)
            self.digest.add_flights(rows)
            self._tally.add_flights(rows)
            self.roll_call.count_flights(rows)

    def _notify(self, event: Progress | RoundRow | Notice) -> None:
        for observer in self._observers:
            observer.notify(event)

    def notice(self, message: str) -> None:
        """Tell observers something that a user should know."""
        self._notify(Notice(message=message))

    def dispatched(self, round_number: int, view: View, *, training: int) -> None:
        """Tell observers that flights have left, of which `training` are in the air now."""
        self._progress(round_number, view.at_s, view, training=training, trained=0)

    def collected(self, round_number: int, at_s: float, view: View, *, in_flight: int, count: int) -> None:
        """Tell observers that one more result came in, the `count`-th of those that are merged at `at_s`."""
        self._progress(round_number, at_s, view, training=in_flight - count, trained=count)

    def _progress(self, round_number: int, at_s: float, view: View, *, training: int, trained: int) -> None:
        report = view.report()
        self._notify(
            Progress(
                round=round_number,
                virtual_time_s=at_s,
                stage=view.stage,
                online=report.num_online,
                offline=self._num_devices - report.num_online,
                training=training,
                trained=trained,
                denied_by_memory=sum(len(item) for item in report.proposal.denials if item.reason == OUT_OF_MEMORY),
            )
        )

    def round_ended(self, facts: RoundFacts) -> None:
        """Write the denials and the flights of a round, flights in the order in which they ended."""
        rows = self._rows.flight_rows(facts.ended.in_order(), facts)
        if self._costing.scenario.energy is not None:
            self._energy_of[facts.round] = tally_of(rows)
        self._write_ended(facts.round, facts.at_s, facts.proposal.denials, facts.look, rows)

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
        row = self._rows.round_row(facts, test, self._energy_of.pop(facts.round, None))
        self._write(row)
        self._notify(row)

    def cut(self, round_number: int, at_s: float, report: Report, aloft: Aloft, *, reason: str) -> None:
        """Write the denials and flights of the round that was open when the run was over, for `reason`."""
        rows = self._rows.cut_rows(aloft, round_number, at_s, reason)
        self._write_ended(round_number, at_s, report.proposal.denials, report.look, rows)
        if reason == TIME_OVER:
            self.notice(f"round {round_number} was cut off: {reason}")


def _what_flies(flight: Flight, outcome: Outcome) -> list[Any]:
    """Return all by which one flight in the air differs from another, as plain values."""
    return [flight.number, flight.round, flight.version, flight.stage, flight.dispatched_s, _plain(flight.cost),
            outcome.ended_s]  # fmt: skip


def _plain(value: Any) -> Any:
    """Return a dataclass as a list of its fields, to any depth; `astuple` would copy each on its way."""
    if is_dataclass(value):
        return [_plain(getattr(value, name)) for name in _names(value.__class__)]
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


@functools.cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))
