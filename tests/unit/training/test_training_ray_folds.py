"""Sums that actors hold come as one from each node; what is lost on the way is asked for again, and nothing twice."""

from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError, ObjectLostError

from neulite_sim.training.ray_folds import HeldFolds
from neulite_sim.training.ray_nodes import NodeLedger
from neulite_sim.training.ray_pool import Slot

LOST = ObjectLostError("00", None, "")


class Reference:
    """The answer of an actor: a set of flights, or why there is none."""

    def __init__(self, answer):
        self.answer = answer

    def hex(self):
        return "00"


class Actor:
    """Holds a set of flights in place of a sum; `fails` are what its next answers fail with."""

    def __init__(self, flights, fails=()):
        self.flights = flights
        self.fails = list(fails)
        self.take_fold = SimpleNamespace(remote=self._take)

    def _take(self, number, *others):
        if any(isinstance(other.answer, Exception) for other in others):
            return Reference(LOST)  # Its own is still there: what it was to be given never came.
        taken, self.flights = self.flights, None
        if self.fails:
            return Reference(self.fails.pop(0))
        return Reference(taken and taken.union(*(other.answer for other in others)))


def get(reference):
    if isinstance(reference.answer, Exception):
        raise reference.answer
    return reference.answer


@pytest.fixture
def ask(monkeypatch):
    """Return a function that collects until no actor holds anything, and what came: sums, and places refilled."""
    monkeypatch.setattr("neulite_sim.training.ray_nodes.size_of", lambda _: 10)

    def collect(*actors_by_node):
        held, ledger, refilled, sums = HeldFolds(), NodeLedger("driver"), [], []
        cluster = SimpleNamespace(get=get, require_alive=lambda: None)
        for node, actor in actors_by_node:
            slot = Slot(actor, node=node)
            for flight in sorted(actor.flights):
                held.note(7, flight, slot, flight)

        def replace(slot, loss):
            again = held.lost_with(slot)
            refilled.append(again)
            slot.actor = Actor(set(again))
            for flight in again:
                held.note(7, flight, slot, flight)

        while held.holders(7):
            sums += held.collected(7, SimpleNamespace(cluster=cluster, ledger=ledger), replace)
        everything = sorted(flight for one in sums for flight in one)
        assert everything == list(range(len(everything)))
        return sorted(map(sorted, sums)), refilled, {row: tally.bytes_back for row, tally in ledger._tallies.items()}

    return collect


def test_a_node_sends_one_sum_and_the_drivers_actors_one_each(ask):
    actors = ("driver", Actor({0})), ("driver", Actor({1})), ("far", Actor({2, 3})), ("far", Actor({4}))
    assert ask(*actors) == ([[0], [1], [2, 3, 4]], [], {"driver": 0, "far": 10})


def test_of_a_sum_that_is_lost_the_parts_that_survived_are_taken(ask):
    """The last actor of the node dies after it took its own; what another handed to it is still in the store."""
    sums, refilled, _ = ask(("far", Actor({0, 1})), ("far", Actor({2}, [ActorDiedError()])))
    assert (sums, refilled) == ([[0, 1], [2]], [[2]])


def test_where_a_part_never_came_the_last_actor_is_asked_again_for_its_own(ask):
    """The lost part is trained again in the meantime, and comes with it."""
    sums, refilled, _ = ask(("far", Actor({0}, [LOST])), ("far", Actor({1, 2})))
    assert (sums, refilled) == ([[0, 1, 2]], [[0]])
