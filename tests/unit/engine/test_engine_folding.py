"""What a run makes of protocols and backends that do not keep what they say of folding."""

import pytest
from tiny_scenarios import tiny

from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import SimulationError
from neulite_sim.methods.fedavg import FedAvg
from neulite_sim.methods.folding import Fold
from neulite_sim.timeline.endings import ending_of
from neulite_sim.timeline.synchronous import Synchronous
from neulite_sim.training.inprocess import InProcess


def rounds_of_the_first_two(self, clock, server, launch):
    while not server.is_over():
        flights = server.dispatch(clock.now)
        server.train(flights)
        landings = list(map(launch, flights))
        yield clock.all_of(landings)
        server.digest(list(map(ending_of, flights[:2], landings)), clock.now)


def test_a_protocol_that_merges_a_part_of_what_it_let_train_together_is_refused(monkeypatch):
    monkeypatch.setattr(Synchronous, "process", rounds_of_the_first_two)
    message = (
        r"^protocol synchronous says merges_whole_rounds, but of the 3 flights that it let train together it merges 2 "
        r"as they are; it has to merge all, or not to say so$"
    )
    with pytest.raises(SimulationError, match=message):
        simulate(tiny())


class Folds(InProcess):
    """A backend that folds, each task when it is collected."""

    lost = 0

    def __init__(self):
        super().__init__()
        self.folds = {}
        self.orders = {}

    def submit_training(self, task, payload, personal):
        ticket = super().submit_training(task, payload, personal)
        self.orders[ticket] = task.fold
        return ticket

    def collect_update(self, ticket):
        update, order = super().collect_update(ticket), self.orders[ticket]
        if order is None:
            return update
        parts = self.folds.setdefault(order.number, [])
        if len(parts) < self.lost:
            parts.append(Fold(order))
            return update
        parts.append(Fold(order))
        return parts[-1].add(update)

    def collect_fold(self, number):
        return self.folds.pop(number)[::-1]


def run(backend, monkeypatch, **overrides):
    monkeypatch.setattr("neulite_sim.engine.building.build_backend", lambda _scenario: backend())
    return simulate(tiny(**overrides)).summary["digest"]


def test_a_backend_that_folds_comes_to_the_same_as_one_that_does_not(monkeypatch):
    wanted = simulate(tiny()).summary["digest"]
    assert run(Folds, monkeypatch) == wanted


def test_a_backend_that_loses_updates_is_refused(monkeypatch):
    monkeypatch.setattr(Folds, "lost", 1)
    message = (
        r"^backend inprocess folded 2 of 3 updates; collect_fold has to return all that was trained by an order, once$"
    )
    with pytest.raises(SimulationError, match=message):
        run(Folds, monkeypatch)


def test_a_method_that_wants_every_update_gets_every_update(monkeypatch):
    seen = []
    whole = FedAvg.digest

    def digest(self, state, updates):
        updates = list(updates)
        seen.append([update.num_updates for update in updates])
        return whole(self, state, updates)

    with monkeypatch.context() as patch:
        patch.setattr(FedAvg, "digest", digest)
        simulate(tiny())
        patch.setattr(FedAvg, "folds_by", None)
        simulate(tiny())
    assert {tuple(counts) for counts in seen} == {(3,), (1, 1, 1)}
