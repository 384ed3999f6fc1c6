"""AllSmall: which width is chosen, that it is the global model, and FedAvg on it."""

import random
from dataclasses import replace

import numpy as np
import pytest
from thin_models import CONV1, TOY, Peaks, constant, method

from neulite_sim.models.trainee import load_tensors

PEAKS = {"full": 736, "width-0.5": 336, "width-0.25": 160, "width-0.125": 79, "width-0.0625": 40}
"""ResNet18 at batch 128, in MB, by hand."""


def published_pool():
    drawn = random.Random(42)
    return [drawn.randint(100, 900) for _ in range(100)]


@pytest.mark.parametrize(
    ("memory", "chosen"),
    [
        ([100, 400, 900], "width-0.125"),
        ([400, 900], "width-0.5"),
        ([736, 900], "full"),
        ([735, 900], "width-0.5"),
        ([79, 900], "width-0.125"),
        ([78, 900], "width-0.0625"),
        ([39, 900], "width-0.0625"),
    ],
)
def test_the_widest_model_that_fits_everybody_is_chosen(memory, chosen):
    allsmall = method("allsmall")
    assert allsmall.start(TOY, 0, Peaks(PEAKS, memory)).extra == chosen


def test_on_the_published_pool_resnet18_is_an_eighth_wide_and_resnet34_a_sixteenth():
    pool = published_pool()
    assert (len(pool), min(pool), max(pool)) == (100, 106, 891)
    thirty_four = {**PEAKS, "width-0.125": 133, "width-0.0625": 66}
    assert method("allsmall").choose(Peaks(PEAKS, pool)) == "width-0.125"
    assert method("allsmall").choose(Peaks(thirty_four, pool)) == "width-0.0625"


def test_a_device_without_data_has_no_say():
    ledger = Peaks(PEAKS, [100, 400, 900], owns_data=[False, True, True])
    assert method("allsmall").choose(ledger) == "width-0.5"


def test_everybody_is_offered_the_chosen_width():
    allsmall, ledger = method("allsmall"), Peaks(PEAKS, [100, 400, 900])
    proposal = allsmall.offers(allsmall.start(TOY, 0, ledger), ledger, np.arange(3))
    assert proposal.stage == "width-0.125"
    assert [proposal.offers[i].submodel for i in range(3)] == ["width-0.125"] * 3
    assert proposal.denials == ()


def test_whom_even_the_smallest_width_does_not_fit_is_denied_with_the_shortfall():
    allsmall, ledger = method("allsmall"), Peaks(PEAKS, [33, 400, 900])
    proposal = allsmall.offers(allsmall.start(TOY, 0, ledger), ledger, np.arange(3))
    assert proposal.offers.devices.tolist() == [1, 2]
    denied = proposal.denials[0]
    assert (denied.devices.tolist(), denied.submodel, denied.shortfall_bytes.tolist()) == ([0], "width-0.0625", [7])


def test_the_thin_model_is_the_one_that_is_tested():
    allsmall = method("allsmall")
    state = allsmall.start(TOY, 0, Peaks(PEAKS, [400]))
    assert allsmall.evaluated(state) == "width-0.5"
    model = allsmall.evaluation_model("width-0.5", TOY)
    load_tensors(model, allsmall.evaluation_tensors(state))
    assert model.get_parameter(CONV1).shape == (2, 1, 3, 3)


def test_the_payload_fits_the_trainee():
    allsmall = method("allsmall")
    state = allsmall.start(TOY, 0, Peaks(PEAKS, [400]))
    load_tensors(allsmall.trainee("width-0.5", TOY), allsmall.payload(state, "width-0.5"))


def test_aggregation_is_that_of_fedavg_and_the_width_stays():
    for weighting, expected in (("samples", 5.25), ("uniform", 4.5)):
        allsmall = method("allsmall", weighting=weighting)
        state = allsmall.start(TOY, 0, Peaks(PEAKS, [400]))
        updates = [constant(allsmall, state, "width-0.5", value) for value in (3.0, 6.0)]
        after = allsmall.digest(state, [updates[0], replace(updates[1], num_samples=3)])
        assert after.tensors[CONV1].unique().tolist() == [expected]
        assert (after.version, after.extra) == (1, "width-0.5")


def test_rates_can_be_chosen():
    assert method("allsmall", rates=(1.0, 0.75)).submodels == ("full", "width-0.75")
