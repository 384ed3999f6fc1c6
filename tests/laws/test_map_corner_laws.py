"""Laws of networks whose maps grow, shrink to one place, have one channel, or one to three dimensions of places.

Each method either trains such a network, with a finite loss and a gradient for all that it trains, or refuses in words.
"""

from __future__ import annotations

import pytest
import torch
from slow_cases import some_slow
from tiny_scenarios import TINY
from torch import Tensor, nn

from neulite_sim.api.whatif import whatif
from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import ScenarioError
from neulite_sim.methods.contract import Setting
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.given import given_architecture
from neulite_sim.models.noise import noise
from neulite_sim.registry import component
from neulite_sim.samples import InputSpec

SPEC = InputSpec(shape=(1, 8, 8), num_classes=10)
OTHERWISE = {
    "neulite": ({}, {"surrogate": "conv-bn-relu"}, {"coadaptation": False}),
    "profl": ({"shrinking_rounds": 1, "growing_rounds": 1},),
    "progfed": ({},),
    "depthfl": ({}, {"classifier": "linear"}),
    "fedepth": ({}, {"link": "conv"}),
    "cocofl": ({},),
}


def conv(before: int, after: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> nn.Module:
    return nn.Conv2d(before, after, kernel, stride, padding)


CHAINS = {
    "doubles": lambda: [conv(1, 4), nn.ReLU(), conv(4, 4), nn.ReLU(), nn.ConvTranspose2d(4, 3, 4, 2, 1), conv(3, 3)],
    "grows by one": lambda: [conv(1, 3), nn.ReLU(), conv(3, 3, 4, 1, 2), nn.ReLU(), conv(3, 3, 4, 1, 2)],
    "one place and back": lambda: [conv(1, 4, 8, 8, 0), nn.ReLU(), conv(4, 4), nn.Upsample(scale_factor=3), conv(4, 4)],
    "one place throughout": lambda: [conv(1, 4, 8, 8, 0), nn.ReLU(), conv(4, 2), nn.ReLU(), conv(2, 4)],
    "taller and narrower": lambda: [
        conv(1, 3), nn.Conv2d(3, 3, (1, 4), (1, 4)), nn.Upsample(scale_factor=(2, 1)), conv(3, 3), conv(3, 3),
    ],
    "one channel": lambda: [conv(1, 1), nn.ReLU(), conv(1, 1), nn.ReLU(), conv(1, 1, 3, 2), conv(1, 1)],
    "sequences": lambda: [
        nn.Flatten(2), nn.Conv1d(1, 3, 3, 2, 1), nn.ReLU(), nn.ConvTranspose1d(3, 3, 4, 4), nn.Conv1d(3, 1, 3, 1, 1),
        nn.Conv1d(1, 2, 128), nn.Conv1d(2, 2, 1),
    ],
    "volumes": lambda: [
        nn.Unflatten(2, (2, 4)), nn.Conv3d(1, 2, 3, 1, 1), nn.ConvTranspose3d(2, 2, 2, 2), nn.Conv3d(2, 2, 4, 4),
        nn.Conv3d(2, 3, 1),
    ],
    "rows of one feature": lambda: [nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 1), nn.Linear(1, 9)],
    "rows, then maps": lambda: [
        nn.Flatten(), nn.Linear(64, 16), nn.Unflatten(1, (1, 4, 4)), nn.ConvTranspose2d(1, 3, 2, 2), conv(3, 3),
    ],
}  # fmt: skip


QUICK = ("doubles", "one place and back", "one channel", "sequences")


class Network(nn.Module):
    """A chain of layers, and a classifier on the mean of its last map."""

    def __init__(self, name: str, num_classes: int = SPEC.num_classes) -> None:
        super().__init__()
        self.features = nn.Sequential(*CHAINS[name]())
        width = [layer for layer in self.features if hasattr(layer, "weight")][-1]
        channels = getattr(width, "out_channels", None) or width.out_features
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.head(x.flatten(2).mean(2) if x.ndim > 2 else x)


def blueprint(name: str) -> Blueprint:
    given = given_architecture(Network(name)).settled(SPEC, batch_size=8, state_copies=1)
    return Blueprint(architecture=given, spec=SPEC)


def trained_or_refused(method, submodel, charged):
    """Return the trainee; None where the method says that maps are not such as it can read."""
    try:
        return method.trainee(submodel, charged)
    except ScenarioError as refusal:
        said = str(refusal)
    assert any(words in said for words in ("attention looks at maps of images", "fedepth links each block to the head"))
    return None


@pytest.mark.parametrize("name", some_slow(CHAINS, lambda name: name not in QUICK))
@pytest.mark.parametrize("kind", OTHERWISE)
def test_each_method_trains_such_a_network_or_refuses_it_in_words(kind, name):
    torch.manual_seed(0)
    charged = blueprint(name)
    num_blocks = charged.build().num_blocks
    assert num_blocks > 1
    inputs, labels_B = noise(SPEC, 4), torch.arange(4)
    for options in OTHERWISE[kind]:
        chosen = component("method", kind)
        setting = Setting(num_blocks=num_blocks, num_devices=3, max_rounds=6, seed=1)
        method = chosen.build(chosen.options(**options), setting)
        for submodel in method.submodels:
            trainee = trained_or_refused(method, submodel, charged)
            if trainee is None:
                continue
            for part in range(getattr(trainee, "num_parts", 1)):
                if hasattr(trainee, "enter"):
                    trainee.enter(part)
                trainee.prepare()
                trainee.zero_grad()
                loss, _ = trainee.loss(inputs, labels_B)
                assert torch.isfinite(loss)
                loss.backward()
                trained = [parameter for parameter in trainee.parameters() if parameter.requires_grad]
                assert trained
                assert all(parameter.grad is not None for parameter in trained)


def test_a_study_prices_all_methods_on_a_network_whose_maps_grow():
    data = {"kind": "synthetic", "shape": [1, 8, 8], "samples": 40, "test_samples": 10, "partition": "iid"}
    mapping = {**TINY, "data": data, "training": {"batch_size": 4}}
    mapping.pop("model")
    methods = ["fedavg", "neulite", {"kind": "profl", "shrinking_rounds": 1, "growing_rounds": 1}, "progfed", "fedepth"]
    found = whatif(mapping, memory=["1GB"], methods=methods, model=Network("doubles"))
    assert not found.content["not_applicable"]
    assert [row["participation_rate"] for row in found.rows] == [1.0] * 5


@pytest.mark.slow
@pytest.mark.parametrize("method", ["neulite", {"kind": "profl", "shrinking_rounds": 1, "growing_rounds": 1}])
@pytest.mark.parametrize("name", ["doubles", "one place and back"])
def test_such_a_network_learns_in_a_run(name, method):
    data = {"kind": "synthetic", "shape": [1, 8, 8], "samples": 40, "test_samples": 10, "partition": "iid"}
    mapping = {**TINY, "data": data, "training": {"batch_size": 4}, "method": method, "backend": "inprocess"}
    mapping.pop("model")
    result = simulate(mapping, model=Network(name))
    assert result.summary["flights_arrived"] > 0
