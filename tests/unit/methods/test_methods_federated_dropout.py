"""Federated Dropout: who holds which channels, and the mean over whoever holds a scalar."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from thin_models import (
    CONV1,
    CONV2,
    HEAD,
    HEAD_BIAS,
    NORM,
    RATES,
    STATISTICS,
    TOY,
    Peaks,
    blueprint,
    constant,
    everywhere,
    method,
)

from neulite_sim.engine.merging import mixed
from neulite_sim.methods import federated_dropout
from neulite_sim.models.trainee import load_tensors
from neulite_sim.seeding import stream
from neulite_sim.timeline.endings import Mixing

SETS = {0: ([0, 2], [1, 3]), 1: ([1, 2], [0, 3]), 2: ([3], [3]), 3: ([0, 1, 2, 3], [0, 1, 2, 3])}
"""What four devices hold of the toy's two streams: conv1's output and conv2's."""
SUBMODELS = {0: "width-0.5", 1: "width-0.5", 2: "width-0.25", 3: "full"}
VALUES = {0: 1.0, 1: 2.0, 2: 4.0, 3: 8.0}


@pytest.fixture
def by_hand(monkeypatch):
    """Let the devices hold the sets above, whatever the seed, and return the method."""

    def orders(seed, version, device, num_channels):
        rest = ([each for each in range(4) if each not in held] for held in SETS[device])
        return tuple(torch.tensor([*held, *left]) for held, left in zip(SETS[device], rest, strict=True))

    monkeypatch.setattr(federated_dropout, "drawn_orders", orders)
    return method("federated-dropout", rates=RATES)


def sent(chosen, state, device, submodel):
    return {**chosen.payload(state, submodel), **chosen.personal_payload(state, device, submodel)}


def update(chosen, state, device, submodel, value, num_samples=1):
    tensors = {name: torch.full_like(tensor, value) for name, tensor in sent(chosen, state, device, submodel).items()}
    made = constant(chosen, state, submodel, value, device=device)
    return replace(made, tensors=tensors, num_samples=num_samples)


def numbered(state):
    """Return a state whose scalars all differ."""
    tensors, first = {}, 0
    for name, tensor in state.tensors.items():
        tensors[name] = torch.arange(first, first + tensor.numel(), dtype=torch.float32).reshape(tensor.shape)
        first += tensor.numel()
    return replace(state, tensors=tensors)


def test_a_device_is_sent_the_product_of_its_sets(by_hand):
    state = numbered(by_hand.start(TOY, 0, None))
    got = sent(by_hand, state, 0, "width-0.5")
    assert torch.equal(got[CONV1], state.tensors[CONV1][[0, 2]])
    assert torch.equal(got[NORM], state.tensors[NORM][[0, 2]])
    assert torch.equal(got[STATISTICS], state.tensors[STATISTICS][[0, 2]])
    assert torch.equal(got[CONV2], state.tensors[CONV2][[1, 3]][:, [0, 2]])
    assert torch.equal(got[HEAD], state.tensors[HEAD][:, [1, 3]])
    assert torch.equal(got[HEAD_BIAS], state.tensors[HEAD_BIAS])


def test_the_mean_of_four_devices_worked_by_hand(by_hand):
    """Device 3 has everything and sends 8; the others send 1, 2 and 4 for what they hold."""
    state = by_hand.start(TOY, 0, None)
    updates = [update(by_hand, state, device, SUBMODELS[device], VALUES[device]) for device in range(4)]
    tensors = by_hand.digest(state, updates).tensors
    assert tensors[NORM].tolist() == [4.5, 5, pytest.approx(11 / 3), 6]
    assert tensors[CONV1][:, 0, 1, 1].tolist() == [4.5, 5, pytest.approx(11 / 3), 6]
    third = pytest.approx(11 / 3)
    assert tensors[CONV2][:, :, 0, 0].tolist() == [[8, 5, 5, 8], [4.5, 8, 4.5, 8], [8, 8, 8, 8], [4.5, 5, third, 6]]
    assert tensors[HEAD].tolist() == [[5, 4.5, 8, 3.75]] * 3
    assert tensors[HEAD_BIAS].tolist() == [3.75] * 3


