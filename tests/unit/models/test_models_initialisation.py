"""Initial weights: everything is drawn anew, and from the current generator alone."""

import torch
from torch import nn

from neulite_sim.models.initialisation import initialise


def small_network():
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 4), nn.LayerNorm(4))


def test_it_overwrites_every_parameter_and_buffer_whatever_stood_there():
    first, second = small_network(), small_network()
    for parameter in first.parameters():
        nn.init.constant_(parameter, 7.0)
    first[1].running_mean.fill_(3.0)
    for network in (first, second):
        torch.manual_seed(0)
        initialise(network)
    for ours, theirs in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_biases_of_convolutions_start_at_zero():
    network = small_network()
    initialise(network)
    assert (network[0].bias == 0).all()


def test_another_seed_gives_other_weights():
    network = small_network()
    torch.manual_seed(0)
    initialise(network)
    before = network[0].weight.detach().clone()
    torch.manual_seed(1)
    initialise(network)
    assert not torch.equal(before, network[0].weight)
