"""`cnn`, `lenet` and `logistic`: parameter counts by hand, shapes, refused sizes."""

import pytest
import torch

from neulite_sim.errors import ScenarioError
from neulite_sim.models.cnn import COMPONENT as CNN
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.lenet import COMPONENT as LENET
from neulite_sim.models.logistic import COMPONENT as LOGISTIC
from neulite_sim.registry import component


def build(chosen, input_shape, width=1.0, num_classes=10):
    architecture = chosen.build(chosen.options())
    return Blueprint(architecture=architecture, input_shape=input_shape, num_classes=num_classes, width=width).build()


def num_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_three_are_registered_under_their_names():
    assert [component("model", kind) for kind in ("cnn", "lenet", "logistic")] == [CNN, LENET, LOGISTIC]


def test_cnn_parameters_for_cifar():
    model = build(CNN, (3, 32, 32))
    assert num_parameters(model.blocks[0]) == (3 * 9 * 32 + 32) + (32 * 9 * 32 + 32)
    assert num_parameters(model.blocks[1]) == (32 * 9 * 64 + 64) + (64 * 9 * 64 + 64)
    assert num_parameters(model.head) == (64 * 8 * 8 * 128 + 128) + (128 * 10 + 10)


def test_cnn_halves_the_sides_in_each_block_rounded_down():
    assert build(CNN, (1, 28, 15)).block_shapes == ((32, 14, 7), (64, 7, 3))


def test_cnn_scales_channels_and_the_hidden_layer():
    model = build(CNN, (3, 8, 8), width=0.25)
    assert model.block_shapes == ((8, 4, 4), (16, 2, 2))
    assert model.head.fc1.out_features == 32


@pytest.mark.parametrize("shape", [(1, 3, 8), (3, 8, 3), (20, 1, 1)])
def test_cnn_refuses_images_that_would_vanish_with_their_size(shape):
    text = "x".join(map(str, shape))
    with pytest.raises(ScenarioError, match=f"needs sides of at least 4, the input is {text}; use larger images"):
        build(CNN, shape)


def test_cnn_takes_the_smallest_images():
    assert build(CNN, (1, 4, 4))(torch.zeros(2, 1, 4, 4)).shape == (2, 10)


@pytest.mark.parametrize(("shape", "parameters"), [((1, 32, 32), 61_706), ((1, 28, 28), 61_706), ((3, 32, 32), 62_006)])
def test_lenet_has_the_published_number_of_parameters(shape, parameters):
    """156 + 2416 + 48120 + 10164 + 850; two more input channels add 2 * 6 * 25."""
    assert num_parameters(build(LENET, shape)) == parameters


@pytest.mark.parametrize(("side", "after"), [(32, (14, 5)), (28, (14, 5)), (8, (14, 5)), (1, (14, 5)), (64, (30, 13))])
def test_lenet_works_on_a_field_of_32_for_smaller_images_and_on_larger_ones_as_they_are(side, after):
    assert [shape[1] for shape in build(LENET, (1, side, side)).block_shapes] == list(after)


def test_lenet_scales_channels_and_hidden_layers():
    model = build(LENET, (1, 28, 28), width=0.5)
    assert [shape[0] for shape in model.block_shapes] == [3, 8]
    assert (model.head.fc1.out_features, model.head.fc2.out_features) == (60, 42)


def test_logistic_is_one_weight_per_pixel_and_class_and_a_bias():
    model = build(LOGISTIC, (3, 8, 8), num_classes=7)
    assert num_parameters(model) == 3 * 8 * 8 * 7 + 7
    assert [num_parameters(block) for block in model.blocks] == [0]


def test_logistic_is_the_linear_map_of_the_flattened_image():
    model = build(LOGISTIC, (2, 3, 4))
    images = torch.arange(48.0).view(2, 2, 3, 4)
    expected = images.view(2, 24) @ model.head.fc.weight.T + model.head.fc.bias
    torch.testing.assert_close(model(images), expected)


@pytest.mark.parametrize("chosen", [CNN, LENET], ids=lambda chosen: chosen.kind)
def test_tails_name_the_last_convolution_of_each_block(chosen):
    model = build(chosen, (3, 32, 32))
    for block, tail in zip(model.blocks, model.tails, strict=True):
        convolutions = [layer for layer in block if isinstance(layer, torch.nn.Conv2d)]
        assert [block.get_submodule(path) for path in tail] == convolutions[-1:]
