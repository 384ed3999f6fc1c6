"""What is really learned: trainings are submitted to the backend, collected, and noted in the journal.

In a replay nothing is submitted, and what the backend returned comes from the journal; the loop and the rows of a
replayed round are those of any other.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neulite_sim.engine.folding import Folding
from neulite_sim.engine.merging import WeighedUpdate, mixed, require_weighed
from neulite_sim.engine.parts import Costing, trained_plan
from neulite_sim.engine.replay import Keeper
from neulite_sim.engine.soundness import soundness
from neulite_sim.engine.tracking import Recorder
from neulite_sim.engine.untrained import Untrained
from neulite_sim.errors import SimulationError
from neulite_sim.methods.contract import FoldOrder, LocalTask, State, Update
from neulite_sim.methods.folding import weighting_of
from neulite_sim.results.checkpoint import Saved
from neulite_sim.scenario.learning_rate import learning_rate
from neulite_sim.timeline.columns import Flights
from neulite_sim.timeline.endings import Ending, Endings
from neulite_sim.timeline.flights import Flight
from neulite_sim.training.contract import Backend


@dataclass(slots=True)
class _Training:
    """What a flight was sent, and the ticket of its training; None where the journal holds, or may yet hold, it."""

    flight: Flight | None
    sent: State
    fold: FoldOrder | None = None
    ticket: int | None = None


def _unasked() -> Any:
    raise AssertionError("a replay asks nobody but the journal")


class Learning:
    """The method's state, and the trainings of the flights that may come into it."""

    def __init__(self, costing: Costing, backend: Backend, recorder: Recorder, keeper: Keeper) -> None:
        self._costing = costing
        self._method = costing.asked_method
        self._backend = backend
        self._recorder = recorder
        self._keeper = keeper
        self._folding = Folding(costing, backend)
        self._weighting = weighting_of(costing.method)
        self._trainings: dict[int, _Training] = {}
        self._workers_replaced = 0
        self.state: State = self._method.start(costing.trained, costing.scenario.seed, costing.ledger)
        self._soundness = soundness(costing, [self.state]) if backend.trains else None

    @property
    def trains(self) -> bool:
        """Whether anything is really trained, so that losses are known."""
        return self._backend.trains

    def rate_of(self, round_number: int, submodel: str) -> float:
        """Return the learning rate with which flights train a submodel that left for a round."""
        training = self._method.own_training(submodel).applied(self._costing.trained_training)
        return learning_rate(training, round_number, self._costing.scenario.stop.rounds)

    def begin(self, flights: Flights) -> None:
        """Start the trainings of flights from the model as it is now."""
        if not self._backend.trains:
            # What comes of them is known; one stands for all that leave together.
            self._trainings.update(dict.fromkeys(flights.numbers, _Training(flight=None, sent=self.state)))
            return
        order = self._folding.order(flights)
        begun = [_Training(flight=flight, sent=self.state, fold=order) for flight in flights]
        self._trainings.update(zip(flights.numbers, begun, strict=True))
        # The longest first: whoever trains the last of them lets all others wait.
        for place in np.argsort(-self._costing.partition.sizes[flights.devices], kind="stable").tolist():
            if not self._keeper.replays(begun[place].flight.round):
                self._submit(begun[place])

    def forget(self, numbers: Iterable[int]) -> None:
        """Drop the trainings of flights that nobody learns from."""
        for number in numbers:
            training = self._trainings.pop(number, None)
            if training is not None and training.ticket is not None:
                self._backend.discard(training.ticket)

    def digest(
        self, round_number: int, merged: Endings, collected: Callable[[int], None] | None
    ) -> Mapping[int, Update]:
        """Let the method learn from updates, in the order given, and return them by flight without their tensors.

        `collected`, if anybody watches, is told the number of updates so far, each time that one came in.
        """
        learned: Mapping[int, Update] = {}
        if not len(merged):
            return learned
        if self._keeper.replays(round_number):
            learned = {ending.flight.number: self._keeper.update(ending.flight, _unasked) for ending in merged}
            self.state = self._method.follow(self.state, self._keeper.progress(round_number, _unasked))
        else:
            self._begin_late(merged)
            learned = (self._trained if self._backend.trains else self._untrained)(merged, collected)
            if self._soundness is not None:
                self._soundness.check_state(self.state, round_number)
            self._keeper.progress(round_number, lambda: self._method.progress(self.state))
        # Of an update that the method did not read the training is dropped.
        self.forget(merged.flights.numbers)
        return learned

    def _trained(self, merged: Endings, collected: Callable[[int], None] | None) -> Mapping[int, Update]:
        """Digest the updates one by one, or the means of those that were folded."""
        learned: dict[int, Update] = {}
        orders = [getattr(self._trainings.get(number), "fold", None) for number in merged.flights.numbers]
        begun = Counter(training.fold for training in self._trainings.values() if training.fold)
        self._folding.check_whole(merged, orders, begun)
        weighed: list[WeighedUpdate] = []
        updates = self._folding.folded(self._arriving(merged, learned, weighed, collected), orders)
        if self._soundness is not None:
            updates = self._soundness.seen(updates)
        self.state = self._method.digest(self.state, updates)
        require_weighed(self._costing.scenario.method.label, weighed)
        return learned

    def _untrained(self, merged: Endings, collected: Callable[[int], None] | None) -> Untrained:
        """Digest updates of which nothing is known but whose they are."""
        flights = merged.flights
        missing = next((number for number in flights.numbers if number not in self._trainings), None)
        if missing is not None:
            raise _not_trained(self._costing, missing)
        updates = Untrained(flights, self._costing.partition.sizes[flights.devices].tolist())
        if collected is not None:
            for count in range(1, len(updates) + 1):
                collected(count)
        shown = updates.each() if self._weighting is None else iter(updates.folded())
        self.state = self._method.digest(self.state, shown)
        self._keeper.note(updates)
        self.pass_on_notices()
        return updates

    def _begin_late(self, merged: Endings) -> None:
        """Train those that the protocol named to nobody, as long as the model is still the one that they were sent."""
        sent = zip(merged.flights.numbers, merged.flights.versions, strict=True)
        late = [number not in self._trainings and version == self.state.version for number, version in sent]
        if any(late):
            self.begin(merged.flights.taken(np.flatnonzero(late)))

    def _arriving(
        self,
        merged: Sequence[Ending],
        learned: dict[int, Update],
        weighed: list[WeighedUpdate],
        collected: Callable[[int], None] | None,
    ) -> Iterator[Update]:
        """Yield the updates one by one, noting of each what is kept of it, and those of weights of the protocol's."""
        for count, ending in enumerate(merged, start=1):
            training = self._trainings.get(ending.flight.number)
            if training is None or training.ticket is None:
                raise _not_trained(self._costing, ending.flight.number)
            # Collected once: if the method breaks off, what is forgotten later must not discard it again.
            ticket, training.ticket = training.ticket, None
            update = self._keeper.update(ending.flight, functools.partial(self._backend.collect_update, ticket))
            learned[ending.flight.number] = replace(update, tensors={})
            if collected is not None:
                collected(count)
            self.pass_on_notices()
            rate = self.rate_of(ending.flight.round, ending.flight.submodel)
            update = replace(update, learning_rate=rate)
            update = mixed(self._method, self.state, training.sent, update, ending.mixing)
            if isinstance(update, WeighedUpdate):
                weighed.append(replace(update, tensors={}))
            yield update

    def pass_on_notices(self) -> None:
        """Tell observers of replaced workers and retried tasks."""
        for message in self._backend.notices():
            self._workers_replaced += 1
            self._recorder.notice(message)

    def take_workers_replaced(self) -> int:
        """Return and forget how many workers were replaced."""
        count, self._workers_replaced = self._workers_replaced, 0
        return count

    def checkpoint(self, round_number: int, came_to: Callable[[], str]) -> None:
        """Keep what cannot be made again from the journal: the weights, also those that flights were sent."""

        def saved() -> Saved:
            # Flights of one version were sent one state; of the current one the checkpoint has it anyway.
            sent = {training.sent.version: training.sent for training in self._trainings.values()}
            sent.pop(self.state.version, None)
            return Saved(
                round=round_number,
                wall_time_s=self._recorder.wall_time_s,
                state=self.state,
                # Where nothing is trained their weights are those of the beginning, which the replay has.
                sent=sent if self._backend.trains else {},
                came_to=came_to(),
            )

        self._keeper.checkpoint(saved)

    def go_on(self, came_to: str) -> Saved:
        """End a replay: take over the weights of the checkpoint, and submit what was in flight then."""
        saved = self._keeper.restore(came_to)
        self.state = saved.state
        states = {**saved.sent, saved.state.version: saved.state}
        if self._backend.trains:
            # What diverged before the checkpoint is no doing of the method.
            self._soundness = soundness(self._costing, states.values())
        for training in self._trainings.values():
            if self._backend.trains:
                training.sent = states[training.sent.version]
                self._submit(training)
        return saved

    def _submit(self, training: _Training) -> None:
        flight, method = training.flight, self._method
        assert flight is not None, "where nothing is trained, nothing is submitted"
        own = method.own_training(flight.submodel)
        task = LocalTask(
            flight=flight.number,
            cost=flight.cost,
            version=training.sent.version,
            seed=self._costing.scenario.seed,
            learning_rate=self.rate_of(flight.round, flight.submodel),
            enforces_memory=method.enforces_memory,
            plan=trained_plan(self._costing, flight.cost.plan),
            fold=training.fold,
            epochs=own.epochs,
            steps=own.steps,
        )
        payload = method.payload(training.sent, flight.submodel)
        if self._soundness is not None:
            self._soundness.check_payload(payload, training.sent.version, flight.submodel, flight.round)
        personal = method.personal_payload(training.sent, flight.device, flight.submodel)
        training.ticket = self._backend.submit_training(task, payload, personal)


def _not_trained(costing: Costing, number: int) -> SimulationError:
    return SimulationError(
        f"protocol {costing.scenario.protocol.label} merges flight {number}, of which it did not say that it is "
        "trained; it has to call server.train with every flight that it may merge"
    )
