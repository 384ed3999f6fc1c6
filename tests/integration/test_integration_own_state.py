"""Networks of one's own whose state is not just parameters: they train as in PyTorch, and nothing passes between devices.

With one device, whose only batch holds all of its samples, federated averaging is plain gradient descent.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import neulite_sim

FEATURES, CLASSES, ROUNDS = 12, 4, 12


def samples(count: int) -> tuple[Any, Any]:
    inputs = np.random.default_rng(0).normal(size=(count, FEATURES)).astype(np.float32) + 1
    return inputs, (inputs[:, 0] > 1) + 2 * (inputs[:, 1] > 1)


class Network(nn.Module):
    """Two layers around what a subclass puts between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, CLASSES)

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = self.last(self.between(self.first(rows)).tanh())
        return found

    def between(self, rows: Tensor) -> Tensor:
        return rows


class Tied(Network):
    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(FEATURES, FEATURES, bias=False)
        self.second.weight = self.first.weight

    def between(self, rows: Tensor) -> Tensor:
        found: Tensor = self.second(rows.tanh())
        return found


class Standardised(nn.Module):
    """A norm of one's own, without parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("variance", torch.ones(FEATURES))

    def forward(self, rows: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.mean.mul_(0.5).add_(rows.mean(0), alpha=0.5)
                self.variance.mul_(0.5).add_(rows.var(0), alpha=0.5)
        return (rows - self.mean) / self.variance.sqrt()


class Holding(Network):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def between(self, rows: Tensor) -> Tensor:
        found: Tensor = self.layer(rows)
        return found


class OwnNorm(Network):
    """The same without a layer around it: the network itself holds the buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))

    def between(self, rows: Tensor) -> Tensor:
        if self.training:
            self.mean.mul_(0.5).add_(rows.detach().mean(0), alpha=0.5)
        return rows - self.mean


AS_IN_PYTORCH: dict[str, Callable[[], nn.Module]] = {
    "tied": Tied,
    "a norm of one's own": lambda: Holding(Standardised()),
    "a buffer of the network": OwnNorm,
    "batch norm without weights": lambda: Holding(nn.BatchNorm1d(FEATURES, affine=False)),
    "nested norm without weights": lambda: Holding(
        nn.Sequential(nn.Sequential(nn.BatchNorm1d(FEATURES, affine=False)))
    ),
}


def scenario(**changes: Any) -> dict[str, Any]:
    return {
        "name": "own",
        "data": {"options": {"normalise": False}},
        "population": {
            "devices": 1,
            "groups": [{"device": "raspberry-pi-4-4gb", "share": 1}],
            "available_memory": {"kind": "installed", "share": 0.5},
        },
        "training": {"batch_size": 64, "learning_rate": 0.3, "epochs": 1, "momentum": 0, "weight_decay": 0},
        "selection": {"kind": "uniform", "devices_per_round": 1},
        "stop": {"rounds": ROUNDS},
        "method": "fedavg",
        "backend": "inprocess",
        **changes,
    }


@pytest.mark.parametrize("name", AS_IN_PYTORCH)
def test_with_one_device_and_one_batch_it_is_gradient_descent(name: str) -> None:
    torch.manual_seed(0)
    network = AS_IN_PYTORCH[name]()
    inputs, labels = samples(64)
    result = neulite_sim.simulate(scenario(), model=copy.deepcopy(network), data=(inputs, labels, inputs, labels))

    rows, targets = torch.from_numpy(inputs), torch.from_numpy(labels).long()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.3)
    for number in range(ROUNDS):
        network.train()
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(rows), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        network.eval()
        with torch.no_grad():
            tested = functional.cross_entropy(network(rows), targets)
        found = result.rounds[number]
        assert found["train_loss"] == pytest.approx(loss.item(), rel=1e-4)
        assert found["test_loss"] == pytest.approx(tested.item(), rel=1e-4)
    assert result.rounds[-1]["train_loss"] < result.rounds[0]["train_loss"]