def test_what_nobody_holds_stays_as_it_was(by_hand):
    state = by_hand.start(TOY, 0, None)
    state = replace(state, tensors=everywhere(state, -1.0))
    tensors = by_hand.digest(state, [update(by_hand, state, each, SUBMODELS[each], VALUES[each]) for each in (0, 2)])
    assert tensors.tensors[NORM].tolist() == [1, -1, 1, 4]
    assert tensors.tensors[CONV2][:, :, 2, 2].tolist() == [[-1] * 4, [1, -1, 1, -1], [-1] * 4, [1, -1, 1, 4]]
    assert tensors.tensors[HEAD][0].tolist() == [-1, 1, -1, 2.5]


def test_updates_are_weighed_alike_or_by_samples(by_hand):
    for weighting, expected in (("uniform", 3.75), ("samples", (1 + 2 * 2 + 4 * 3 + 8 * 4) / 10)):
        chosen = method("federated-dropout", rates=RATES, weighting=weighting)
        state = chosen.start(TOY, 0, None)
        updates = [update(chosen, state, each, SUBMODELS[each], VALUES[each], each + 1) for each in range(4)]
        assert chosen.digest(state, updates).tensors[HEAD_BIAS].tolist() == [pytest.approx(expected)] * 3


def held_rows(chosen, state, device, submodel, name):
    """Return which channels of a vector a device is sent, by numbering them."""
    tensor = torch.arange(float(len(state.tensors[name])))
    marked = replace(state, tensors={**state.tensors, name: tensor})
    return sent(chosen, marked, device, submodel)[name].int().tolist()


BLOCK = "blocks.1.layer{}"
"""The second stage of a ResNet18: its first layer has a shortcut with a convolution, its second one none."""


@pytest.fixture(scope="module")
def residual():
    chosen = method("federated-dropout", rates=(1.0, 0.3))
    return chosen, chosen.start(blueprint("resnet18", (1, 8, 8), width=0.25), 0, None)


def test_a_rate_keeps_that_share_of_every_layer_rounded_up(residual):
    chosen, state = residual
    for name, tensor in sent(chosen, state, 3, "width-0.3").items():
        own = state.tensors[name]
        for dimension, (kept, size) in enumerate(zip(tensor.shape, own.shape, strict=True)):
            is_whole = dimension > 1 or name == "head.fc.bias" or (name, dimension) == ("head.fc.weight", 0)
            is_whole |= (name, dimension) == ("blocks.0.stem.conv.weight", 1)
            assert kept == (size if is_whole else math.ceil(0.3 * size)), (name, dimension)


def test_layers_that_add_into_one_stream_share_their_set(residual):
    chosen, state = residual
    sets = {
        name: held_rows(chosen, state, 5, "width-0.3", f"blocks.1.{name}.weight")
        for name in ("layer0.bn1", "layer0.bn2", "layer0.shortcut.bn", "layer1.bn1", "layer1.bn2")
    }
    assert sets["layer0.bn2"] == sets["layer0.shortcut.bn"] == sets["layer1.bn2"]
    assert len({tuple(sets[name]) for name in ("layer0.bn1", "layer0.bn2", "layer1.bn1")}) == 3
    assert all(each == sorted(set(each)) for each in sets.values())


def test_a_layer_reads_the_set_that_the_one_before_it_put_out(residual):
    chosen, state = residual
    conv = "blocks.1.layer0.conv2.weight"
    places = torch.arange(float(state.tensors[conv].shape[1])).view(1, -1, 1, 1).expand(state.tensors[conv].shape)
    marked = replace(state, tensors={**state.tensors, conv: places.contiguous()})
    read = sent(chosen, marked, 5, "width-0.3")[conv][0, :, 0, 0].int().tolist()
    assert read == held_rows(chosen, state, 5, "width-0.3", "blocks.1.layer0.bn1.weight")


