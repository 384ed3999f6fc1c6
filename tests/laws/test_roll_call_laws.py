"""What is counted of devices whom nobody lists is what a list of everybody in every round comes to.

Fleets, comings and goings, flights and offers are drawn; looks come in any rhythm, and are worked out in any portions.
"""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_candidates_laws import NUM_DEVICES, ListedTurns, ToyLedger, Turns, availability

from neulite_sim.engine import looks
from neulite_sim.engine.candidates import Whereabouts
from neulite_sim.engine.comings import asked_presence
from neulite_sim.engine.lookout import Lookout
from neulite_sim.engine.roll_call import RollCall
from neulite_sim.methods.contract import State

rounds = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.25, 1.0, 3.0, 70.0, 900.0]),  # How far the moment moves.
        st.sets(st.integers(0, NUM_DEVICES - 1), max_size=8),  # Who takes off, or lands.
        st.integers(0, 3),  # What is offered.
        st.integers(0, 2),  # How many rounds go by what is seen then.
    ),
    min_size=1,
    max_size=25,
)


def fleet(kind: str) -> SimpleNamespace:
    return SimpleNamespace(num_devices=NUM_DEVICES, memory_motion=None, charges=None, availability=availability(kind))


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@pytest.mark.parametrize("kind", ["always", "markov", "shared", "unfollowed"])
@given(moves=rounds, seed=st.integers(0, 5), every_s=st.sampled_from([50.0, 1e9]), most=st.integers(1, 9))
def test_who_was_denied_how_often_is_what_lists_of_everybody_say(kind, moves, seed, every_s, most) -> None:
    ledger, owns, population = ToyLedger(seed, every_s), np.arange(NUM_DEVICES) % 5 != 0, fleet(kind)
    if kind == "unfollowed":
        population.availability.next_online_s = lambda devices, at_s: np.full(len(devices), np.inf)
    whereabouts = Whereabouts(population.availability, owns)
    kept, listed = (Lookout(method, ledger, whereabouts, owns) for method in (Turns(), ListedTurns()))
    call, wanted, at_s, in_flight = RollCall(population, owns), Counter(), 0.0, set[int]()
    call.follow(whereabouts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(looks, "MOST_LOOKS", most)
        for step_s, changing, version, num_rounds in moves:
            at_s += step_s
            state = State(version=version, tensors={})
            seen, everybody = kept.look(state, at_s, 1), listed.look(state, at_s, 1).report()
            # After the look and before its rounds, as a dispatch has it.
            for device in sorted(changing & set(np.flatnonzero(owns).tolist())):
                (whereabouts.land if device in in_flight else whereabouts.depart)((device,))
                in_flight ^= {device}
            for _ in range(num_rounds):
                report = seen.report()
                call.count_round(report.look, report.proposal.denials)
                wanted.update((item.reason, device) for item in everybody.proposal.denials for device in item.devices.tolist())  # fmt: skip
    found = call.roll()
    counts = {(reason, device): count for reason, column in found.denied.items() for device, count in enumerate(column.tolist()) if count}  # fmt: skip
    assert counts == wanted
    assert found.num_rounds == sum(num_rounds for *_, num_rounds in moves)


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@pytest.mark.parametrize("kind", ["always", "markov", "shared"])
@given(ends_s=st.lists(st.floats(0, 2000), min_size=1, max_size=5).map(sorted))
def test_times_online_are_those_that_each_device_tells_when_asked(kind, ends_s) -> None:
    population, owns = fleet(kind), np.ones(NUM_DEVICES, np.bool_)
    call = RollCall(population, owns)
    call.follow(Whereabouts(population.availability, owns))
    for end_s in ends_s:
        call.come_to(end_s)
        found = call.roll().presence(slice(None))
        asked = asked_presence(population.availability, NUM_DEVICES, end_s)
        np.testing.assert_allclose(found.online_s, asked.online_s, rtol=0, atol=1e-6)
        if end_s:
            np.testing.assert_array_equal(found.last_seen_s, asked.last_seen_s)
