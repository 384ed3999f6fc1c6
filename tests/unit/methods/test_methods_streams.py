"""Which axes are the same channels: permuting every stream leaves a model's function, and nothing smaller does."""

import itertools

import pytest
import torch
from thin_models import TOY, blueprint
from torch import nn

from neulite_sim.methods.dimension import Dimension
from neulite_sim.methods.streams import streams
from neulite_sim.methods.width import layout
from neulite_sim.models.contract import BlockModel, Blueprint, scaled
from neulite_sim.models.noise import noise

MODELS = {
    "resnet18": ((1, 8, 8), 0.1),
    "vgg11_bn": ((1, 8, 8), 0.1),
    "squeezenet": ((1, 8, 8), 0.2),
    "vit": ((3, 8, 8), 0.1),
    "cnn": ((1, 8, 8), 0.25),
    "lenet": ((1, 8, 8), 0.5),
}


def found_in(model):
    axes = layout(model, {"full": 1.0}).axes
    return axes, *streams(model, axes)


def permuted(model, axes, of_tensors, orders):
    """Return a model in double precision whose streams are permuted, and what it makes of noise in that and before."""
    network = model.build_seeded(1).double().eval()
    generator = torch.Generator().manual_seed(2)
    inputs = noise(model.spec, 2, generator=generator).double()
    with torch.no_grad():
        for tensor in network.state_dict(keep_vars=True).values():
            # BatchNorm begins with equal numbers in all channels.
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.uniform_(0.5, 2.0, generator=generator)
        before = network(inputs)
        for name, tensor in network.state_dict(keep_vars=True).items():
            for dimension, (axis, maps) in enumerate(zip(axes.get(name, ()), of_tensors.get(name, ()), strict=True)):
                if maps:
                    tensor.copy_(tensor.index_select(dimension, axis.positions([orders[each] for each in maps])))
        return before, network(inputs)


@pytest.mark.parametrize("kind", MODELS)
def test_permuting_every_stream_leaves_the_function_as_it_is(kind):
    shape, width = MODELS[kind]
    model = blueprint(kind, shape, width=width)
    axes, of_tensors, num_channels = found_in(model)
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(number, generator=generator) for number in num_channels]
    assert any(order.tolist() != sorted(order.tolist()) for order in orders)
    before, after = permuted(model, axes, of_tensors, orders)
    assert torch.allclose(before, after, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["resnet18", "squeezenet", "cnn"])
