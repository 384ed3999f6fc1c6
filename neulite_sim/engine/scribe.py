"""The scribe: each row is written once, to the sink, the digest, the tally and the roll call."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from neulite_sim.engine.airspace import Aloft
from neulite_sim.engine.facts import RoundFacts
from neulite_sim.engine.holding import Holding
from neulite_sim.engine.parts import Costing
from neulite_sim.engine.roll_call import RollCall
from neulite_sim.engine.rowing import RowMaker, denial_row
from neulite_sim.engine.views import Report
from neulite_sim.results.contract import Sink
from neulite_sim.results.digest import Digest
from neulite_sim.results.energy import EnergyTally, tally_of
from neulite_sim.results.flight_rows import FlightRows
from neulite_sim.results.rows import DiagnosticRow, RoundRow, Row
from neulite_sim.results.summary import Tally
from neulite_sim.training.evaluation import EvaluationResult

Told = Sequence[tuple[RoundFacts, RoundRow]]
"""Rounds whose rows are written."""


class Scribe:
    """Writes the rows of rounds; `tell` is told of rounds once their rows are written.

    The rows of rounds that follow each other briskly wait for those of the next ones, until `write_out`.
    """

    def __init__(
        self, costing: Costing, sink: Sink, tally: Tally, holding: Holding, tell: Callable[[Told], None]
    ) -> None:
        self._rows = RowMaker(costing)
        self._sink = sink
        self._tally = tally
        self._holding = holding
        self._tell = tell
        self._ended: list[RoundFacts] = []
        self._tested: list[tuple[RoundFacts, EvaluationResult | None]] = []
        self._asks_energy = costing.scenario.energy is not None
        self._energy_of: dict[int, EnergyTally] = {}
        self.roll_call = RollCall(costing.population, costing.partition.sizes > 0)
        self.digest = Digest()

    def round_ended(self, facts: RoundFacts) -> None:
        """Take in a round: who was denied in it, and its flights, to be written in the order in which they ended."""
        assert facts.report is not None, "a round is taken in as it ends"
        self._count(facts.round, facts.at_s, facts.report)
        self._ended.append(facts.without_report())
        if not self._holding.is_brisk:
            self._write_ended()

    def round_tested(self, facts: RoundFacts, test: EvaluationResult | None) -> None:
        """Take in the test of a round that has ended; write it now, or with the next ones where rounds are brisk."""
        self._tested.append((facts, test))
        if self._holding.round_ended(len(facts.ended)):
            self.write_out()

    def write_out(self) -> None:
        """Write all rows that wait."""
        self._write_ended()
        tested, self._tested = self._tested, []
        self._holding.written()
        # Whoever is told may end the run; what is written then is whole.
        self._tell([(facts, self._round_written(facts, test)) for facts, test in tested])

    def cut(self, round_number: int, at_s: float, report: Report, aloft: Aloft, *, reason: str) -> None:
        """Write the denials and flights of the round that was open when the run was over, for `reason`."""
        self.write_out()
        rows = self._rows.cut_rows(aloft, round_number, at_s, reason)
        self._count(round_number, at_s, report)
        self._write_flights(rows)

    def _count(self, round_number: int, at_s: float, report: Report) -> None:
        """Write who was denied in a round, and count it, while the candidates still stand as the server saw them."""
        for denial in report.proposal.denials:
            self._write(denial_row(round_number, denial))
        if report.look is not None:
            self.roll_call.count_round(report.look, report.proposal.denials)
        self.roll_call.come_to(at_s)

    def _write_ended(self) -> None:
        """Write the flights of rounds that wait."""
        if not self._ended:
            return
        with self.roll_call.unsettled():
            ended, self._ended = self._ended, []
            rows = self._rows.flight_rows(ended)
            if self._asks_energy:
                self._energy_of |= {number: tally_of(rows[places]) for number, places in rows.by_round()}
            self._write_flights(rows)

    def _write_flights(self, rows: FlightRows) -> None:
        if len(rows):
            self._sink.write_flights(rows)
            self.digest.add_flights(rows)
            self._tally.add_flights(rows)
            self.roll_call.count_flights(rows)

    def _round_written(self, facts: RoundFacts, test: EvaluationResult | None) -> RoundRow:
        """Write the diagnostics of its test and the row of a round, and return this."""
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
        return row

    def _write(self, row: Row) -> None:
        self._sink.write(row)
        self.digest.add(row)
        self._tally.add(row)
