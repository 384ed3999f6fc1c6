"""`torchvision:NAME`: any classifier in blocks that compute what it computes whole, and what is refused."""

import itertools
import pickle

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from neulite_sim.errors import ScenarioError, UnknownComponentError
from neulite_sim.models.balancing import balanced_cuts
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.torchvision_classifier import COMPONENT
from neulite_sim.profiling.identity import identity_of
from neulite_sim.registry import component
from neulite_sim.samples import InputSpec
from neulite_sim.torchvision_compat import classifier_of, torchvision_module


def blueprint(name, shape=(3, 32, 32), num_classes=7, width=1.0, blocks=None):
    architecture = COMPONENT.build(COMPONENT.options(blocks=blocks), name)
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


STAGES = {
    "alexnet": 3, "vgg11": 5, "squeezenet1_0": 3, "resnet18": 4, "resnet50": 4, "regnet_y_400mf": 4, "densenet121": 4,
    "mobilenet_v2": 7, "mobilenet_v3_small": 5, "mobilenet_v3_large": 6, "efficientnet_b0": 7, "mnasnet0_5": 6,
    "convnext_tiny": 4, "swin_t": 4, "swin_v2_t": 4, "vit_b_16": 3, "shufflenet_v2_x0_5": 3, "googlenet": 3,
    "inception_v3": 3, "maxvit_t": 4,
}  # fmt: skip


def side_of(name):
    return {"maxvit_t": 224, "inception_v3": 80}.get(name, 64)


def whole(name, num_classes=7):
    settings = {"vit_b_16": {"image_size": 64}, "maxvit_t": {"input_size": (224, 224)}}.get(name, {})
    if name in ("googlenet", "inception_v3"):
        settings = {"aux_logits": False, "init_weights": True}
    return classifier_of(name, num_classes=num_classes, **settings)


def shapes_of(module):
    return sorted(tuple(tensor.shape) for tensor in module.state_dict().values())


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_each_family_is_cut_by_its_own_stages_and_keeps_every_tensor(name):
    side = side_of(name)
    model = blueprint(name, (3, side, side)).build_meta()
    assert model.num_blocks == STAGES[name]
    with torch.device("meta"):
        network = whole(name)
    assert shapes_of(model) == shapes_of(network)
    maps = torch.empty(2, 3, side, side, device="meta")
    for block, stated in zip(model.blocks, model.block_shapes, strict=True):
        maps = block(maps)
        assert maps.shape == (2, *stated)
    assert model.head(maps).shape == (2, 7)


SMALL = ["squeezenet1_1", "mobilenet_v3_small", "mnasnet0_5", "shufflenet_v2_x0_5", "regnet_y_400mf", "googlenet"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "blocks"), [*((name, None) for name in SMALL), ("shufflenet_v2_x0_5", 4)])
def test_cut_or_whole_the_logits_are_the_same_to_the_bit_in_training_too(name, blocks):
    model = blueprint(name, blocks=blocks).build_seeded(3)
    images = torch.randn(2, 3, 64, 64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        theirs = whole(name)
        found = []
        for network in (model, theirs):
            torch.manual_seed(5)
            found.append(network.train()(images))
    assert torch.equal(*found)


def test_layers_end_in_the_convolution_and_its_norm_and_shortcuts_lie_beside_the_first():
    model = blueprint("resnet18").build_meta()
    assert model.tails[0] == ("layer1_1.conv2", "layer1_1.bn2")
    assert model.layers[1][0] == ("layer2_0.conv1", "layer2_0.bn1", "layer2_0.downsample")
    fire = blueprint("squeezenet1_1", (3, 64, 64)).build_meta()
    assert fire.tails[0] == ("features_4.expand1x1", "features_4.expand3x3")


def test_tokens_pass_between_the_blocks_of_vit_as_channels_and_length_and_an_encoder_stands_for_a_block():
    model = blueprint("vit_b_32", (3, 64, 64)).build_meta()
    assert model.block_shapes == ((768, 5),) * 3
    surrogate = model.basic_layer((768, 5), (768, 5))
    assert surrogate(torch.zeros(2, 768, 5)).shape == (2, 768, 5)


def test_cuts_that_are_settled_for_one_size_of_images_hold_for_another():
    architecture = COMPONENT.build(COMPONENT.options(blocks=3), "mobilenet_v3_small")
    settled = architecture.settled(InputSpec(shape=(3, 64, 64), num_classes=7), batch_size=32, state_copies=1)
    again = architecture.settled(InputSpec(shape=(3, 64, 64), num_classes=7), batch_size=32, state_copies=1)
    assert settled == again
    assert len(settled.cuts) == 2
    model = Blueprint(architecture=settled, input_shape=(3, 32, 32), num_classes=7).build_meta()
    assert model.num_blocks == 3
    assert pickle.loads(pickle.dumps(settled)) == settled


@pytest.mark.parametrize("num_blocks", [1, 2, 3, 5])
def test_balanced_cuts_are_those_of_brute_force(num_blocks):
    weights = [5, 1, 7, 2, 9]

    def peak(begin, end):
        return sum(weights[:end]) // 2 + sum(weights[begin:end])

    def largest(cuts):
        return max(peak(*pair) for pair in itertools.pairwise((0, *cuts, len(weights))))

    best = min(largest(cuts) for cuts in itertools.combinations(range(1, len(weights)), num_blocks - 1))
    assert largest(balanced_cuts(len(weights), num_blocks, peak)) == best


def test_more_blocks_than_parts_are_refused():
    with pytest.raises(ScenarioError, match=r"model\.blocks: is 14, but torchvision:alexnet is a chain of 8 part\(s\); "
                                            r"use 1 to 8, or leave it out"):  # fmt: skip
        blueprint("alexnet", (3, 64, 64), blocks=14).build_meta()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["regnet_y_400mf", "shufflenet_v2_x0_5"])
def test_networks_whose_builders_look_at_values_are_profiled_too(name):
    with FakeTensorMode():
        model = blueprint(name, (3, 64, 64)).build()
        assert model(torch.empty(2, 3, 64, 64)).shape == (2, 7)


@pytest.mark.slow
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


def test_kept_profiles_are_told_apart_by_how_the_network_is_cut():
    found = {identity_of(blueprint=blueprint("alexnet", (3, 64, 64), blocks=blocks)) for blocks in (None, 2, 3)}
    assert len(found - {None}) == 3
