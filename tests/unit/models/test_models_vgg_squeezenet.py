"""`vgg11_bn` and `squeezenet`: parameter counts against torchvision's, shapes, tails, output modules."""

import pytest
import torch
from torch import nn

from neulite_sim.models.output import OutputModule
from neulite_sim.models.squeezenet import COMPONENT as SQUEEZENET
from neulite_sim.models.squeezenet import Fire, squeezenet
from neulite_sim.models.vgg import COMPONENT as VGG
from neulite_sim.models.vgg import vgg11_bn
from neulite_sim.registry import component
from neulite_sim.torchvision_compat import torchvision_module

CIFAR = (3, 32, 32)


def meta(build, shape=CIFAR, classes=10, width=1.0):
    with torch.device("meta"):
        return build(shape, classes, width)


def num_parameters(*modules):
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def theirs(name):
    with torch.device("meta"):
        return getattr(torchvision_module("models"), name)(num_classes=10)


def test_they_are_registered_under_their_names():
    assert [component("model", kind) for kind in ("vgg11_bn", "squeezenet")] == [VGG, SQUEEZENET]


def test_vgg_has_the_features_of_torchvisions_and_one_linear_layer():
    model = meta(vgg11_bn)
    assert num_parameters(*model.blocks) == num_parameters(theirs("vgg11_bn").features) == 9_225_984
    assert num_parameters(model.head) == 512 * 10 + 10


@pytest.mark.slow
def test_vgg_computes_what_torchvisions_features_compute():
    ours = vgg11_bn(CIFAR, 10, 1.0).eval()
    features = torchvision_module("models").vgg11_bn(num_classes=10).features.eval()
    mine = [tensor for block in ours.blocks for tensor in block.state_dict().values()]
    features.load_state_dict(dict(zip(features.state_dict(), mine, strict=True)))
    images = torch.randn(2, *CIFAR)
    with torch.no_grad():
        maps = images
        for block in ours.blocks:
            maps = block(maps)
        torch.testing.assert_close(maps, features(images))


def test_vgg_blocks_are_the_groups_of_progfed():
    model = meta(vgg11_bn)
    assert model.block_shapes == ((128, 8, 8), (256, 4, 4), (512, 2, 2), (512, 1, 1))
    layers = [[type(layer) for layer in block] for block in model.blocks]
    conv, pool = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU], [nn.MaxPool2d]
    assert layers == [conv + pool + conv + pool, *[conv + conv + pool] * 3]


@pytest.mark.parametrize("build", [vgg11_bn, squeezenet])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 5, 9), (2, 1, 3)])
def test_every_image_size_works(build, shape):
    model = build(shape, 7, 0.0625)
    features = torch.randn(2, *shape)
    for block, stated in zip(model.blocks, model.block_shapes, strict=True):
        features = block(features)
        assert features.shape == (2, *stated)
    assert model.head(features).shape == (2, 7)


def test_squeezenet_has_torchvisions_parameters_but_for_the_stem():
    """A 3x3 stem in place of the 7x7 one saves 96 * 3 * (49 - 9)."""
    assert num_parameters(meta(squeezenet)) == num_parameters(theirs("squeezenet1_0")) - 96 * 3 * (49 - 9)


def test_squeezenet_computes_what_torchvisions_layers_compute_after_the_stem():
    ours = squeezenet(CIFAR, 10, 1.0).eval()
    whole = torchvision_module("models").squeezenet1_0(num_classes=10).eval()
    rest = nn.Sequential(*list(whole.features)[2:], whole.classifier, nn.Flatten())
    names = [name for name in ours.state_dict() if not name.startswith("blocks.0.conv1")]
    rest.load_state_dict(dict(zip(rest.state_dict(), (ours.state_dict()[name] for name in names), strict=True)))
    images = torch.randn(2, *CIFAR)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), rest(ours.blocks[0][:2](images)))


def test_squeezenet_blocks_are_cut_before_the_poolings():
    model = meta(squeezenet)
    assert model.block_shapes == ((256, 16, 16), (512, 8, 8), (512, 4, 4))
    names = [[name for name, _ in block.named_children()] for block in model.blocks]
    assert names == [
        ["conv1", "relu1", "pool", "fire2", "fire3", "fire4"],
        ["pool", "fire5", "fire6", "fire7", "fire8"],
        ["pool", "fire9"],
    ]


def test_the_classifier_of_squeezenet_starts_small_in_the_model_and_in_its_output_modules():
    torch.manual_seed(0)
    model = squeezenet(CIFAR, 100, 1.0)
    for head in (model.head, OutputModule(model, 2).head):
        # 51200 values: the estimate is good to about 0.3 per cent.
        assert head.conv.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert (head.conv.bias == 0).all()


@pytest.mark.parametrize(("build", "last"), [(vgg11_bn, nn.BatchNorm2d), (squeezenet, nn.Conv2d)])
def test_tails_are_the_last_convolution_and_what_belongs_to_it(build, last):
    model = meta(build)
    for block, tail in zip(model.blocks, model.tails, strict=True):
        layers = [name for name, layer in block.named_modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
        assert tail == tuple(layers[-2:])
        assert isinstance(block.get_submodule(tail[1]), last)


def test_width_scales_every_layer_but_the_classes():
    assert meta(vgg11_bn, width=0.25).block_shapes == ((32, 8, 8), (64, 4, 4), (128, 2, 2), (128, 1, 1))
    thin = meta(squeezenet, width=0.125)
    assert [shape[0] for shape in thin.block_shapes] == [32, 64, 64]
    assert (thin.blocks[0].conv1.out_channels, thin.blocks[0].fire2.squeeze.out_channels) == (12, 2)
    assert thin.head.conv.out_channels == 10


def test_surrogates_are_strided_convolutions_to_the_next_blocks_width():
    surrogates = OutputModule(squeezenet(CIFAR, 10, 0.125), 1).surrogates
    assert [(layer.conv.in_channels, layer.conv.out_channels, layer.conv.stride) for layer in surrogates] == [
        (32, 64, (2, 2)), (64, 64, (2, 2))
    ]  # fmt: skip


def test_a_fire_module_stores_its_expansion_once():
    """The ReLU works in place on the joined halves, which equals one on each."""
    fire, maps = Fire(4, 2, 3), torch.randn(2, 4, 5, 5)
    squeezed = fire.squeeze(maps).relu()
    halves = [expand(squeezed).relu() for expand in (fire.expand1x1, fire.expand3x3)]
    torch.testing.assert_close(fire(maps), torch.cat(halves, dim=1))
