"""How often a run keeps its weights: as the scenario says, or as far as it hardly costs any time."""

from types import SimpleNamespace

import pytest
from tiny_scenarios import TINY

from neulite_sim.engine import replay
from neulite_sim.engine.replay import FolderKeeper
from neulite_sim.engine.simulation import keeper_of
from neulite_sim.scenario.loading import parse_scenario


@pytest.fixture
def clock(monkeypatch):
    """A wall clock that stands still but for a second in which a checkpoint is written."""
    now = SimpleNamespace(s=100.0)

    def write(*_, **__):
        now.s += 1.0

    monkeypatch.setattr(replay.time, "perf_counter", lambda: now.s)
    monkeypatch.setattr(replay, "write_checkpoint", write)
    return now


@pytest.fixture
def ask(clock):
    """What gathers for a second what a checkpoint holds."""

    def gather():
        clock.s += 1.0

    return gather


def test_where_the_scenario_leaves_it_open_checkpoints_rest_twenty_times_as_long_as_they_take(tmp_path, clock, ask):
    keeper = FolderKeeper(tmp_path, every_rounds=10, packages=frozenset(), is_paced=True)
    keeper.begin()
    assert [keeper.is_due(number) for number in (9, 10)] == [False, True]
    keeper.checkpoint(ask)
    clock.s += 39.9
    assert not keeper.is_due(20)
    clock.s += 0.1
    assert [keeper.is_due(number) for number in (29, 30)] == [False, True]
    keeper.close()


@pytest.mark.parametrize(("given", "rests"), [({}, True), ({"checkpoint": {"every_rounds": 10}}, False)])
def test_a_number_of_rounds_that_is_given_is_kept_to(tmp_path, ask, given, rests):
    keeper = keeper_of(SimpleNamespace(scenario=parse_scenario({**TINY, **given}), method=object()), tmp_path)
    keeper.begin()
    keeper.checkpoint(ask)
    assert keeper.is_due(20) is not rests
    keeper.close()
