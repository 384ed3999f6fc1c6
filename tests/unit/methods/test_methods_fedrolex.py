"""FedRolex: the window per round in both directions, and plain means over it."""

from dataclasses import replace

import pytest
import torch
from thin_models import CONV1, CONV2, HEAD, HEAD_BIAS, NORM, RATES, TOY, constant, everywhere, method


def windows(direction, rounds=5):
    """Return which of four channels the half width holds in each round."""
    fedrolex = method("fedrolex", direction=direction)
    state = fedrolex.start(TOY, 0, None)
    numbered = {**state.tensors, NORM: torch.arange(4.0)}
    states = (replace(state, version=number, tensors=numbered) for number in range(rounds))
    return [fedrolex.payload(each, "width-0.5")[NORM].int().tolist() for each in states]


def test_the_window_moves_forward_by_one_channel_per_round():
    assert windows("forward") == [[0, 1], [1, 2], [2, 3], [3, 0], [0, 1]]


def test_the_window_of_the_reference_code_moves_backward():
    assert windows("backward") == [[0, 1], [3, 0], [2, 3], [1, 2], [0, 1]]


def worked(direction, version=1):
    """Return tensors after rates 1, 1/2, 1/4 sent 3, 6, 12 in round 1 onto a model of -1."""
    fedrolex = method("fedrolex", rates=RATES, direction=direction)
    state = fedrolex.start(TOY, 0, None)
    state = replace(state, version=version, tensors=everywhere(state, -1.0))
    sent = zip(fedrolex.submodels, (3.0, 6.0, 12.0), strict=True)
    return fedrolex.digest(state, [constant(fedrolex, state, name, value, (0,)) for name, value in sent]).tensors


def test_round_one_of_the_reference_direction():
    tensors = worked("backward")
    assert tensors[CONV1][:, 0, 2, 2].tolist() == [4.5, 3, 3, 7]
    corners = [[4.5, 3, 3, 4.5], [3, 3, 3, 3], [3, 3, 3, 3], [4.5, 3, 3, 7]]
    assert tensors[CONV2][:, :, 0, 0].tolist() == corners


def test_round_one_of_the_papers_direction():
    tensors = worked("forward")
    assert tensors[CONV1][:, 0, 2, 2].tolist() == [3, 7, 4.5, 3]
    assert tensors[CONV2][:, :, 0, 0].tolist() == [[3, 3, 3, 3], [3, 7, 4.5, 3], [3, 4.5, 4.5, 3], [3, 3, 3, 3]]


def test_vectors_and_classifier_take_the_plain_mean():
    """7 where all three overlap; the reference code's growing counter would give 8.5."""
    tensors = worked("backward")
    assert tensors[NORM].tolist() == [4.5, 3, 3, 7]
    assert tensors[HEAD].tolist() == [[4.5, 3, 3, 7]] * 3
    assert tensors[HEAD_BIAS].tolist() == [7, 7, 7]


def test_an_update_is_put_back_where_its_own_version_was_cut():
    """Under protocols that let updates arrive late, the state has moved on by then."""
    fedrolex = method("fedrolex", rates=RATES)
    old = fedrolex.start(TOY, 0, None)
    late = constant(fedrolex, old, "width-0.25", 9.0)
    new = replace(old, version=2, tensors=everywhere(old, -1.0))
    assert fedrolex.digest(new, [late]).tensors[NORM].tolist() == [9, -1, -1, -1]


def test_four_rounds_of_the_smallest_width_reach_every_channel():
    fedrolex = method("fedrolex", rates=RATES)
    state = fedrolex.start(TOY, 0, None)
    state = replace(state, tensors=everywhere(state, -1.0))
    for _ in range(4):
        state = fedrolex.digest(state, [constant(fedrolex, state, "width-0.25", 9.0)])
    assert state.tensors[CONV1].unique().tolist() == [9]
    assert state.tensors[NORM].unique().tolist() == [9]


def test_updates_are_weighed_alike_or_by_samples():
    for weighting, expected in (("uniform", 4.5), ("samples", 5.25)):
        fedrolex = method("fedrolex", weighting=weighting)
        state = fedrolex.start(TOY, 0, None)
        updates = [constant(fedrolex, state, "full", value) for value in (3.0, 6.0)]
        updates[1] = replace(updates[1], num_samples=3)
        assert fedrolex.digest(state, updates).tensors[CONV2].unique().tolist() == [pytest.approx(expected)]


def test_a_submodel_is_trained_at_its_width_and_offered_by_name():
    fedrolex = method("fedrolex")
    assert fedrolex.submodels == ("full", "width-0.5", "width-0.25", "width-0.125", "width-0.0625")
    state = fedrolex.start(TOY, 0, None)
    for submodel in fedrolex.submodels:
        shapes = {name: tensor.shape for name, tensor in fedrolex.trainee(submodel, TOY).travelling()}
        assert {name: tensor.shape for name, tensor in fedrolex.payload(state, submodel).items()} == shapes
