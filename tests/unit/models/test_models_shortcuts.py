"""Layers as workers run them give the bits of PyTorch's own, and what is unusual is left to those."""

import pytest
import torch
from thin_models import blueprint
from torch import nn

from neulite_sim.models.shortcuts import take_shortcuts
from neulite_sim.models.trainee import FullModel

MAPS = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
LAYERS = {
    "norm": lambda: nn.BatchNorm2d(4),
    "norm of rows": lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(100)),
    "norm without momentum": lambda: nn.BatchNorm2d(4, momentum=None),
    "norm without weights": lambda: nn.BatchNorm2d(4, affine=False),
    "norm without statistics": lambda: nn.BatchNorm2d(4, track_running_stats=False),
    "strided": lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "grouped, padded alike": lambda: nn.Conv2d(4, 4, 3, padding="same", groups=2, bias=False),
    "circular": lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
}


def outcomes(layer, *, is_training):
    layer.train(is_training)
    maps = MAPS.clone().requires_grad_()
    results = [layer(maps * scale) for scale in (1.0, 2.0)]
    sum(result.square().sum() for result in results).backward()
    state = {name: tensor for name, tensor in layer.state_dict().items() if tensor.is_floating_point()}
    return [*results, maps.grad, *state.values(), *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_results_statistics_and_gradients_keep_their_bits(name, is_training):
    found = []
    for takes in (False, True):
        torch.manual_seed(1)
        layer = LAYERS[name]()
        if takes:
            take_shortcuts(layer)
        found.append(outcomes(layer, is_training=is_training))
    assert all(map(torch.equal, *found))


def test_what_is_refused_is_refused_in_the_same_words():
    layer = nn.BatchNorm2d(4)
    take_shortcuts(layer)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        layer(torch.ones(1, 4, 1, 1))
    with pytest.raises(ValueError, match="expected 4D input"):
        layer(torch.ones(2, 4))


def test_batches_are_counted_only_where_a_layer_reads_the_count():
    layers = nn.Sequential(nn.BatchNorm2d(4), nn.BatchNorm2d(4, momentum=None))
    take_shortcuts(layers)
    layers(MAPS)
    assert [int(layer.num_batches_tracked) for layer in layers] == [0, 1]


class Louder(nn.BatchNorm2d):
    def forward(self, features):
        return super().forward(features) * 10


def test_a_forward_of_somebodys_own_and_hooks_stay_in_place():
    own, patched, hooked = Louder(4), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
    patched.forward = lambda features: features * 7
    hooked.register_forward_hook(lambda _layer, _inputs, output: output * 3)
    for layer in (own, patched, hooked):
        take_shortcuts(layer)
    usual = nn.BatchNorm2d(4)(MAPS)
    assert torch.equal(own(MAPS), usual * 10)
    assert torch.equal(patched(MAPS), MAPS * 7)
    assert torch.equal(hooked(MAPS), usual * 3)


def test_they_are_taken_twice_and_by_a_whole_network_without_another_state():
    model = FullModel(blueprint("resnet18", width=0.05))
    names = list(model.state_dict())
    take_shortcuts(model)
    take_shortcuts(model)
    assert list(model.state_dict()) == names
