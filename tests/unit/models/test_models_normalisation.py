"""GroupNorm in the place of BatchNorm: in every architecture and every trainee, with the same weights."""

from __future__ import annotations

import pytest
import torch
from thin_models import blueprint, fitting
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from neulite_sim.engine.charging import build_trainee
from neulite_sim.methods.contract import Setting
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.normalisation import normalised_in_groups, num_groups
from neulite_sim.registry import component, names
from neulite_sim.scenario.schema import Training


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (15, 1), (16, 1), (31, 1), (32, 2), (48, 3), (50, 2), (64, 4), (67, 1), (512, 32)]
)
def test_groups_are_equal_and_hold_sixteen_channels_or_more(channels: int, groups: int) -> None:
    assert num_groups(channels) == groups
    assert channels % groups == 0


def test_each_sample_is_normalised_by_itself_as_written_out() -> None:
    layer = nn.BatchNorm2d(32)
    with torch.no_grad():
        layer.weight.uniform_(0.5, 2.0)
        layer.bias.uniform_(-1.0, 1.0)
    norm = normalised_in_groups(layer)
    inputs = torch.randn(3, 32, 5, 4, dtype=torch.float64)
    found = norm.double()(inputs)
    for sample in range(3):
        for first in (0, 16):
            group = inputs[sample, first : first + 16]
            standard = (group - group.mean()) / (group.var(unbiased=False) + layer.eps).sqrt()
            weight, bias = (each[first : first + 16].view(-1, 1, 1) for each in (layer.weight, layer.bias))
            assert torch.allclose(found[sample, first : first + 16], standard * weight + bias, atol=1e-10)


def test_a_layer_in_two_places_stays_one() -> None:
    shared = nn.BatchNorm1d(4)
    found = normalised_in_groups(nn.ModuleDict({"a": shared, "b": nn.Sequential(shared, nn.ReLU())}))
    layers = [layer for layer in found.modules() if isinstance(layer, nn.GroupNorm)]
    assert len(layers) == 1
    assert layers[0].weight is shared.weight


def grouped(kind: str, shape: tuple[int, int, int]) -> Blueprint:
    plain = blueprint(kind, shape, 0.25)
    return Blueprint(architecture=plain.architecture, spec=plain.spec, width=plain.width, name=kind, norm="group")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"),
    dict.fromkeys((fitting(name, kind), name) for kind in ("resnet18", "vgg11_bn") for name in names("method")),
)
def test_no_method_trains_a_batch_norm_then(kind: str, name: str) -> None:
    """Not in what it adds of its own either: surrogates, classifiers, links."""
    plan = grouped(kind, (3, 32, 32))
    model, found = plan.build_meta(), component("method", name)
    layers = tuple(map(len, model.layers))
    setting = Setting(num_blocks=model.num_blocks, num_layers=layers, num_devices=3, max_rounds=8, seed=0,
                      charged=plan, training=Training(batch_size=4))  # fmt: skip
    built = found.build(found.options(), setting)
    with torch.device("meta"):
        for submodel in built.submodels:
            trainee = build_trainee(built, submodel, plan)
            assert not [path for path, layer in trainee.named_modules() if isinstance(layer, _BatchNorm)]
            assert any(isinstance(layer, nn.GroupNorm) for layer in trainee.modules())
    assert not any(isinstance(layer, _BatchNorm) for layer in model.modules())


def test_weights_begin_as_with_batch_norm() -> None:
    plain, plan = blueprint("resnet18", (3, 32, 32), 0.25), grouped("resnet18", (3, 32, 32))
    before, after = plain.build_seeded(3).state_dict(), plan.build_seeded(3).state_dict()
    assert after.keys() == {name for name in before if not name.endswith(("running_mean", "running_var", "tracked"))}
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
