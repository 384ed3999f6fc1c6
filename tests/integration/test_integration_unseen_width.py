"""Where no device holds the full width, HeteroFL's full model stays at chance and FedRolex's does not.

The effect of the paper's second table (ResNet34: HeteroFL 9.9 %, FedRolex 81.4 %), on digits: the shipped scenarios with
fewer rounds and fewer devices in each. Blind guesses on 360 images of ten classes are right 36 times, with a standard deviation of 5.7: an
accuracy of 0.1 and 0.0158. Four of those above chance is 0.163.
"""

import math
from pathlib import Path

import pytest

from neulite_sim.engine.simulation import simulate
from neulite_sim.scenario.loading import load_scenario

EFFECT = Path(__file__).parents[2] / "scenarios" / "effect"
NUM_TESTED, NUM_CLASSES = 360, 10
CHANCE = 1 / NUM_CLASSES
CEILING_OF_CHANCE = CHANCE + 4 * math.sqrt(CHANCE * (1 - CHANCE) / NUM_TESTED)


@pytest.fixture(scope="module")
def results():
    small = ("stop.rounds=20", "evaluation.every_rounds=20", "selection.devices_per_round=5")
    names = ("heterofl", "fedrolex")
    return {name: simulate(load_scenario(EFFECT / f"{name}_unseen_width.yaml", small)) for name in names}


@pytest.mark.slow
def test_both_train_a_quarter_of_the_width_on_every_device_and_never_more(results):
    for result in results.values():
        assert {row["submodel"] for row in result.flights} == {"width-0.25"}
        assert result.summary["participation_rate"] == 1.0


@pytest.mark.slow
def test_heterofl_stays_at_chance_although_its_devices_learn(results):
    """A model that knows nothing has a loss of ln 10, 2.30."""
    result = results["heterofl"]
    assert result.rounds[-1]["train_loss"] < math.log(NUM_CLASSES) / 2
    assert result.summary["final_accuracy"] < CEILING_OF_CHANCE


@pytest.mark.slow
def test_fedrolex_does_not(results):
    assert results["fedrolex"].summary["final_accuracy"] > 2 * CEILING_OF_CHANCE
