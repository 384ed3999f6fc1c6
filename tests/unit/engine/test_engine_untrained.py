"""Updates of which nothing is known but whose they are: the same whichever way they are asked for."""

import json
import math

import pytest
from made_flights import cost_of, flight_of

from neulite_sim.engine.replay import UNKNOWN, _entry_of
from neulite_sim.engine.untrained import Untrained
from neulite_sim.methods.contract import FoldOrder
from neulite_sim.methods.folding import Fold
from neulite_sim.timeline.columns import Flights

SIZES = [4, 9, 1, 6]


@pytest.fixture
def updates() -> Untrained:
    flights = [
        flight_of(5, cost=cost_of(3, "full"), version=2),
        flight_of(8, cost=cost_of(1, "half"), version=2),
        flight_of(6, cost=cost_of(7, "full"), version=1),
        flight_of(9, cost=cost_of(4, "full"), version=2),
    ]
    return Untrained(Flights.of(flights), SIZES)


def test_one_by_one_and_by_flight_they_are_the_same(updates: Untrained) -> None:
    assert list(updates) == [5, 8, 6, 9]
    assert len(updates) == 4
    found = [(each.device, each.submodel, each.version, each.num_samples) for each in updates.each()]
    assert found == [(3, "full", 2, 4), (1, "half", 2, 9), (7, "full", 1, 1), (4, "full", 2, 6)]
    assert found == [(each.device, each.submodel, each.version, each.num_samples) for each in updates.values()]
    assert all(math.isnan(each.loss) and each.tensors == {} for each in updates.each())
    with pytest.raises(KeyError):
        updates[7]


@pytest.mark.parametrize("weighting", ["samples", "uniform"])
def test_folded_they_are_what_a_fold_makes_of_them(updates: Untrained, weighting: str) -> None:
    fold = Fold(FoldOrder(number=5, weighting=weighting, most_weight=sum(SIZES)))
    for each in updates.each():
        fold.add(each)
    assert list(map(repr, updates.folded())) == list(map(repr, fold.updates()))


def test_the_line_that_is_kept_of_one_is_its_entry_in_json(updates: Untrained) -> None:
    for number, update in updates.items():
        line = UNKNOWN % (number, update.num_samples)
        assert line == json.dumps(_entry_of(number, update), separators=(",", ":")).encode()
