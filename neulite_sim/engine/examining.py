"""Tests of the global model on the backend; in a replay what they gave comes from the journal."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from neulite_sim.arrays import Integers
from neulite_sim.engine.replay import Keeper
from neulite_sim.methods.contract import Method, State
from neulite_sim.training.contract import Backend
from neulite_sim.training.evaluation import EvaluationResult

REPLAYED = -1
"""The ticket of a test whose result stands in the journal."""


class Examiner:
    """Has the model of a state tested."""

    def __init__(self, method: Method, backend: Backend, keeper: Keeper) -> None:
        self._method = method
        self._backend = backend
        self._keeper = keeper
        # Backends of others need not know that tests have numbers.
        self._is_numbered = backend.trains and "number" in inspect.signature(backend.submit_evaluation).parameters

    @property
    def can_test(self) -> bool:
        """Whether anything is really trained, so that losses and accuracies are known."""
        return self._backend.trains

    def submit(self, round_number: int, state: State) -> int:
        """Submit the test of the model after a round and return its ticket."""
        if self._keeper.replays(round_number):
            return REPLAYED
        return self._submitted(round_number, state, (None,))[0]

    def _submitted(self, round_number: int, state: State, groups: Sequence[Integers | None]) -> list[int]:
        number = {"number": round_number} if self._is_numbered else {}
        name, tensors = self._method.evaluated(state), self._method.evaluation_tensors(state)
        return [self._backend.submit_evaluation(name, tensors, devices, **number) for devices in groups]

    def is_done(self, ticket: int) -> bool:
        """Whether nothing is gained by collecting a test later."""
        return ticket == REPLAYED or self._backend.is_done(ticket)

    def collect(self, round_number: int, ticket: int) -> EvaluationResult:
        """Return the result of a round's test, waiting for it where needed."""
        return self._keeper.test(round_number, lambda: self._backend.collect_evaluation(ticket))

    def accuracies(self, round_number: int, state: State, groups: Sequence[Integers]) -> Sequence[float]:
        """Return the accuracy of the model on the training samples of each group of devices."""

        def ask() -> Sequence[float]:
            tickets = self._submitted(round_number, state, groups)
            return [self._backend.collect_evaluation(ticket).accuracy for ticket in tickets]

        return self._keeper.accuracies(round_number, ask)