def test_what_has_two_names_is_charged_and_sent_once() -> None:
    torch.manual_seed(0)
    inputs, labels = samples(64)
    result = neulite_sim.simulate(scenario(stop={"rounds": 1}), model=Tied(), data=(inputs, labels))
    (flight,) = result.flights
    count = sum(parameter.numel() for parameter in Tied().parameters())
    assert flight["bytes_down"] == flight["bytes_up"] == 4 * count


class Counting(Network):
    def __init__(self, keep: Callable[[nn.Module], None], step: Callable[[Any], Any]) -> None:
        super().__init__()
        keep(self)
        self._step = step

    def between(self, rows: Tensor) -> Tensor:
        return rows * self._step(self) if self.training else rows


class Steps:
    """An object of one's own that a network keeps."""

    def __init__(self) -> None:
        self.taken = [0.0]


def one_more(numbers: Any) -> Any:
    numbers[0] = numbers[0] + 1
    return 1 / numbers[0]


def keep_pair(network: Any) -> None:
    network.steps = {"inner": [0.0]}
    network.same = network.steps["inner"]


def count(network: Any) -> float:
    network.steps = getattr(network, "steps", 0) + 1
    return 1 / network.steps


LEFT_BEHIND: dict[str, Callable[[], nn.Module]] = {
    "a whole number": lambda: Counting(
        lambda network: network.register_buffer("steps", torch.zeros(1, dtype=torch.long)),
        lambda network: one_more(network.steps),
    ),
    "a buffer that is not kept": lambda: Counting(
        lambda network: network.register_buffer("steps", torch.zeros(1), persistent=False),
        lambda network: one_more(network.steps),
    ),
    "a tensor": lambda: Counting(
        lambda network: setattr(network, "steps", torch.zeros(1)), lambda network: one_more(network.steps)
    ),
    "an array": lambda: Counting(
        lambda network: setattr(network, "steps", np.zeros(1)), lambda network: one_more(network.steps)
    ),
    "a number": lambda: Counting(lambda network: setattr(network, "steps", 0), count),
    "a number that comes later": lambda: Counting(lambda network: None, count),
    "a list": lambda: Counting(
        lambda network: setattr(network, "steps", [0.0]), lambda network: one_more(network.steps)
    ),
    "within a mapping": lambda: Counting(keep_pair, lambda network: one_more(network.steps["inner"])),
    "by another name": lambda: Counting(keep_pair, lambda network: one_more(network.same)),
    "an object": lambda: Counting(
        lambda network: setattr(network, "steps", Steps()), lambda network: one_more(network.steps.taken)
    ),
    "a generator of Python": lambda: Counting(
        lambda network: setattr(network, "own", random.Random(1)), lambda network: network.own.random()
    ),
    "a generator of NumPy": lambda: Counting(
        lambda network: setattr(network, "own", np.random.default_rng(1)), lambda network: network.own.random()
    ),
    "a generator of PyTorch": lambda: Counting(
        lambda network: setattr(network, "own", torch.Generator().manual_seed(1)),
        lambda network: torch.rand(1, generator=network.own),
    ),
}


@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_what_a_training_leaves_in_a_network_is_not_found_by_the_next(name: str) -> None:
    inputs, labels = samples(200)
    digests = []
    for workers in (1, 3):
        torch.manual_seed(0)
        changes = scenario(
            population={**scenario()["population"], "devices": 6},
            selection={"kind": "uniform", "devices_per_round": 3},
            training={"batch_size": 10, "learning_rate": 0.1, "epochs": 1},
            stop={"rounds": 2},
            backend={"kind": "inprocess", "workers": workers},
        )
        result = neulite_sim.simulate(changes, model=LEFT_BEHIND[name], data=(inputs, labels))
        digests.append(result.summary["digest"])
    assert digests[0] == digests[1]
