"""`timm:NAME`: classifiers of timm in blocks that compute what timm's own do; skipped where timm is not installed."""

import importlib.util
import pickle

import pytest
import torch

from neulite_sim.errors import ScenarioError, UnknownComponentError
from neulite_sim.models import timm_classifier
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.noise import noise
from neulite_sim.models.timm_classifier import COMPONENT, timm_network
from neulite_sim.registry import component
from neulite_sim.samples import InputSpec

IMAGES = InputSpec(shape=(1, 32, 32), num_classes=7)
needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")


def blueprint(name, spec=IMAGES, blocks=None):
    architecture = COMPONENT.build(COMPONENT.options(blocks=blocks), name)
    return Blueprint(architecture=architecture.settled(spec, batch_size=8, state_copies=1), spec=spec)


def test_it_is_registered_under_its_name():
    assert component("model", "timm:resnet18") is COMPONENT


def test_without_the_package_the_line_that_installs_it_is_said(monkeypatch):
    monkeypatch.setattr(timm_classifier.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UnknownComponentError, match=r"timm:NAME needs the package timm; pip install "
                                                    r"'neulite-sim\[timm\]'"):  # fmt: skip
        COMPONENT.build(COMPONENT.options(), "resnet18")


def test_samples_that_are_no_images_are_refused():
    with pytest.raises(ScenarioError, match=r"timm:resnet18 reads images only, and samples are of shape \(20,\)"):
        timm_network("resnet18", (20,), 3)


@pytest.mark.slow
@needs_timm
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "vit_tiny_patch16_224", "convnext_atto"])
def test_cut_or_whole_the_logits_are_the_same_to_the_bit_in_training_too(name):
    own = blueprint(name)
    model = own.build_seeded(3)
    assert model.num_blocks == 4
    assert pickle.loads(pickle.dumps(own)) == own
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        theirs = timm_network(name, IMAGES.shape, IMAGES.num_classes)
        inputs = noise(IMAGES, 3)
        for is_training in (True, False):
            found = []
            for network in (model, theirs):
                torch.manual_seed(5)
                found.append(network.train(is_training)(inputs))
            assert torch.equal(*found)


@needs_timm
def test_an_unknown_name_is_refused_with_close_ones_and_weights_are_not_loaded():
    with pytest.raises(UnknownComponentError, match=r"timm:resnet19 is none of the [\d,]+ classifiers of timm; did you "
                                                    r"mean 'resnet1"):  # fmt: skip
        COMPONENT.build(COMPONENT.options(), "resnet19")
    with pytest.raises(UnknownComponentError, match=r"timm:resnet18\.a1_in1k names weights, and none are loaded; use "
                                                    r"timm:resnet18"):  # fmt: skip
        COMPONENT.build(COMPONENT.options(), "resnet18.a1_in1k")


@needs_timm
def test_more_blocks_than_parts_are_refused_by_its_name():
    with pytest.raises(ScenarioError, match=r"model\.blocks: is 99, but timm:resnet18 is a chain of 9 part\(s\)"):
        blueprint("resnet18", blocks=99)


@pytest.mark.slow
@needs_timm
def test_images_that_a_network_cannot_take_are_refused_with_their_shape():
    with pytest.raises(ScenarioError, match=r"timm:.* fails on a batch of shape|timm:.* cannot take images of 1x8x8"):
        blueprint("inception_v3", InputSpec(shape=(1, 8, 8), num_classes=7))
