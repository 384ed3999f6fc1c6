"""What is really learned: trainings are submitted to the backend, collected, and noted in the journal.

In a replay nothing is submitted, and what the backend returned comes from the journal; the loop and the rows of a
replayed round are those of any other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from neulite_sim.engine.merging import mixed
from neulite_sim.engine.parts import Costing, trained_batch_size
from neulite_sim.engine.replay import Keeper
from neulite_sim.engine.tracking import Recorder
from neulite_sim.errors import SimulationError
from neulite_sim.methods.contract import FoldOrder, LocalTask, State, Update
from neulite_sim.methods.folding import Fold, weighting_of
from neulite_sim.results.checkpoint import Saved
from neulite_sim.timeline.endings import Ending
from neulite_sim.timeline.flights import Flight
from neulite_sim.training.contract import Backend
from neulite_sim.training.learning_rate import learning_rate


@dataclass(slots=True)
class _Training:
    """What a flight was sent, and the ticket of its training; None where the journal holds, or may yet hold, it."""

    flight: Flight
    sent: State
    fold: FoldOrder | None = None
    ticket: int | None = None


def _unasked() -> Any:
    raise AssertionError("a replay asks nobody but the journal")


class Learning:
    """The method's state, and the trainings of the flights that may come into it."""

    def __init__(self, costing: Costing, backend: Backend, recorder: Recorder, keeper: Keeper) -> None:
        self._costing = costing
        self._method = costing.method
        self._backend = backend
        self._recorder = recorder
        self._keeper = keeper
        self._folds_by = weighting_of(costing.method) if _may_fold(costing, backend) else None
        self._trainings: dict[int, _Training] = {}
        self._workers_replaced = 0
        self.state: State = costing.method.start(costing.trained, costing.scenario.seed, costing.ledger)

    @property
    def trains(self) -> bool:
        """Whether anything is really trained, so that losses are known."""
        return self._backend.trains

    def rate_of(self, flight: Flight) -> float:
        """Return the learning rate with which a flight is trained: that of the round it left for."""
        return learning_rate(self._costing.trained_training, flight.round, self._costing.scenario.stop.rounds)

    def begin(self, flights: Sequence[Flight]) -> None:
        """Start the trainings of flights from the model as it is now."""
        order = self._fold_order(flights)
        for flight in flights:
            training = _Training(flight=flight, sent=self.state, fold=order)
            self._trainings[flight.number] = training
            if not self._keeper.replays(flight.round):
                self._submit(training)

    def _fold_order(self, flights: Sequence[Flight]) -> FoldOrder | None:
        """Return how the updates of a round may be added up as they come about; None where each is wanted by itself."""
        if self._folds_by is None or not all(flight.ends_as_planned for flight in flights):
            return None
        sizes = self._costing.partition.sizes
        weights = (int(sizes[flight.device]) if self._folds_by == "samples" else 1 for flight in flights)
        number = flights[0].number if flights else 0
        return FoldOrder(number=number, weighting=self._folds_by, most_weight=sum(weights))

    def forget(self, flights: Iterable[Flight]) -> None:
        """Drop the trainings of flights that nobody learns from."""
        for flight in flights:
            training = self._trainings.pop(flight.number, None)
            if training is not None and training.ticket is not None:
                self._backend.discard(training.ticket)

    def digest(
        self, round_number: int, merged: Sequence[Ending], collected: Callable[[int], None]
    ) -> dict[int, Update]:
        """Let the method learn from updates, in the order given, and return them by flight without their tensors.

        `collected` is told the number of updates so far, each time that one came in.
        """
        learned: dict[int, Update] = {}
        if not merged:
            return learned
        if self._keeper.replays(round_number):
            learned = {ending.flight.number: self._keeper.update(ending.flight, _unasked) for ending in merged}
            self.state = self._method.follow(self.state, self._keeper.progress(round_number, _unasked))
        else:
            self._begin_late(merged)
            orders = self._orders_of(merged)
            updates = self._arriving(merged, learned, collected)
            self.state = self._method.digest(self.state, self._folded(updates, orders))
            self._keeper.progress(round_number, lambda: self._method.progress(self.state))
        # Of an update that the method did not read the training is dropped.
        self.forget(ending.flight for ending in merged)
        return learned

    def _begin_late(self, merged: Sequence[Ending]) -> None:
        """Train those that the protocol named to nobody, as long as the model is still the one that they were sent."""
        late = [ending.flight for ending in merged if ending.flight.number not in self._trainings]
        self.begin([flight for flight in late if flight.version == self.state.version])

    def _orders_of(self, merged: Sequence[Ending]) -> list[FoldOrder | None]:
        """Return by which order each update is folded; None where it counts by itself.

        Raises:
            SimulationError: flights that were begun together are merged in parts, or as steps from older versions.
        """
        trainings = [self._trainings.get(ending.flight.number) for ending in merged]
        orders = [training.fold if training else None for training in trainings]
        for order in {order for order in orders if order}:
            begun = sum(training.fold == order for training in self._trainings.values())
            whole = [ending for ending, own in zip(merged, orders, strict=True) if own == order and not ending.mixing]
            if len(whole) < begun:
                raise SimulationError(
                    f"protocol {self._costing.scenario.protocol.kind} says merges_whole_rounds, but of the {begun} "
                    f"flights that it let train together it merges {len(whole)} as they are; it has to merge all, or "
                    "not to say so"
                )
        return orders

    def _folded(self, updates: Iterable[Update], orders: Sequence[FoldOrder | None]) -> Iterator[Update]:
        """Yield the updates that count by themselves, then the means of those that were folded."""
        folds = {order.number: Fold(order) for order in orders if order}
        collect = getattr(self._backend, "collect_fold", None)
        for update, order in zip(updates, orders, strict=True):
            if order is None:
                yield update
            elif collect is None:
                folds[order.number].add(update)
        for number, fold in folds.items():
            for part in collect(number) if collect else ():
                fold.merge(part)
            expected = sum(order is not None and order.number == number for order in orders)
            if fold.num_updates != expected:
                raise SimulationError(
                    f"backend {self._costing.scenario.backend.kind} folded {fold.num_updates} of {expected} updates; "
                    "collect_fold has to return all that was trained by an order, once"
                )
            yield from fold.updates()

    def _arriving(
        self, merged: Sequence[Ending], learned: dict[int, Update], collected: Callable[[int], None]
    ) -> Iterator[Update]:
        """Yield the updates one by one, noting of each what is kept of it."""
        for count, ending in enumerate(merged, start=1):
            training = self._trainings.get(ending.flight.number)
            if training is None or training.ticket is None:
                raise SimulationError(
                    f"protocol {self._costing.scenario.protocol.kind} merges flight {ending.flight.number}, of which "
                    "it did not say that it is trained; it has to call server.train with every flight that it may merge"
                )
            # Collected once: if the method breaks off, what is forgotten later must not discard it again.
            ticket, training.ticket = training.ticket, None
            update = self._keeper.update(ending.flight, functools.partial(self._backend.collect_update, ticket))
            learned[ending.flight.number] = replace(update, tensors={})
            collected(count)
            self.pass_on_notices()
            yield mixed(self._method, self.state, training.sent, update, ending.mixing)

    def pass_on_notices(self) -> None:
        """Tell observers of replaced workers and retried tasks."""
        for message in self._backend.notices():
            self._workers_replaced += 1
            self._recorder.notice(message)

    def take_workers_replaced(self) -> int:
        """Return and forget how many workers were replaced."""
        count, self._workers_replaced = self._workers_replaced, 0
        return count

    def checkpoint(self, round_number: int, came_to: str) -> None:
        """Keep what cannot be made again from the journal: the weights, also those that flights were sent."""
        # Flights of one version were sent one state; of the current one the checkpoint has it anyway.
        sent = {training.sent.version: training.sent for training in self._trainings.values()}
        sent.pop(self.state.version, None)
        self._keeper.checkpoint(
            Saved(
                round=round_number,
                wall_time_s=self._recorder.wall_time_s,
                state=self.state,
                sent=sent,
                came_to=came_to,
            )
        )

    def go_on(self, came_to: str) -> Saved:
        """End a replay: take over the weights of the checkpoint, and submit what was in flight then."""
        saved = self._keeper.restore(came_to)
        self.state = saved.state
        states = {**saved.sent, saved.state.version: saved.state}
        for training in self._trainings.values():
            training.sent = states[training.sent.version]
            self._submit(training)
        return saved

    def _submit(self, training: _Training) -> None:
        flight, method = training.flight, self._method
        task = LocalTask(
            flight=flight.number,
            cost=flight.cost,
            version=training.sent.version,
            seed=self._costing.scenario.seed,
            learning_rate=self.rate_of(flight),
            enforces_memory=method.enforces_memory,
            batch_size=trained_batch_size(self._costing, flight.cost.batch_size),
            fold=training.fold,
        )
        payload = method.payload(training.sent, flight.submodel)
        personal = method.personal_payload(training.sent, flight.device, flight.submodel)
        training.ticket = self._backend.submit_training(task, payload, personal)


def _may_fold(costing: Costing, backend: Backend) -> bool:
    """Return whether what a round trains comes together in one digest, and is there to be added up."""
    return backend.trains and getattr(costing.timing.protocol, "merges_whole_rounds", False)
