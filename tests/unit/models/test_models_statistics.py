"""A part that is run a second time, or only tried, collects nothing by it."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neulite_sim.models.statistics import statistics_kept
from neulite_sim.models.trainee import Trainee


class Averaging(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, maps: Tensor) -> Tensor:
        with torch.no_grad():
            self.steps += 1
            self.mean.mul_(0.5).add_(maps.mean((0, 2, 3)), alpha=0.5)
        return (maps - self.mean[:, None, None]) * self.steps


class Lucky(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.sin() * random.gauss(0, 1) * np.random.normal()  # noqa: NPY002


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.BatchNorm2d(4),
    "batch norm without weights": lambda: nn.BatchNorm2d(4, affine=False),
    "instance norm": lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 1)),
    "the older spectral norm": lambda: nn.utils.spectral_norm(nn.Conv2d(4, 4, 1)),
    "one of one's own": Averaging,
    "one that draws": Lucky,
}


def part(name: str) -> nn.Module:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    return nn.Sequential(nn.Conv2d(2, 4, 1), LAYERS[name](), nn.ReLU(), nn.Conv2d(4, 2, 1))


def maps() -> Tensor:
    return torch.randn(5, 2, 3, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize("name", LAYERS)
def test_a_checkpointed_part_computes_and_collects_what_it_does_without(name: str) -> None:
    found = []
    for checkpoints in (False, True):
        network, block = Trainee(), part(name)
        network.checkpoints_blocks = checkpoints
        for scale in (1.0, 2.0, 3.0):
            network.through(block, maps() * scale).square().sum().backward()  # type: ignore[no-untyped-call]
        gradients = [parameter.grad for parameter in block.parameters()]
        counters = ("num_batches_tracked",)
        state = [tensor for path, tensor in block.state_dict().items() if not path.endswith(counters)]
        found.append([tensor for tensor in (*gradients, *state) if tensor is not None])
    assert all(map(torch.equal, *found))


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize("name", LAYERS)
def test_a_pass_that_is_only_tried_leaves_everything_as_it_was(name: str) -> None:
    block = part(name)
    before = copy.deepcopy(block.state_dict())
    with torch.no_grad(), statistics_kept(block):
        block(maps())
        block(maps() * 2)
    assert all(torch.equal(before[path], tensor) for path, tensor in block.state_dict().items())
