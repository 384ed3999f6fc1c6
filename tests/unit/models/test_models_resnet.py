"""ResNets: parameter counts of the published networks, block by block, and the in-place layers."""

import pytest
import torch
from torch import nn

from neulite_sim.models.contract import Blueprint
from neulite_sim.models.resnet import RESNET18, RESNET34, BasicBlock
from neulite_sim.registry import component

CIFAR = (3, 32, 32)


def build(chosen, input_shape=CIFAR, num_classes=10, width=1.0):
    architecture = chosen.build(chosen.options())
    return Blueprint(architecture=architecture, input_shape=input_shape, num_classes=num_classes, width=width).build()


def num_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_both_are_registered_under_their_names():
    assert [component("model", kind) for kind in ("resnet18", "resnet34")] == [RESNET18, RESNET34]


@pytest.mark.parametrize(
    ("chosen", "blocks", "full"),
    [
        (RESNET18, [147_968, 525_568, 2_099_712, 8_393_728], 11_173_962),
        (RESNET34, [221_952, 1_116_416, 6_822_400, 13_114_368], 21_282_122),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_parameters_of_every_block_stem_and_head(chosen, blocks, full):
    model = build(chosen)
    stem = num_parameters(model.blocks[0].stem)
    counts = [num_parameters(block) for block in model.blocks]
    assert stem == 3 * 64 * 9 + 2 * 64 == 1856
    assert [counts[0] - stem, *counts[1:]] == blocks
    assert num_parameters(model.head) == 512 * 10 + 10 == 5130
    assert num_parameters(model) == full


def test_resnet18_has_9600_running_statistics_and_20_counters():
    """20 BatchNorm layers: 5 of 64, 5 of 128, 5 of 256 and 5 of 512 channels, mean and variance each."""
    buffers = list(build(RESNET18).buffers())
    statistics = [buffer for buffer in buffers if buffer.is_floating_point()]
    assert sum(buffer.numel() for buffer in statistics) == 2 * 5 * (64 + 128 + 256 + 512) == 9600
    assert len(buffers) - len(statistics) == 20


def test_half_the_width_quarters_a_block_but_for_its_vectors():
    conv = 4 * 32 * 32 * 9
    assert num_parameters(build(RESNET18, width=0.5).blocks[0]) == 3 * 32 * 9 + conv + 5 * 2 * 32


def test_tails_are_the_last_convolution_and_its_batch_norm():
    model = build(RESNET34, width=0.0625)
    for block, tail in zip(model.blocks, model.tails, strict=True):
        last = list(block.children())[-1]
        assert [block.get_submodule(path) for path in tail] == [last.conv2, last.bn2]
    assert model.tails == (("layer2.conv2", "layer2.bn2"), ("layer3.conv2", "layer3.bn2"),
                           ("layer5.conv2", "layer5.bn2"), ("layer2.conv2", "layer2.bn2"))  # fmt: skip


def test_parameter_names_start_with_their_block():
    names = {name.split(".")[0] + "." + name.split(".")[1] for name in build(RESNET18, width=0.0625).state_dict()}
    assert names == {"blocks.0", "blocks.1", "blocks.2", "blocks.3", "head.fc"}


@pytest.mark.parametrize(("side", "sides"), [(32, [32, 16, 8, 4]), (28, [28, 14, 7, 4]), (5, [5, 3, 2, 1])])
def test_sides_halve_from_the_second_block_on_rounded_up(side, sides):
    assert [shape[1:] for shape in build(RESNET18, (1, side, side), width=0.0625).block_shapes] == [
        (s, s) for s in sides
    ]


def test_in_place_layers_give_the_gradients_of_ones_that_are_not():
    torch.manual_seed(0)
    block = BasicBlock(3, 4, stride=2).double()
    images = torch.randn(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)

    def slow(x):
        out = torch.relu(block.bn1(block.conv1(x)))
        return torch.relu(block.bn2(block.conv2(out)) + block.shortcut(x))

    torch.testing.assert_close(block(images), slow(images))
    leaves = [images, *block.parameters()]
    fast_gradients = torch.autograd.grad(block(images).square().sum(), leaves)
    slow_gradients = torch.autograd.grad(slow(images).square().sum(), leaves)
    torch.testing.assert_close(fast_gradients, slow_gradients)


def test_a_block_leaves_its_input_as_it_was():
    torch.manual_seed(0)
    features = torch.randn(2, 4, 6, 6)
    before = features.clone()
    BasicBlock(4, 4, stride=1)(features)
    assert torch.equal(features, before)


def test_convolutions_start_with_variance_two_over_fan_out_and_batch_norm_as_identity():
    torch.manual_seed(0)
    block = build(RESNET18).blocks[3]
    weight = block.layer0.conv1.weight
    assert weight.shape == (512, 256, 3, 3)
    # 1.2 million values: the estimate is good to about 0.15 per cent.
    assert weight.var().item() == pytest.approx(2 / (512 * 9), rel=0.005)
    assert weight.mean().item() == pytest.approx(0, abs=1e-4)
    for layer in block.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all()
            assert (layer.bias == 0).all()
