"""Whoever is kept up to date as a candidate is one by a recount of everybody, and is chosen just the same.

Fleets, comings and goings, flights and memory are drawn; the moments go forward in steps of any length, and back.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neulite_sim.engine.candidates import Candidates, Whereabouts
from neulite_sim.engine.lookout import Lookout
from neulite_sim.engine.views import Listed, View
from neulite_sim.methods.contract import Method, Offering, State
from neulite_sim.population.availability.chunked import ChunkedAvailability
from neulite_sim.population.availability.kinds import AlwaysOnline
from neulite_sim.population.availability.markov import MarkovSource
from neulite_sim.seeding import stream
from neulite_sim.selection.uniform import Uniform

NUM_DEVICES = 40
SUBMODELS = ("wide", "narrow")
PEAK_BYTES = {"wide": 60, "narrow": 30}


class Unfollowed:
    """An availability that does not tell its changes."""

    def __init__(self, availability):
        self.online = availability.online


def availability(kind: str):
    if kind == "always":
        return AlwaysOnline(num_devices=NUM_DEVICES)
    rows = np.arange(NUM_DEVICES) // 3 if kind == "shared" else None
    source = MarkovSource(mean_on_s=40.0, mean_off_s=20.0, num_devices=NUM_DEVICES, seed=3)
    found = ChunkedAvailability(source, num_devices=NUM_DEVICES, row_of_device=rows)
    return Unfollowed(found) if kind == "unfollowed" else found


class ToyLedger:
    """What submodels cost where memory is drawn anew every so often; `at` returns another ledger only then."""

    def __init__(self, seed: int, every_s: float):
        self._seed, self._every_s, self._latest = seed, every_s, (-1, self)
        self.available_memory_bytes = stream(seed, "toy-memory", 0).integers(0, 90, NUM_DEVICES)
        self.population = SimpleNamespace(num_devices=NUM_DEVICES)

    def at(self, at_s, round_number):
        step = int(at_s // self._every_s)
        if self._latest[0] != step:
            moved = ToyLedger(self._seed, self._every_s)
            moved.available_memory_bytes = stream(self._seed, "toy-memory", step).integers(0, 90, NUM_DEVICES)
            self._latest = step, moved
        return self._latest[1]

    def fits(self, submodel):
        return self.available_memory_bytes >= PEAK_BYTES[submodel]

    def total_s(self, submodel, devices):
        return devices * 1.0 + len(submodel)

    def shortfall_bytes_of(self, submodel, devices):
        return np.maximum(PEAK_BYTES[submodel] - self.available_memory_bytes[devices], 0)


class Turns(Method):
    """Offers either submodel alone, both, and either to everybody, by turns."""

    def offering(self, state, ledger):
        names = (SUBMODELS, SUBMODELS[:1], SUBMODELS[1:], SUBMODELS[:1])[state.version % 4]
        return Offering(stage="+".join(names), submodels=names, enforces_memory=state.version % 4 != 3)


class ListedTurns(Turns):
    """The same offers, in a form that the engine takes for the method's own."""

    def offers(self, state, ledger, candidates):
        return super().offers(state, ledger, candidates)


def facts(view: View) -> list[object]:
    report = view.report()
    denials = [
        (item.reason, item.submodel, len(item), item.shortfall_range(), item.devices.tolist())
        for item in report.proposal.denials
    ]
    offers = view.offers
    one_by_one = [offers[rank] for rank in range(len(offers))]
    columns = (offers.devices.tolist(), offers.submodel_index.tolist(), offers.submodels, offers.expected_s.tolist())
    ranks = np.arange(0, len(offers), 2)
    columns += (*map(list, offers.taken(ranks)),)
    return [view.at_s, view.stage, report.num_online, denials, one_by_one, columns]


steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.25, 1.0, 3.0, 70.0, 900.0, -2.0]),  # How far the moment moves.
        st.sets(st.integers(0, NUM_DEVICES - 1), max_size=6),  # Who takes off, or lands.
        st.integers(0, 3),  # What is offered.
        st.booleans(),  # Whether all this is taken back.
    ),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, max_examples=40)
@pytest.mark.parametrize("kind", ["always", "markov", "shared", "unfollowed"])
@given(moves=steps, seed=st.integers(0, 5), every_s=st.sampled_from([2.0, 50.0, 1e9]), all_own=st.booleans())
def test_views_are_those_of_a_look_at_everybody(kind, moves, seed, every_s, all_own) -> None:
    ledger, owns = ToyLedger(seed, every_s), np.arange(NUM_DEVICES) % 5 != 0
    owns |= all_own
    whereabouts = Whereabouts(availability(kind), owns)
    kept, listed = (Lookout(method, ledger, whereabouts, owns) for method in (Turns(), ListedTurns()))
    at_s, in_flight, before = 100.0, set[int](), None
    for step_s, changing, version, is_taken_back in moves:
        mark, was_at_s, was_in_flight = whereabouts.mark, at_s, set(in_flight)
        at_s = max(0.0, at_s + step_s)
        for device in sorted(changing & set(np.flatnonzero(owns).tolist())):
            (whereabouts.land if device in in_flight else whereabouts.depart)((device,))
            in_flight ^= {device}
        state = State(version=version, tensors={})
        seen, wanted = kept.look(state, at_s, 1), listed.look(state, at_s, 1)
        assert isinstance(wanted, Listed)
        assert facts(seen) == facts(wanted)
        chosen = [Uniform().choose(view.offers, count, stream(0, "toy")).tolist()
                  for view in (seen, wanted) for count in (1, 7)]  # fmt: skip
        assert chosen[:2] == chosen[2:]
        if before is not None:
            # Whoever still holds an earlier view is told what he was told then.
            assert facts(before[0]) == before[1]
        if is_taken_back:
            whereabouts.retract(mark)
            at_s, in_flight = was_at_s, was_in_flight
            assert set(np.flatnonzero(owns & ~whereabouts.free()).tolist()) == in_flight
        else:
            before = seen, facts(seen)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(moves=steps, size=st.sampled_from([3, 1024, 1025, 3000]))
def test_ranks_are_those_of_a_list(moves, size) -> None:
    owns = np.arange(size) % 3 != 0
    source = MarkovSource(mean_on_s=20.0, mean_off_s=20.0, num_devices=size, seed=1)
    whereabouts = Whereabouts(ChunkedAvailability(source, num_devices=size), owns)
    order = np.argsort(np.arange(size) * 7919 % size, kind="stable")[: size // 2]
    members = np.zeros(size, np.bool_)
    members[order] = True
    ascending, ordered = Candidates(whereabouts, owns), Candidates(whereabouts, members, ordered=order)
    at_s, in_flight = 0.0, set[int]()
    for step_s, changing, _, _ in moves:
        at_s = max(0.0, at_s + step_s)
        for device in sorted({number * 71 % size for number in changing} & set(np.flatnonzero(owns).tolist())):
            (whereabouts.land if device in in_flight else whereabouts.depart)((device,))
            in_flight ^= {device}
        online, free = whereabouts.online(at_s), whereabouts.free()
        for kept, places in ((ascending, np.flatnonzero(owns)), (ordered, order)):
            kept.move(at_s, whereabouts.mark)
            wanted = places[(online & free)[places]]
            assert len(kept) == len(wanted)
            assert kept.num_online == np.count_nonzero(online[places])
            assert [kept.nth(rank) for rank in range(0, len(wanted), 97)] == wanted[::97].tolist()
            assert kept.taken(np.arange(len(wanted))).tolist() == wanted.tolist()
