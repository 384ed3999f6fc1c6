"""Laws of cutting: any network that is made of the pieces below is, in blocks, the same network to the bit."""

import copy

import pytest
import torch
from given_models import IMAGES, ROWS, Residual
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from neulite_sim.models.contract import Blueprint
from neulite_sim.models.given import given_architecture
from neulite_sim.models.noise import noise

BATCH = 4
STEPS = ("conv", "norm", "relu", "relu_", "dropout", "double_", "residual", "sum", "pool", "scale")
ROW_STEPS = ("linear", "norm1d", "relu", "relu_", "dropout", "double_", "sum", "scale")


class Drawn(nn.Module):
    """Applies drawn steps in turn, some of them by a submodule and some written out, and then a classifier.

    With `sum` the map of the step before last is added, so that two tensors are alive in between.
    """

    def __init__(self, steps: tuple[str, ...], channels: int, *, is_image: bool) -> None:
        super().__init__()
        self.steps = steps
        self.first = nn.Conv2d(1, channels, 3, padding=1) if is_image else nn.Linear(20, channels)
        self.layers = nn.ModuleList(self._layer(step, channels) for step in steps)
        self.scales = nn.ParameterList(nn.Parameter(torch.full((1,), 0.5)) for _ in steps)
        self.out = nn.Linear(channels, 10 if is_image else 4)
        self.is_image = is_image

    def _layer(self, step: str, channels: int) -> nn.Module:
        if step == "conv":
            return nn.Conv2d(channels, channels, 3, padding=1)
        if step == "residual":
            return Residual(channels, channels)
        if step == "linear":
            return nn.Linear(channels, channels)
        return {"norm": nn.BatchNorm2d, "norm1d": nn.BatchNorm1d}.get(step, nn.Identity)(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        before = x
        for number, (step, layer) in enumerate(zip(self.steps, self.layers, strict=True)):
            earlier, before = before, x
            if step == "relu":
                x = F.relu(x)
            elif step == "relu_":
                x = F.relu_(x.clone()) if number % 2 else torch.relu_(x * 1)
            elif step == "double_":
                x = x + 1
                x *= 2
            elif step == "dropout":
                x = F.dropout(x, 0.2, self.training)
            elif step == "sum":
                x = x + earlier
            elif step == "pool":
                before = x = F.max_pool2d(x, 3, 1, 1)
            elif step == "scale":
                x = x * self.scales[number]
            else:
                x = layer(x)
        if self.is_image:
            x = F.adaptive_avg_pool2d(x, 1).view(x.shape[0], -1)
        return self.out(x)


def require_same(network, spec, blocks):
    architecture = given_architecture(network, blocks=blocks).settled(spec, batch_size=8, state_copies=1)
    model = Blueprint(architecture=architecture, spec=spec).build()
    whole = copy.deepcopy(network)
    names = {name.split(".", 2 if name.startswith("blocks") else 1)[-1]: p for name, p in model.named_parameters()}
    used = {name: p for name, p in whole.named_parameters() if name in names}
    for is_training in (True, False):
        inputs, found = noise(spec, BATCH), []
        for either in (model.train(is_training), whole.train(is_training)):
            torch.manual_seed(1)
            found.append(either(inputs))
            found[-1].square().sum().backward()
        assert torch.equal(*found)
    unused = [name for name, p in whole.named_parameters() if name not in names and p.grad is not None]
    assert not unused
    for name, parameter in used.items():
        assert (parameter.grad is None) == (names[name].grad is None)
        assert parameter.grad is None or torch.equal(parameter.grad, names[name].grad)
    return model


@pytest.mark.slow
@given(st.lists(st.sampled_from(STEPS), max_size=8), st.sampled_from([2, 5]), st.sampled_from([None, 1]))
@settings(max_examples=25, deadline=None)
def test_a_network_of_images_in_blocks_is_the_same_network(steps, channels, blocks):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        require_same(Drawn(tuple(steps), channels, is_image=True), IMAGES, blocks)


@given(st.lists(st.sampled_from(ROW_STEPS), max_size=8), st.sampled_from([2, 5]))
@settings(max_examples=15, deadline=None)
def test_a_network_of_rows_in_blocks_is_the_same_network(steps, channels):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        require_same(Drawn(tuple(steps), channels, is_image=False), ROWS, None)


@pytest.mark.slow
@given(st.lists(st.sampled_from(["conv", "norm", "relu", "relu_", "pool", "residual"]), min_size=1, max_size=8))
@settings(max_examples=15, deadline=None)
def test_a_sequence_in_blocks_is_the_same_sequence(kinds):
    made = {
        "conv": lambda: nn.Conv2d(3, 3, 3, padding=1), "norm": lambda: nn.BatchNorm2d(3), "relu": nn.ReLU,
        "relu_": lambda: nn.ReLU(inplace=True), "pool": lambda: nn.AvgPool2d(3, 1, 1), "residual": lambda: Residual(3, 3),
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # PyTorch itself refuses to change in place what a ReLU put out.
        kinds = [kind for before, kind in zip(["conv", *kinds], kinds, strict=False)
                 if kind != "relu_" or before not in ("relu", "relu_", "residual")]  # fmt: skip
        body = [nn.Conv2d(1, 3, 3, padding=1), *(made[kind]() for kind in kinds)]
        network = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10))
        model = require_same(network, IMAGES, None)
        assert model.num_blocks == min(4, 1 + sum(kind in ("conv", "residual") for kind in kinds))
