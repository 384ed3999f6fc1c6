"""`torchvision:NAME`: any classifier as one block, and what is refused."""

import pytest
import torch

from neulite_sim.errors import ScenarioError, UnknownComponentError
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.torchvision_classifier import COMPONENT
from neulite_sim.registry import component
from neulite_sim.torchvision_compat import torchvision_module


def blueprint(name, shape=(3, 32, 32), num_classes=7, width=1.0):
    architecture = COMPONENT.build(COMPONENT.options(), name)
    return Blueprint(architecture=architecture, input_shape=shape, num_classes=num_classes, width=width)


def test_it_is_registered_under_its_name():
    assert component("model", "torchvision:alexnet") is COMPONENT


def test_the_network_is_torchvisions_own():
    model = blueprint("squeezenet1_1").build_seeded(3).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        theirs = torchvision_module("models").squeezenet1_1(num_classes=7).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(images), theirs(images), rtol=0, atol=0)


def test_it_is_one_block_that_puts_out_the_logits_and_a_head_without_parameters():
    model = blueprint("resnet18").build_meta()
    assert (model.num_blocks, model.block_shapes) == (1, ((7, 1, 1),))
    assert model.blocks[0](torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 7, 1, 1)
    assert list(model.head.parameters()) == []


@pytest.mark.parametrize("name", ["vit_b_16", "googlenet", "maxvit_t"])
def test_special_cases_build(name):
    side = 224 if name == "maxvit_t" else 64
    model = blueprint(name, (3, side, side)).build_meta().train()
    assert model(torch.empty(2, 3, side, side, device="meta")).shape == (2, 7)


def test_width_leaves_it_as_it_is():
    assert [t.shape for t in blueprint("alexnet", (3, 64, 64)).build_meta().state_dict().values()] == [
        t.shape for t in blueprint("alexnet", (3, 64, 64), width=0.5).build_meta().state_dict().values()
    ]


def test_an_unknown_name_is_refused_with_close_ones():
    with pytest.raises(UnknownComponentError, match=r"torchvision:resnet19 is not a classifier.*did you mean 'resnet1"):
        COMPONENT.build(COMPONENT.options(), "resnet19")
    with pytest.raises(UnknownComponentError, match="torchvision:fasterrcnn_resnet50_fpn is not a classifier"):
        COMPONENT.build(COMPONENT.options(), "fasterrcnn_resnet50_fpn")


def test_images_that_are_too_small_are_refused_with_their_shape():
    with pytest.raises(ScenarioError, match=r"torchvision:alexnet cannot take images of 3x16x16: .*use larger images"):
        blueprint("alexnet", (3, 16, 16)).build()


def test_grey_images_are_refused():
    with pytest.raises(
        ScenarioError, match=r"cannot take images of 1x28x28: it reads 3 channels; use images in colour"
    ):
        blueprint("resnet18", (1, 28, 28)).build()
