"""Frozen layers that gradients pass: what they compute, on any network, and which are left as they are."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neulite_sim.methods.frozen_around import FrozenAround
from neulite_sim.methods.frozen_layers import FoldedNorm, PassingConvolution, fold_normalisation, let_gradients_pass
from neulite_sim.models.contract import BlockModel, Blueprint
from neulite_sim.models.trainee import load_tensors
from neulite_sim.registry import component


def test_a_folded_norm_is_batch_norm_with_running_statistics():
    layer = nn.BatchNorm2d(5).double()
    with torch.no_grad():
        for tensor in (layer.weight, layer.bias, layer.running_mean):
            tensor.normal_()
        layer.running_var.uniform_(0.1, 3)
    maps = torch.randn(3, 5, 4, 4, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    expected = layer.eval()(maps)
    folded = FoldedNorm(layer)
    folded.fold()
    torch.testing.assert_close(folded(maps), expected, rtol=1e-13, atol=1e-13)
    assert folded(maps).is_contiguous(memory_format=torch.channels_last)
    assert folded.state_dict().keys() == layer.state_dict().keys() - {"num_batches_tracked"}
    bare = nn.BatchNorm1d(5, affine=False).double().eval()
    folded = FoldedNorm(bare)
    folded.fold()
    rows = torch.randn(3, 5, dtype=torch.float64)
    torch.testing.assert_close(folded(rows), bare(rows), rtol=1e-13, atol=1e-13)
    assert folded(rows.bfloat16()).dtype == torch.bfloat16


def test_norms_are_folded_wherever_they_stand_and_those_without_running_statistics_stay():
    shared, plain = nn.BatchNorm2d(2), nn.BatchNorm2d(2, track_running_stats=False)
    module = fold_normalisation(nn.Sequential(nn.Sequential(shared), plain, shared, nn.LayerNorm(2)))
    kinds = [type(layer) for layer in (module[0][0], module[1], module[2], module[3])]
    assert kinds == [FoldedNorm, nn.BatchNorm2d, FoldedNorm, nn.LayerNorm]
    assert module[0][0] is module[2]
    assert type(fold_normalisation(nn.BatchNorm2d(2))) is FoldedNorm


@pytest.mark.parametrize(("layer", "sides"), [
    (nn.Conv2d(4, 6, 3, stride=2, padding=1), (7, 8)), (nn.Conv2d(4, 6, 3, stride=3, dilation=2, bias=False), (11, 13)),
    (nn.Conv2d(4, 8, 1, stride=2, groups=4), (5, 6)), (nn.Conv1d(4, 6, 5, stride=4, padding=2), (19,)),
    (nn.Conv3d(4, 2, 2, stride=2), (5, 4, 3)),
], ids=str)  # fmt: skip
def test_a_convolution_through_which_gradients_pass_has_the_gradient_of_autograd(layer, sides):
    layer = layer.double().requires_grad_(False)
    maps = torch.randn(3, 4, *sides, dtype=torch.float64, requires_grad=True)
    weights = torch.randn_like(layer(maps))
    (expected,) = torch.autograd.grad((layer(maps) * weights).sum(), maps)
    passing = PassingConvolution(layer)
    assert torch.equal(passing(maps), layer(maps))
    (found,) = torch.autograd.grad((passing(maps) * weights).sum(), maps)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    assert passing.state_dict().keys() == layer.state_dict().keys()


class NormAndReLU(nn.BatchNorm2d):
    """As in timm's networks."""

    def forward(self, maps):
        return super().forward(maps).relu()


class PaddedConvolution(nn.Conv2d):
    def forward(self, maps):
        return super().forward(F.pad(maps, (0, 1, 0, 1)))


def test_layers_that_do_more_stay_as_they_are():
    hooked = nn.Conv2d(2, 2, 3)
    hooked.register_forward_pre_hook(lambda _, given: (2 * given[0],))
    layers = [NormAndReLU(2), PaddedConvolution(2, 2, 3), hooked]
    assert list(let_gradients_pass(fold_normalisation(nn.Sequential(*layers)))) == layers


def test_convolutions_that_pad_in_another_way_stay_as_they_are():
    layers = [
        nn.Conv2d(2, 2, 3, padding="same"),
        nn.Conv2d(2, 2, 3, padding_mode="reflect"),
        nn.ConvTranspose2d(2, 2, 3),
    ]
    assert list(let_gradients_pass(nn.Sequential(*layers))) == layers


NETWORKS = ("resnet18", "vgg11_bn", "squeezenet", "vit", "torchvision:shufflenet_v2_x0_5", "torchvision:mobilenet_v3_small",
            "torchvision:densenet121")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_what_stands_in_for_frozen_layers_computes_what_they_do_on_any_network(kind):
    """Logits and gradients are those of the network itself with frozen weights and running statistics, in double."""
    argument = kind.partition(":")[2]
    found = component("model", kind)
    architecture = found.build(found.options(), *([argument] if argument else []))
    plan = Blueprint(architecture=architecture, input_shape=(3, 32, 32), num_classes=5, width=1.0 if argument else 0.25)
    torch.manual_seed(1)
    plain = plan.build().double()
    with torch.no_grad():
        for norm in (layer for layer in plain.modules() if isinstance(layer, nn.BatchNorm2d)):
            norm.running_mean.normal_(std=0.1)
            norm.running_var.uniform_(0.5, 2)
    first, end = 0, plain.num_blocks - 1
    trainee = FrozenAround(plan, first, end).double()
    load_tensors(trainee, {name: each for name, each in plain.state_dict().items() if each.is_floating_point()})
    trainee.prepare()
    plain.train()
    for part in (plain.blocks[end], plain.head):
        part.requires_grad_(False)
        for layer in part.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.eval()
    images, labels = torch.randn(4, 3, 32, 32, dtype=torch.float64), torch.tensor([0, 1, 2, 3])
    gradients = []
    for model in (plain, trainee):
        torch.manual_seed(7)
        F.cross_entropy(model(images), labels).backward()
        gradients.append({name: each.grad for name, each in model.named_parameters() if each.requires_grad})
    assert gradients[0].keys() == gradients[1].keys() != set()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-8, atol=1e-12, msg=name)


class ByHand(nn.Module):
    """Looks at its layers, and applies the norm itself."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, maps):
        norm = self.norm
        maps = self.conv(maps) / self.conv.out_channels
        return F.batch_norm(
            maps, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.training, norm.momentum, norm.eps
        )


def test_a_frozen_norm_that_is_applied_by_hand_uses_its_running_statistics_and_leaves_them():
    def built(input_shape, num_classes, width):
        del input_shape, width
        head = nn.Sequential(nn.Flatten(), nn.Linear(4 * 25, num_classes))
        return BlockModel([ByHand(), ByHand(), ByHand()], head, tails=((),) * 3, block_shapes=((4, 5, 5),) * 3)

    trainee = FrozenAround(Blueprint(architecture=built, input_shape=(4, 5, 5), num_classes=3), 1, 2)
    load_tensors(trainee, {name: torch.rand_like(tensor) + 0.1 for name, tensor in trainee.state_dict().items()
                           if tensor.is_floating_point()})  # fmt: skip
    trainee.prepare()
    maps = torch.randn(2, 4, 5, 5)
    for number in (0, 2):
        norm = trainee.blocks[number].norm
        before = norm.running_mean.clone()
        found = trainee.blocks[number](maps)
        assert torch.equal(norm.running_mean, before)
        torch.testing.assert_close(found, norm(trainee.blocks[number].conv(maps) / 4))
