"""Layers as workers run them give what PyTorch's own do, and what is unusual is left to those."""

import copy
import itertools

import pytest
import torch
from thin_models import blueprint
from torch import nn

from neulite_sim.models.pointwise import PointwiseConvolution
from neulite_sim.models.shortcuts import take_shortcuts
from neulite_sim.models.trainee import FullModel, lay_out

MAPS = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
LAYERS = {
    "norm": lambda: nn.BatchNorm2d(4),
    "norm of rows": lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(100)),
    "norm without momentum": lambda: nn.BatchNorm2d(4, momentum=None),
    "norm without weights": lambda: nn.BatchNorm2d(4, affine=False),
    "norm without statistics": lambda: nn.BatchNorm2d(4, track_running_stats=False),
    "dilated": lambda: nn.Conv2d(4, 6, 3, padding=2, dilation=2),
    "grouped, padded alike": lambda: nn.Conv2d(4, 4, 3, padding="same", groups=2, bias=False),
    "circular": lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
}


def outcomes(layer, *, is_training):
    layer.train(is_training)
    maps = MAPS.clone().requires_grad_()
    results = [layer(maps * scale) for scale in (1.0, 2.0)]
    sum(result.square().sum() for result in results).backward()
    state = {name: tensor for name, tensor in layer.state_dict().items() if tensor.is_floating_point()}
    return [*results, maps.grad, *state.values(), *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_results_statistics_and_gradients_keep_their_bits(name, is_training):
    found = []
    for takes in (False, True):
        torch.manual_seed(1)
        layer = LAYERS[name]()
        if takes:
            take_shortcuts(layer)
        found.append(outcomes(layer, is_training=is_training))
    assert all(map(torch.equal, *found))


SMALL = {
    "strided": lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "without bias": lambda: nn.Conv2d(4, 6, 3, padding=1, bias=False),
    "of uneven sides": lambda: nn.Conv2d(4, 6, (1, 3), stride=(2, 1), padding=(0, 1)),
    "pointwise": lambda: PointwiseConvolution(4, 6, 2),
    "one channel": lambda: nn.Conv2d(4, 1, 5, padding=2),
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", SMALL)
def test_small_convolutions_differ_by_rounding_alone_whatever_the_layout_of_their_maps(name, layout):
    """PyTorch's own convolution takes weights in one layout and maps in the other, and returns wrong gradients."""
    found = []
    for takes in (False, True):
        torch.manual_seed(1)
        layer = SMALL[name]()
        lay_out(layer)
        if takes:
            take_shortcuts(layer)
        maps = MAPS.clone(memory_format=layout).requires_grad_()
        with torch.autograd.profiler.profile() as profiler:
            result = layer(maps)
        result.square().sum().backward()
        assert any("slow_conv2d" in event.name for event in profiler.function_events) is takes
        found.append((result, maps.grad, *(parameter.grad for parameter in layer.parameters())))
    for plain, quick in zip(*found, strict=True):
        torch.testing.assert_close(quick, plain, rtol=1e-4, atol=1e-5)
    assert found[1][0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_small_convolutions_are_right_for_every_small_shape():
    """Sides of one leave the layout of maps open; whatever PyTorch takes them for, results stay."""
    sizes = itertools.product((1, 2, 3), (1, 2, 8), (1, 3), (1, 2, 3, 4), (1, 2, 4), (1, 2, 3), (1, 2), (0, 1))
    for samples, channels, out, height, width, kernel, stride, padding in sizes:
        if min(height, width) + 2 * padding < kernel:
            continue
        layer = nn.Conv2d(channels, out, kernel, stride=stride, padding=padding)
        lay_out(layer)
        exact = copy.deepcopy(layer).double()
        take_shortcuts(layer)
        for layout in (torch.contiguous_format, torch.channels_last):
            maps = torch.randn(samples, channels, height, width).contiguous(memory_format=layout).requires_grad_()
            found = []
            for each, seen in ((layer, maps), (exact, maps.detach().double().requires_grad_())):
                result = each(seen)
                gradients = torch.autograd.grad(result.square().sum(), [seen, *each.parameters()])
                found.append([tensor.float() for tensor in (result, *gradients)])
            for quick, expected in zip(*found, strict=True):
                torch.testing.assert_close(quick, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("samples", "side", "is_own"), [(4, 8, True), (64, 16, False)], ids=["few taps", "many taps"])
def test_only_small_convolutions_go_around_onednn(samples, side, is_own):
    layer = nn.Conv2d(8, 8, 3, padding=1)
    lay_out(layer)
    take_shortcuts(layer)
    with torch.autograd.profiler.profile() as profiler:
        layer(torch.zeros(samples, 8, side, side))
    assert any("slow_conv2d" in event.name for event in profiler.function_events) is is_own


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_small_convolutions_can_be_differentiated_twice_forward_in_batches_and_under_autocast():
    single = nn.Conv2d(2, 3, 3, padding=1)
    lay_out(single)
    take_shortcuts(single)
    maps = torch.randn(2, 2, 4, 4, requires_grad=True)
    (slope,) = torch.autograd.grad(single(maps).square().sum(), maps, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.square().sum(), maps)
    plain = nn.functional.conv2d(maps, single.weight, single.bias, padding=1)
    (slope,) = torch.autograd.grad(plain.square().sum(), maps, create_graph=True)
    torch.testing.assert_close(curvature, torch.autograd.grad(slope.square().sum(), maps)[0], rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert single(maps).dtype is torch.bfloat16
    tangent = torch.randn_like(maps)
    ours = torch.func.jvp(single, (maps.detach(),), (tangent,))[1]
    theirs = torch.func.jvp(
        lambda seen: nn.functional.conv2d(seen, single.weight, single.bias, padding=1), (maps.detach(),), (tangent,)
    )[1]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    batch = torch.stack((MAPS[:, :2], MAPS[:, 2:]))
    torch.testing.assert_close(torch.func.vmap(single)(batch), torch.stack([single(maps) for maps in batch]))


def test_what_is_refused_is_refused_in_the_same_words():
    layer = nn.BatchNorm2d(4)
    take_shortcuts(layer)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        layer(torch.ones(1, 4, 1, 1))
    with pytest.raises(ValueError, match="expected 4D input"):
        layer(torch.ones(2, 4))


def test_batches_are_counted_only_where_a_layer_reads_the_count():
    layers = nn.Sequential(nn.BatchNorm2d(4), nn.BatchNorm2d(4, momentum=None))
    take_shortcuts(layers)
    layers(MAPS)
    assert [int(layer.num_batches_tracked) for layer in layers] == [0, 1]


class Louder(nn.BatchNorm2d):
    def forward(self, features):
        return super().forward(features) * 10


def test_a_forward_of_somebodys_own_and_hooks_stay_in_place():
    own, patched, hooked = Louder(4), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
    patched.forward = lambda features: features * 7
    hooked.register_forward_hook(lambda _layer, _inputs, output: output * 3)
    for layer in (own, patched, hooked):
        take_shortcuts(layer)
    usual = nn.BatchNorm2d(4)(MAPS)
    assert torch.equal(own(MAPS), usual * 10)
    assert torch.equal(patched(MAPS), MAPS * 7)
    assert torch.equal(hooked(MAPS), usual * 3)


def test_they_are_taken_twice_and_by_a_whole_network_without_another_state():
    model = FullModel(blueprint("resnet18", width=0.05))
    names = list(model.state_dict())
    take_shortcuts(model)
    take_shortcuts(model)
    assert list(model.state_dict()) == names
