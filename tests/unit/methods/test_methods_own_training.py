"""What a method has its own way with in the local training of a submodel."""

import math

import pytest

from neulite_sim.errors import SimulationError
from neulite_sim.methods.contract import Method, OwnTraining
from neulite_sim.scenario.learning_rate import learning_rate
from neulite_sim.scenario.schema import Training

FALLING = Training.model_validate({"learning_rate_schedule": "cosine", "epochs": 3})


def test_a_method_trains_as_the_scenario_says_unless_it_says_otherwise():
    assert Method().own_training("full") == OwnTraining()
    assert OwnTraining().applied(FALLING) is FALLING


def test_a_learning_rate_of_its_own_is_the_same_in_every_round():
    own = OwnTraining(learning_rate=0.5).applied(FALLING)
    assert [learning_rate(own, number, 10) for number in (1, 5, 10)] == [0.5] * 3
    assert (own.epochs, own.momentum, own.batch_size) == (3, FALLING.momentum, FALLING.batch_size)


def test_epochs_of_its_own_leave_the_learning_rate_as_it_is():
    own = OwnTraining(epochs=7).applied(FALLING)
    assert own == FALLING.model_copy(update={"epochs": 7})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"learning_rate": 0.0}, r"^learning_rate of OwnTraining must be a positive number, is 0\.0$"),
        ({"learning_rate": -1.0}, r"must be a positive number, is -1\.0$"),
        ({"learning_rate": math.nan}, r"must be a positive number, is nan$"),
        ({"learning_rate": math.inf}, r"must be a positive number, is inf$"),
        ({"epochs": 0}, r"^epochs of OwnTraining must be a whole number from 1 on, is 0$"),
        ({"epochs": 1.5}, r"must be a whole number from 1 on, is 1\.5$"),
        ({"steps": 0}, r"^steps of OwnTraining must be a whole number from 1 on, is 0$"),
        ({"epochs": 2, "steps": 3}, r"^OwnTraining is told to last 2 epochs and 3 steps; leave one of them out$"),
        ({"epochs": True}, r"must be a whole number from 1 on, is True$"),
    ],
)
def test_what_nobody_can_train_with_is_refused(given, message):
    with pytest.raises(SimulationError, match=message):
        OwnTraining(**given)
