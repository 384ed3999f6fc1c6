"""What is remembered of a network's layers is what PyTorch says of it now."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neulite_sim.models.walk import layers_of, parameters_of, set_training, state_of


class Tied(nn.Module):
    """Layers that are met twice, names that are met with nothing, and buffers that are not kept."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.again = self.first
        self.nothing = None
        self.register_module("nobody", None)
        self.register_parameter("bias", None)
        self.register_buffer("kept", torch.zeros(2))
        self.register_buffer("passing", torch.zeros(2), persistent=False)
        self.register_buffer("missing", None)
        self.inner = nn.ModuleList([nn.BatchNorm2d(2, affine=False), nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())])


class Speaking(nn.Linear):
    """A layer with a state of its own."""

    def get_extra_state(self) -> Tensor:
        return torch.ones(1)


class Renaming(nn.Linear):
    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        del keep_vars
        destination[f"{prefix}own"] = self.weight


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "tied": Tied,
    "a layer": lambda: nn.BatchNorm2d(3),
    "nested": lambda: nn.Sequential(Tied(), nn.Sequential(Tied(), nn.Dropout())),
    "with a state of its own": lambda: nn.Sequential(nn.Linear(2, 2), Speaking(2, 2)),
    "with names of its own": lambda: Renaming(2, 2),
    "parametrised": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
    "empty": nn.Module,
}


def each_once(state: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
    """What is one tensor stands under its first name alone."""
    first: dict[int, str] = {}
    for name, tensor in state.items():
        first.setdefault(id(tensor), name)
    return [(name, tensor) for name, tensor in state.items() if first[id(tensor)] == name]


def assert_told(network: nn.Module) -> None:
    """Everything is the same object, under the same name, in the same order."""
    pairs: list[tuple[Any, Any]] = [
        (list(state_of(network).items()), each_once(network.state_dict(keep_vars=True))),
        (list(layers_of(network)), list(network.named_modules())),
        (list(parameters_of(network).items()), list(network.named_parameters())),
    ]
    for ours, theirs in pairs:
        assert [name for name, _ in ours] == [name for name, _ in theirs]
        for (_, mine), (name, yours) in zip(ours, theirs, strict=True):
            assert mine is yours or name.endswith("_extra_state")


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_what_pytorch_says_before_and_after_a_change(name: str) -> None:
    network = NETWORKS[name]()
    assert_told(network)
    network.added = nn.Sequential(nn.Linear(2, 2))
    assert_told(network)
    network.added[0] = nn.BatchNorm1d(2)
    assert_told(network)
    network.added[0].weight = nn.Parameter(torch.ones(2))
    network.added[0].register_buffer("more", torch.ones(1))
    assert_told(network)
    network.added.append(Speaking(2, 2))
    assert_told(network)
    del network.added
    assert_told(network)


def test_a_hook_that_comes_later_is_heard() -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    assert list(state_of(network)) == ["0.weight", "0.bias"]

    def without_bias(_layer: nn.Module, state: dict[str, Tensor], prefix: str, _metadata: Any) -> None:
        del state[f"{prefix}bias"]

    network[0].register_state_dict_post_hook(without_bias)
    assert list(state_of(network)) == ["0.weight"]


@pytest.mark.parametrize("name", NETWORKS)
def test_training_mode_is_that_of_train(name: str) -> None:
    network = NETWORKS[name]().eval()
    set_training(network)
    assert [layer.training for layer in network.modules()] == [True] * len(list(network.modules()))


def test_a_layer_that_has_a_way_of_its_own_to_train_keeps_it() -> None:
    class Frozen(nn.BatchNorm1d):
        def train(self, mode: bool = True) -> Frozen:
            return super().train(False)

    network = nn.Sequential(nn.Linear(2, 2), Frozen(2)).eval()
    set_training(network)
    assert [layer.training for layer in network.modules()] == [True, True, False]


def test_a_network_that_is_gone_is_forgotten() -> None:
    network = Tied()
    assert_told(network)
    gone = weakref.ref(network)
    del network
    gc.collect()
    assert gone() is None
