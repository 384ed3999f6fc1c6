"""HeteroFL: leading slices, means over what overlaps, classifier rows by label, and what happens to outer channels."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from thin_models import CONV1, CONV2, HEAD, HEAD_BIAS, NORM, RATES, STATISTICS, TOY, Peaks, constant, everywhere, method

from neulite_sim.engine.assembly import prepare
from neulite_sim.engine.simulation import simulate
from neulite_sim.methods.contract import Update
from neulite_sim.scenario.schema import Scenario


def worked(**options):
    """Return the state after rates 1, 1/2, 1/4 sent 3, 6, 12 with labels {0, 1}, {0, 1}, {1} onto a model of -1."""
    heterofl = method("heterofl", rates=RATES, **options)
    state = heterofl.start(TOY, 0, None)
    state = replace(state, tensors=everywhere(state, -1.0))
    sent = zip(heterofl.submodels, (3.0, 6.0, 12.0), ((0, 1), (0, 1), (1,)), strict=True)
    return heterofl.digest(state, [constant(heterofl, state, name, value, owned) for name, value, owned in sent])


def test_channels_are_averaged_over_those_who_hold_them():
    tensors = worked().tensors
    assert tensors[CONV1][:, 0, 0, 0].tolist() == [7, 4.5, 3, 3]
    assert tensors[CONV1].amax(dim=(1, 2, 3)).tolist() == tensors[CONV1].amin(dim=(1, 2, 3)).tolist()
    assert tensors[NORM].tolist() == [7, 4.5, 3, 3]


def test_running_statistics_are_averaged_like_weights():
    assert worked().tensors[STATISTICS].tolist() == [7, 4.5, 3, 3]


def test_inputs_and_outputs_of_a_convolution_are_both_sliced():
    expected = [[7, 4.5, 3, 3], [4.5, 4.5, 3, 3], [3, 3, 3, 3], [3, 3, 3, 3]]
    assert worked().tensors[CONV2][:, :, 1, 1].tolist() == expected


def test_rows_of_the_classifier_are_averaged_over_the_owners_of_the_label():
    tensors = worked().tensors
    assert tensors[HEAD].tolist() == [[4.5, 4.5, 3, 3], [7, 4.5, 3, 3], [-1, -1, -1, -1]]
    assert tensors[HEAD_BIAS].tolist() == [4.5, 7, -1]


def test_rows_of_all_labels_can_be_averaged_alike():
    tensors = worked(classifier_rows=False).tensors
    assert tensors[HEAD].tolist() == [[7, 4.5, 3, 3]] * 3
    assert tensors[HEAD_BIAS].tolist() == [7, 7, 7]


def test_updates_are_weighed_alike_or_by_samples():
    for weighting, expected in (("uniform", 4.5), ("samples", 5.25)):
        heterofl = method("heterofl", weighting=weighting)
        state = heterofl.start(TOY, 0, None)
        updates = [constant(heterofl, state, "full", value, (0, 1, 2)) for value in (3.0, 6.0)]
        updates[1] = replace(updates[1], num_samples=3)
        assert heterofl.digest(state, updates).tensors[CONV2].unique().tolist() == [expected]


def test_a_digest_counts_versions_and_keeps_names_types_and_the_state_before():
    heterofl = method("heterofl", rates=RATES)
    state = heterofl.start(TOY, 0, None)
    before = {name: tensor.clone() for name, tensor in state.tensors.items()}
    after = heterofl.digest(state, [constant(heterofl, state, "width-0.25", 9.0, (0,))])
    assert after.version == 1
    assert list(after.tensors) == list(before)
    assert {tensor.dtype for tensor in after.tensors.values()} == {torch.float32}
    assert all(torch.equal(state.tensors[name], tensor) for name, tensor in before.items())


def test_updates_without_tensors_change_nothing():
    """What the dry run returns."""
    heterofl = method("heterofl")
    state = heterofl.start(TOY, 0, None)
    empty = Update(device=0, submodel="width-0.5", num_samples=1, tensors={}, loss=0.0)
    assert all(heterofl.digest(state, [empty]).tensors[name] is tensor for name, tensor in state.tensors.items())


def test_payloads_fit_the_trainees():
    heterofl = method("heterofl")
    state = heterofl.start(TOY, 0, None)
    for submodel in heterofl.submodels:
        shapes = {name: tensor.shape for name, tensor in heterofl.trainee(submodel, TOY).travelling()}
        assert {name: tensor.shape for name, tensor in heterofl.payload(state, submodel).items()} == shapes


def test_every_device_is_offered_the_largest_width_that_fits():
    heterofl = method("heterofl", rates=RATES)
    ledger = Peaks({"full": 840, "width-0.5": 336, "width-0.25": 160}, [900, 336, 335, 100])
    proposal = heterofl.offers(heterofl.start(TOY, 0, None), ledger, np.arange(4))
    assert [proposal.offers[i].submodel for i in range(3)] == ["full", "width-0.5", "width-0.25"]
    assert [(item.devices.tolist(), item.shortfall_bytes.tolist()) for item in proposal.denials] == [([3], [60])]


def test_the_method_travels_to_workers():
    heterofl = pickle.loads(pickle.dumps(method("heterofl", rates=RATES)))
    assert heterofl.submodels == ("full", "width-0.5", "width-0.25")


def scenario(memory, kind):
    return Scenario.model_validate(
        {
            "name": "thin",
            "data": {"kind": "synthetic", "shape": [1, 8, 8], "classes": 2, "samples": 32, "test_samples": 8},
            "model": {"kind": "cnn"},
            "training": {"epochs": 1, "batch_size": 8, "learning_rate": 0.05},
            "population": {
                "devices": 2,
                "groups": [{"device": "jetson-nano-4gb", "share": 1.0}],
                "available_memory": {"kind": "explicit", "values": [memory, memory]},
            },
            "method": {"kind": kind, "rates": [1, 0.5]},
            "selection": {"kind": "uniform", "devices_per_round": 2},
            "stop": {"rounds": 2},
            "evaluation": {"every_rounds": 2},
            "backend": {"kind": "inprocess"},
        }
    )


def changed_channels(kind, memory):
    """Return per output channel of the second block's first convolution whether two rounds have changed it."""
    found, parts = simulate(scenario(memory, kind)), prepare(scenario(memory, kind))
    before = parts.method.start(parts.trained, parts.scenario.seed, None).tensors
    name = "blocks.1.conv1.bias"
    assert {row["submodel"] for row in found.flights} == {"width-0.5"}
    return found.memory.weights[name].ne(before[name]).tolist()


BETWEEN = "1MB"
"""Less than the cnn needs at batch 8, more than its half."""


def test_where_nobody_fits_the_full_width_the_outer_channels_never_change():
    changed = changed_channels("heterofl", BETWEEN)
    assert any(changed[:32])
    assert not any(changed[32:])


def test_a_rolling_window_reaches_the_channel_beyond():
    changed = changed_channels("fedrolex", BETWEEN)
    assert changed[32]
    assert not any(changed[33:])


@pytest.mark.parametrize("option", ["scaler", "masked_cross_entropy"])
def test_scaler_and_mask_can_be_switched_off(option):
    losses = []
    for value in (True, False):
        torch.manual_seed(1)
        trainee = method("heterofl", **{option: value}).trainee("width-0.5", TOY)
        trainee.see_labels(torch.tensor([0, 1]))
        # Without batch statistics BatchNorm does not undo the scaler.
        trainee.prepare(has_batch_statistics=False)
        losses.append(trainee.loss(torch.ones(2, 1, 4, 4), torch.tensor([0, 1]))[0].item())
    assert losses[0] != pytest.approx(losses[1], abs=1e-6)
