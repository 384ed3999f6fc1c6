"""What selectors are told of a run, and that they choose by it: any of them with any method."""

import math

import numpy as np
import pytest
from made_flights import flight_of

from neulite_sim.engine import building
from neulite_sim.engine.facts import Counts, RoundFacts, known_loss, loss_rms
from neulite_sim.engine.feedback import learns, tell_selector
from neulite_sim.engine.simulation import simulate
from neulite_sim.methods.contract import Update
from neulite_sim.scenario.schema import Scenario
from neulite_sim.selection.contract import Selector
from neulite_sim.timeline.endings import Ending, Endings
from neulite_sim.timeline.flights import Conditions, planned_outcome
from neulite_sim.timeline.legs import Steady

DEVICES = 6


def scenario(method="fedavg", selection=None, backend="inprocess", model="logistic", rounds=6, **population):
    return Scenario.model_validate(
        {
            "name": "told",
            "seed": 3,
            "data": {"kind": "synthetic", "shape": [1, 8, 8], "classes": 3, "samples": 60, "test_samples": 12},
            "model": model,
            "training": {"epochs": 1, "batch_size": 4, "learning_rate": 0.05},
            "population": {
                "devices": DEVICES,
                "groups": [{"device": "jetson-nano-4gb", "share": 1.0}],
                "available_memory": {"kind": "uniform", "low": "300MB", "high": "900MB"},
                **population,
            },
            "method": method,
            "selection": {"devices_per_round": 2, **(selection or {"kind": "uniform"})},
            "evaluation": {"every_rounds": 3},
            "stop": {"rounds": rounds},
            "backend": backend,
        }
    )


class Listener(Selector):
    """Keeps all it is told; chooses everybody and wants the model tested on devices 0 and 1, and on 2."""

    def __init__(self):
        self.told, self.accuracies, self.sizes = [], [], None

    def register(self, num_samples):
        assert not self.told
        self.sizes = num_samples.tolist()

    def num_to_choose(self, count, num_offers):
        return num_offers

    def choose(self, offers, count, rng):
        return np.arange(min(count, len(offers)), dtype=np.int64)

    def observe(self, feedback):
        self.told.append(list(feedback))

    def groups_to_test(self):
        return [np.array([0, 1]), np.array([2])]

    def observe_accuracies(self, accuracies):
        self.accuracies.append(accuracies)


@pytest.fixture
def listener(monkeypatch):
    found = Listener()
    monkeypatch.setattr(building, "build_selector", lambda scenario: found)
    return found


def ended(flight, device, seconds, offline_at_s=math.inf):
    outcome = planned_outcome(
        100.0,
        legs=(Steady(0.0), Steady(seconds), Steady(0.0)),
        conditions=Conditions(online_until_s=lambda at_s: offline_at_s, next_online_s=lambda at_s: math.inf),
    )
    return Ending(flight=flight_of(flight, device=device, at_s=100.0, round=4, version=3), outcome=outcome)


def facts(endings, learned):
    return RoundFacts(
        round=4, at_s=200.0, stage="full", learning_rate=0.1, ended=Endings.of(endings), learned=learned,
        counts=Counts(online=3, offered=0, denied=0, denied_by_memory=0, in_flight=0),
        stalenesses=dict.fromkeys(learned, 0), workers_replaced=0,
    )  # fmt: skip


def update(loss, **metrics):
    return Update(device=0, submodel="full", num_samples=5, tensors={}, loss=loss, metrics=metrics)


def test_flights_are_told_in_the_order_in_which_they_ended_the_lost_ones_too():
    endings = [ended(1, 0, 9.0), ended(2, 1, 5.0), ended(3, 2, 50.0, offline_at_s=103.0), ended(4, 3, 5.0)]
    learned = dict.fromkeys((1, 2, 4), update(1.0, squared_loss=4.0))
    selector = Listener()
    tell_selector(selector, facts(endings, learned), np.array([10, 11, 12, 13]))
    told = selector.told[0]
    assert [(item.device, item.duration_s, item.has_arrived) for item in told] == [
        (2, 3.0, False), (1, 5.0, True), (3, 5.0, True), (0, 9.0, True),
    ]  # fmt: skip
    assert [item.num_samples for item in told] == [12, 11, 13, 10]
    assert [item.loss_rms for item in told] == [None, 2.0, 2.0, 2.0]
    assert {item.round for item in told} == {4}


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_diverged_loss_is_unknown(loss):
    diverged = update(loss, squared_loss=loss)
    assert (known_loss(diverged), loss_rms(diverged)) == (None, None)
    assert loss_rms(update(1.0)) is None


def test_a_selector_hears_of_every_round_and_gets_its_tests(listener):
    simulate(scenario(rounds=3))
    assert [len(told) for told in listener.told] == [DEVICES] * 3
    assert all(item.loss_rms >= item.loss > 0 for told in listener.told for item in told)
    assert listener.sizes == [item.num_samples for item in sorted(listener.told[0], key=lambda item: item.device)]
    assert len(listener.accuracies) == 2, "after rounds 1 and 2; nothing is chosen after the third"
    # Device 2 owns 10 samples: its accuracy is a number of tenths.
    assert all(len(both) == 2 and round(both[1] * 10, 9) % 1 == 0 for both in listener.accuracies)


def test_where_nothing_is_trained_no_test_is_made_and_no_loss_is_told(listener):
    simulate(scenario(rounds=2, backend="dry-run"))
    assert [item.loss for told in listener.told for item in told] == [None] * 2 * DEVICES
    assert listener.accuracies == []


@pytest.mark.parametrize(
    "selection", [{"kind": "oort"}, {"kind": "tifl", "tiers": 2, "interval": 2, "waits_for_stall": False}]
)
@pytest.mark.parametrize("method", ["fedavg", "exclusivefl"])
def test_learning_selectors_run_and_repeat(method, selection):
    first, again = (simulate(scenario(method, selection)) for _ in range(2))
    assert first.summary["digest"] == again.summary["digest"]
    assert [row["selected"] for row in first.rounds] == [2] * 6


@pytest.mark.parametrize("kind", ["oort", "tifl"])
def test_learning_selectors_follow_the_stages_of_neulite(kind):
    away = {"availability": {"kind": "markov", "mean_on": "1min", "mean_off": "1min"}, "speed_jitter": 0.2}
    result = simulate(scenario("neulite", {"kind": kind}, model="cnn", backend="dry-run", rounds=12, **away))
    assert len({row["submodel"] for row in result.flights}) > 1
    assert result.summary["rounds"] == 12


def test_selectors_need_no_training_to_run():
    for kind in ("oort", "tifl"):
        assert simulate(scenario(selection={"kind": kind}, backend="dry-run", rounds=30)).summary["rounds"] == 30


def test_only_a_selector_with_a_way_to_observe_is_told():
    class Deaf(Selector):
        pass

    assert learns(Listener())
    assert not learns(Deaf())
