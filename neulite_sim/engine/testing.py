"""Tests of the global model beside the next round's training, with rows still written in the order of rounds.

A test is submitted when its round has been aggregated and collected later: before the next test, at the end, and where
a target accuracy can stop the run before the next aggregation, and before anybody leaves while others are in the air.
So the run stops in the very round that reached the target, whichever backend was faster. Where the virtual time can end
a run between two tests, the row of the latest round is held back until the next one, so that the last round of all is
always tested.
"""

from __future__ import annotations

from collections import deque

from neulite_sim.engine.examining import Examiner
from neulite_sim.engine.facts import RoundFacts
from neulite_sim.engine.learning import Learning
from neulite_sim.engine.tracking import Recorder
from neulite_sim.scenario.schema import Stop
from neulite_sim.selection.contract import Selector


class Testing:
    """At most one test is on its way; the rounds since then wait for it to be written."""

    __test__ = False

    def __init__(self, stop: Stop, learning: Learning, examiner: Examiner, recorder: Recorder) -> None:
        self._target = stop.target_accuracy
        self._can_end_untested = stop.virtual_time is not None and examiner.can_test
        self._learning = learning
        self._examiner = examiner
        self._scribe = recorder.scribe
        self._waiting: deque[RoundFacts] = deque()
        self._ticket: int | None = None
        # Whether the latest of the waiting rounds has no test, and would get one if it were the last of all.
        self._holds_latest = False
        self.target_reached = False

    def round_ended(self, facts: RoundFacts, *, is_tested: bool) -> None:
        """Write what is known of a round and submit its test, if it has one."""
        self._scribe.round_ended(facts)
        self._holds_latest = False
        if self._ticket is None:
            self._write_waiting()
        if is_tested and self._examiner.can_test:
            self.collect()
            self._ticket = self._examiner.submit(facts.round, self._learning.state)
        else:
            self._holds_latest = self._can_end_untested
        self._waiting.append(facts.without_report())
        if self._ticket is None:
            self._write_waiting()
        elif self._examiner.is_done(self._ticket):
            self.collect()

    def answer(self, selector: Selector, round_number: int) -> None:
        """Test the model on the groups of devices that the selector asks for, and tell it at once."""
        groups = selector.groups_to_test() if self._examiner.can_test else ()
        if groups:
            selector.observe_accuracies(self._examiner.accuracies(round_number, self._learning.state, groups))

    def stops_before_next_round(self) -> bool:
        """Return whether the model of the round before has reached the target accuracy."""
        if self._target is not None:
            self.collect()
        return self.target_reached

    def settle(self) -> None:
        """Test the last round if it was not, collect the last test and write all rows."""
        self.collect()
        if self._holds_latest:
            self._ticket = self._examiner.submit(self._waiting[0].round, self._learning.state)
            self._holds_latest = False
            self.collect()
        self._write_waiting()
        self._scribe.write_out()

    def abandon(self) -> None:
        """Write the rows of all rounds that wait for a test, without it: the run has failed."""
        self._ticket, self._holds_latest = None, False
        self._write_waiting()
        self._scribe.write_out()

    def collect(self) -> None:
        """Wait for the test that is on its way, if any, and write its row and those that waited behind it."""
        if self._ticket is None:
            return
        # The first of the waiting rounds is the one that was tested: all before it were written at once.
        result = self._examiner.collect(self._waiting[0].round, self._ticket)
        self._ticket = None
        self._scribe.round_tested(self._waiting.popleft(), result)
        self.target_reached |= self._target is not None and result.accuracy >= self._target
        self._write_waiting()

    def _write_waiting(self) -> None:
        """Write the rows of untested rounds, but for the latest where it may turn out to be the last."""
        while len(self._waiting) > self._holds_latest:
            self._scribe.round_tested(self._waiting.popleft(), None)