def test_sets_depend_on_round_device_and_seed_and_not_on_the_rate():
    chosen = method("federated-dropout", rates=(1.0, 0.5, 0.25))
    state = chosen.start(blueprint("cnn", (1, 8, 8)), 0, None)
    name = "blocks.1.conv2.bias"
    first = held_rows(chosen, state, 0, "width-0.5", name)
    assert first == held_rows(chosen, state, 0, "width-0.5", name)
    assert set(held_rows(chosen, state, 0, "width-0.25", name)) < set(first)
    assert first != held_rows(chosen, state, 1, "width-0.5", name)
    assert first != held_rows(chosen, replace(state, version=1), 0, "width-0.5", name)
    assert first != held_rows(federated_dropout.FederatedDropout(
        federated_dropout.FederatedDropoutOptions(), seed=1), state, 0, "width-0.5", name)  # fmt: skip


def test_the_orders_are_those_of_the_named_stream():
    rng = stream(7, "dropout-set", 3, 11)
    expected = [rng.permutation(5).tolist(), rng.permutation(2).tolist()]
    assert [each.tolist() for each in federated_dropout.drawn_orders(7, 3, 11, (5, 2))] == expected


def test_every_channel_is_held_equally_often():
    counts = np.zeros(8)
    for device in range(400):
        order = federated_dropout.drawn_orders(0, 0, device, (8,))[0]
        counts[order[:2].numpy()] += 1
    assert abs(counts - 100).max() < 40, "each of 400 devices holds two of eight channels; four deviations are 35"


@pytest.mark.parametrize("kind", ["resnet18", "vgg11_bn", "squeezenet", "vit", "cnn", "lenet"])
def test_what_is_sent_fills_the_thin_model_and_comes_back_to_its_place(kind):
    shape, width = {"vit": ((3, 8, 8), 0.1)}.get(kind, ((1, 8, 8), 0.125))
    chosen = method("federated-dropout", rates=(1.0, 0.4))
    model = blueprint(kind, shape, width=width)
    state = chosen.start(model, 0, None)
    for submodel in chosen.submodels:
        trainee = chosen.trainee(submodel, model)
        load_tensors(trainee, sent(chosen, state, 2, submodel))
    back = constant(chosen, state, "width-0.4", 0.0, device=2)
    back = replace(back, tensors=sent(chosen, state, 2, "width-0.4"))
    after = chosen.digest(state, [back])
    assert all(torch.equal(after.tensors[name], tensor) for name, tensor in state.tensors.items())


def test_an_update_is_put_back_where_its_own_round_and_device_had_it(by_hand):
    """Under protocols that let updates arrive late, the state has moved on by then."""
    chosen = method("federated-dropout", rates=RATES)
    old = chosen.start(TOY, 0, None)
    late = update(chosen, old, 2, "width-0.25", 9.0)
    new = replace(old, version=5, tensors=everywhere(old, -1.0))
    assert chosen.digest(new, [late]).tensors[NORM].tolist() == [-1, -1, -1, 9]


@pytest.mark.parametrize("anchor", ["current", "sent"])
def test_a_late_update_is_mixed_with_what_the_model_has_of_its_own_channels(anchor):
    chosen = method("federated-dropout", rates=RATES)
    old = numbered(chosen.start(TOY, 0, None))
    late = replace(update(chosen, old, 2, "width-0.25", 9.0), num_samples=1)
    new = replace(old, version=5, tensors=everywhere(old, 1.0))
    found = mixed(chosen, new, old, late, Mixing(rate=0.5, anchor=anchor)).tensors
    base = {"current": everywhere(old, 1.0), "sent": old.tensors}[anchor]
    held = sent(chosen, replace(old, tensors=base), 2, "width-0.25")
    for name, tensor in found.items():
        if "running" not in name:
            assert torch.equal(tensor, 1.0 + 0.5 * (9.0 - held[name])), name


def test_a_device_is_offered_the_largest_rate_that_fits():
    chosen = method("federated-dropout", rates=RATES)
    state = chosen.start(TOY, 0, None)
    proposal = chosen.offers(state, Peaks({"full": 4, "width-0.5": 2, "width-0.25": 1}, [0, 1, 3, 9]), np.arange(4))
    assert proposal.offers.taken(np.arange(3))[1] == ["width-0.25", "width-0.5", "full"]
    assert proposal.denials[0].devices.tolist() == [0]