def test_permuting_a_stream_without_one_of_its_axes_does_not(kind):
    """Were two streams one, each of their axes could be left out together; were one two, the law above would break."""
    shape, width = MODELS[kind]
    model = blueprint(kind, shape, width=width)
    axes, of_tensors, num_channels = found_in(model)
    orders = [torch.arange(number).flip(0) for number in num_channels]
    weights = [name for name in of_tensors if name.endswith("weight") and any(of_tensors[name])]
    for name in weights[:: max(1, len(weights) // 6)]:
        partly = {**of_tensors, name: ((),) * len(of_tensors[name])}
        before, after = permuted(model, axes, partly, orders)
        assert not torch.allclose(before, after, rtol=1e-4), name


def test_each_layer_has_a_stream_of_its_own_but_for_residual_additions():
    counts = {kind: len(found_in(blueprint(kind, *MODELS[kind]))[2]) for kind in MODELS}
    # Stage by stage: the sum, and the inside of each basic block. Encoders: the sum, then keys, values, hidden units.
    assert counts == {"resnet18": 12, "vgg11_bn": 8, "squeezenet": 25, "vit": 37, "cnn": 5, "lenet": 4}


def test_the_toy_has_two_streams_numbered_in_the_order_of_tensors():
    _, of_tensors, num_channels = found_in(TOY)
    assert num_channels == (4, 4)
    assert of_tensors["blocks.0.0.weight"] == ((0,), (), (), ())
    assert of_tensors["blocks.0.1.running_var"] == ((0,),)
    assert of_tensors["blocks.1.0.weight"] == ((1,), (0,), (), ())
    assert of_tensors["head.2.weight"] == ((), (1,))
    assert of_tensors["head.2.bias"] == ((),)


class Middle(nn.Module):
    """Stands in for what an architecture of others may do with channels."""

    def __init__(self, make, channels):
        super().__init__()
        self.conv = nn.Conv2d(1, channels, 3, padding=1)
        self.inner = make(channels)
        self.last = nn.Conv2d(channels, channels, 1)

    def forward(self, maps):
        return self.last(self.inner(self.conv(maps)))


class Shuffle(nn.Module):
    def forward(self, maps):
        batch, channels, height, side = maps.shape
        return maps.view(batch, 2 - channels % 2, -1, height, side).transpose(1, 2).reshape(maps.shape)


class Gate(nn.Module):
    """Squeeze and excitation: channels are multiplied by what a smaller layer makes of their means."""

    def __init__(self, channels):
        super().__init__()
        self.less, self.more = nn.Linear(channels, -(-channels // 2)), nn.Linear(-(-channels // 2), channels)

    def forward(self, maps):
        gate = self.more(torch.relu(self.less(maps.mean((2, 3)))))
        return maps * gate.sigmoid()[:, :, None, None]


def with_middle(make):
    def architecture(input_shape, num_classes, width):
        channels = scaled(8, width)
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
        shapes = ((channels, *input_shape[1:]),)
        return BlockModel([Middle(make, channels)], head, tails=((),), block_shapes=shapes)

    return Blueprint(architecture=architecture, input_shape=(1, 4, 4), num_classes=3, name="middle")


def test_depthwise_convolutions_and_gates_are_followed():
    depthwise = with_middle(lambda channels: nn.Conv2d(channels, channels, 3, padding=1, groups=channels))
    _, of_tensors, num_channels = found_in(depthwise)
    assert of_tensors["blocks.0.inner.weight"][0] == of_tensors["blocks.0.conv.weight"][0]
    assert len(num_channels) == 2
    _, of_tensors, num_channels = found_in(with_middle(Gate))
    assert of_tensors["blocks.0.inner.more.weight"][0] == of_tensors["blocks.0.conv.weight"][0]
    assert of_tensors["blocks.0.inner.less.weight"][1] == of_tensors["blocks.0.conv.weight"][0]
    assert len(num_channels) == 3


MIXING = [
    lambda channels: nn.Conv2d(channels, channels, 3, padding=1, groups=2 - channels % 2),
    lambda channels: Shuffle(),
    lambda channels: nn.ChannelShuffle(2 - channels % 2),
]


@pytest.mark.parametrize("make", MIXING)
def test_channels_that_are_grouped_or_shuffled_are_followed(make):
    model = with_middle(make)
    axes, of_tensors, num_channels = found_in(model)
    orders = [torch.arange(number).flip(0) for number in num_channels]
    before, after = permuted(model, axes, of_tensors, orders)
    assert torch.allclose(before, after, rtol=1e-9, atol=1e-12)
    partly = {**of_tensors, "blocks.0.last.weight": ((),) * 4}
    assert not torch.allclose(before, permuted(model, axes, partly, orders)[1], rtol=1e-4)


@pytest.mark.parametrize("make", MIXING)
def test_where_channels_cannot_be_followed_equally_many_share_one_stream(make):
    """Of axes that nobody followed, as are those of the architectures here."""
    model = with_middle(make)
    plain = {name: tuple(map(Dimension, tensor.shape)) for name, tensor in model.look().state_dict().items()}
    whole = {name: (axis, *(Dimension(1, inner=each.size) for each in rest)) for name, (axis, *rest) in plain.items()}
    of_tensors, num_channels = streams(model, {**whole, "blocks.0.last.weight": plain["blocks.0.last.weight"]})
    assert len(num_channels) == len(set(num_channels)), "one stream for each number of channels"
    assert of_tensors["blocks.0.conv.weight"][0] == of_tensors["blocks.0.last.weight"][0]


def test_maps_side_by_side_may_hold_different_channels():
    axis = Dimension(3, outer=2)
    assert axis.positions([torch.tensor([0, 2]), torch.tensor([1, 2])]).tolist() == [0, 2, 4, 5]
    heads = Dimension(3, inner=2)
    assert heads.positions([torch.tensor([2, 0])]).tolist() == [4, 5, 0, 1]


def test_finding_streams_leaves_the_generator_as_it_was():
    state = torch.get_rng_state()
    found_in(TOY)
    assert torch.equal(state, torch.get_rng_state())
    assert list(itertools.chain.from_iterable(found_in(TOY)[1]["head.2.bias"])) == []
