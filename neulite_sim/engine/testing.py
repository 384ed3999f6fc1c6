"""Tests of the global model beside the next round's training, with rows still written in the order of rounds.

A test is submitted when its round has been aggregated and collected later: before the next test, before the next
aggregation where a target accuracy can stop the run, and at the end. So the run stops in the very round that
reached the target, whichever backend was faster. Where the virtual time can end a run between two tests, the row of
the latest round is held back until the next one, so that the last round of all is always tested.
"""

from __future__ import annotations

from collections import deque

from neulite_sim.engine.parts import Costing
from neulite_sim.engine.replay import Keeper
from neulite_sim.engine.tracking import Recorder, RoundFacts
from neulite_sim.methods.contract import State
from neulite_sim.selection.contract import Selector
from neulite_sim.training.contract import Backend

REPLAYED = -1
"""The ticket of a test whose result stands in the journal."""


class Testing:
    """At most one test is on its way; the rounds since then wait for it to be written."""

    __test__ = False

    def __init__(self, costing: Costing, backend: Backend, recorder: Recorder, keeper: Keeper) -> None:
        self._method = costing.method
        self._target = costing.scenario.stop.target_accuracy
        self._can_end_untested = costing.scenario.stop.virtual_time is not None and backend.trains
        self._backend = backend
        self._recorder = recorder
        self._keeper = keeper
        self._waiting: deque[RoundFacts] = deque()
        self._ticket: int | None = None
        self._untested: State | None = None
        self.target_reached = False

    def round_ended(self, facts: RoundFacts, state: State, *, is_tested: bool) -> None:
        """Write what is known of a round and submit its test, if it has one."""
        self._recorder.round_ended(facts)
        self._untested = None
        if self._ticket is None:
            self._write_waiting()
        if is_tested and self._backend.trains:
            self.collect()
            self._submit(state, facts.round)
        elif self._can_end_untested:
            self._untested = state
        self._waiting.append(facts)
        if self._ticket is None:
            self._write_waiting()
        elif self._ticket == REPLAYED or self._backend.is_done(self._ticket):
            self.collect()

    def answer(self, selector: Selector, state: State, round_number: int) -> None:
        """Test the model on the groups of devices that the selector asks for, and tell it at once."""
        groups = selector.groups_to_test() if self._backend.trains else ()
        if not groups:
            return
        if self._keeper.replays(round_number):
            selector.observe_accuracies(self._keeper.answers(round_number))
            return
        name, tensors = self._method.evaluated(state), self._method.evaluation_tensors(state)
        tickets = [self._backend.submit_evaluation(name, tensors, devices) for devices in groups]
        accuracies = [self._backend.collect_evaluation(ticket).accuracy for ticket in tickets]
        self._keeper.answered(round_number, accuracies)
        selector.observe_accuracies(accuracies)

    def stops_before_next_round(self) -> bool:
        """Return whether the model of the round before has reached the target accuracy."""
        if self._target is not None:
            self.collect()
        return self.target_reached

    def settle(self) -> None:
        """Test the last round if it was not, collect the last test and write all rows."""
        self.collect()
        if self._untested is not None:
            self._submit(self._untested, self._waiting[0].round)
            self._untested = None
            self.collect()
        self._write_waiting()

    def abandon(self) -> None:
        """Write the rows of all rounds that wait for a test, without it: the run has failed."""
        self._ticket = self._untested = None
        self._write_waiting()

    def restore(self, state: State) -> None:
        """Take the weights of a checkpoint in place of those that a replay does not have."""
        if self._untested is not None:
            self._untested = state

    def _submit(self, state: State, round_number: int) -> None:
        if self._keeper.replays(round_number):
            self._ticket = REPLAYED
            return
        self._ticket = self._backend.submit_evaluation(
            self._method.evaluated(state), self._method.evaluation_tensors(state)
        )

    def collect(self) -> None:
        """Wait for the test that is on its way, if any, and write its row and those that waited behind it."""
        if self._ticket is None:
            return
        tested = self._waiting[0].round
        if self._ticket == REPLAYED:
            result = self._keeper.test(tested)
        else:
            result = self._backend.collect_evaluation(self._ticket)
            self._keeper.tested(tested, result)
        self._ticket = None
        # The first of the waiting rounds is the one that was tested: all before it were written at once.
        self._recorder.round_tested(self._waiting.popleft(), result)
        self.target_reached |= self._target is not None and result.accuracy >= self._target
        self._write_waiting()

    def _write_waiting(self) -> None:
        """Write the rows of untested rounds, but for the latest where it may turn out to be the last."""
        while len(self._waiting) > (self._untested is not None):
            self._recorder.round_tested(self._waiting.popleft(), None)
