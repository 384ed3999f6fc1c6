"""Networks of which it cannot be told which channels their thinner models hold, and what a refusal says."""

import pytest
import torch
from thin_models import RATES, method
from thin_networks import Network, thin
from torch import nn
from torch.nn import functional as F

from neulite_sim.errors import ScenarioError
from neulite_sim.methods.channels import Channels
from neulite_sim.methods.operators import UnclearError
from neulite_sim.methods.width import layout
from neulite_sim.models.contract import BlockModel, Blueprint
from neulite_sim.models.given import given_architecture

LEVELS = {"full": 1.0, "half": 0.5, "quarter": 0.25}


class Middle(Network):
    """Does something between two convolutions of at(8) channels; `at(n)` is n channels at the width."""

    def made(self, at, classes):
        self.a, self.b, self.fc = nn.Conv2d(1, at(8), 3), nn.Conv2d(self.read(at), at(8), 1), nn.Linear(at(8), classes)
        self.at = at

    def read(self, at):
        return at(8)

    def run(self, x):
        return self.fc(self.b(self.between(self.a(x))).amax((2, 3)))

    def between(self, x):
        raise NotImplementedError


def middle(between, read=lambda at: at(8), **parts):
    """Return a network like that; `parts` are modules or tensors of its own, made at a width."""

    class Between(Middle):
        def made(self, at, classes):
            super().made(at, classes)
            for name, make in parts.items():
                setattr(self, name, make(at))

        def read(self, at):
            return read(at)

        def between(self, x):
            return between(self, x)

    return Between


def vector(size):
    return lambda at: nn.Parameter(torch.randn(size(at), 1, 1))


REFUSED = {
    "flip": (middle(lambda net, x: x.flip(1)), r"it picks channels or changes their order \(operator flip\)"),
    "index": (
        middle(lambda net, x: x[:, torch.arange(x.shape[1])]),
        r"it picks channels or changes their order \(operator index\)",
    ),
    "unknown": (
        middle(lambda net, x: torch.fft.fft(x, dim=1).real),
        r"it is not known what it does with channels \(operator _fft_r2c\)",
    ),
    "every other": (
        middle(lambda net, x: torch.cat([x[:, ::2], x[:, 1::2]], 1)),
        r"it leaves out every other channel \(operator slice\)",
    ),
    "neighbours": (
        middle(lambda net, x: F.local_response_norm(x, 3)),
        r"it mixes neighbouring channels \(operator avg_pool3d\)",
    ),
    "pairs": (
        middle(lambda net, x: (x[:, :, None] * x[:, None]).flatten(1, 2), read=lambda at: at(8) ** 2),
        r"it merges two dimensions that both change with the width \(operator view\)",
    ),
    "two factors": (
        middle(
            lambda net, x: net.more(x).unflatten(1, (net.at(4), net.at(8))).sum(1),
            more=lambda at: nn.Conv2d(at(8), at(4) * at(8), 1),
        ),
        r"it splits channels into two dimensions that both change with the width \(operator view\)",
    ),
    "groups": (
        middle(
            lambda net, x: net.more(x),
            read=lambda at: at(4) * at(8),
            more=lambda at: nn.Sequential(
                nn.Conv2d(at(8), at(4) * at(8), 1), nn.Conv2d(at(4) * at(8), at(4) * at(8), 1, groups=at(4))
            ),
        ),
        r"both its groups and what is in each change with the width \(operator convolution\)",
    ),
    "pads and cuts": (
        middle(lambda net, x: F.pad(x, (0, 0, 0, 0, 1, -1))),
        r"it pads channels at one end and cuts them off at the other \(operator constant_pad_nd\)",
    ),
    "repeats": (
        middle(lambda net, x: x.repeat(1, net.at(4), 1, 1), read=lambda at: at(4) * at(8)),
        r"how often it repeats channels changes with the width \(operator repeat\)",
    ),
    "broadcasts": (
        middle(lambda net, x: x * net.factor, factor=vector(lambda at: at(8) if at(8) == 8 else 1)),
        r"some width has one channel where another has several, and repeats it \(operator mul\)",
    ),
    "table": (
        middle(
            lambda net, x: x + F.embedding(torch.zeros(1, dtype=torch.int64), net.table)[0, :, None, None],
            table=lambda at: nn.Parameter(torch.randn(at(6), at(8))),
        ),
        r"the rows of a table change with the width \(operator embedding\)",
    ),
    "groups within pairs": (
        middle(
            lambda net, x: net.more(F.channel_shuffle(net.six(x), 2)),
            six=lambda at: nn.Conv2d(at(8), 2 * at(6), 1),
            more=lambda at: nn.Conv2d(2 * at(6), 2 * at(4), 1, groups=2),
        ),
        r"the channels of two tensors do not lie alike, and it uses them together \(operator convolution\)",
    ),
    "wider": (
        middle(
            lambda net, x: net.more(x),
            more=lambda at: nn.Sequential(nn.Conv2d(at(8), 32 // at(8), 1), nn.Conv2d(32 // at(8), at(8), 1)),
        ),
        r"4 channels would be 4 or up to 16 at other widths \(operator convolution\)",
    ),
    "another sum": (
        middle(
            lambda net, x: torch.cat([net.one(x), net.two(x)], 1),
            read=lambda at: at(8) + {8: 8, 4: 2, 2: 4}[at(8)],
            one=lambda at: nn.Conv2d(at(8), at(8), 1),
            two=lambda at: nn.Conv2d(at(8), {8: 8, 4: 2, 2: 4}[at(8)], 1),
        ),
        r"6 channels are shared out in different ways at two widths",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_network_whose_channels_cannot_be_followed_is_refused(case):
    network, reason = REFUSED[case]
    model = Blueprint(architecture=given_architecture(network), input_shape=(1, 8, 8), num_classes=3, name="net")
    message = f"model: which channels of net its thinner models hold cannot be told: .*{reason}"
    with pytest.raises(ScenarioError, match=message) as caught:
        layout(model, LEVELS)
    assert "or a method that trains one width (allsmall, fedavg)" in caught.value.hint


@pytest.mark.parametrize("kind", ["heterofl", "fedrolex", "federated-dropout"])
def test_every_method_that_slices_refuses_it(kind):
    model = Blueprint(architecture=given_architecture(REFUSED["flip"][0]), input_shape=(1, 8, 8), num_classes=3)
    with pytest.raises(ScenarioError, match="which channels of the model its thinner models hold cannot be told"):
        method(kind, rates=RATES).start(model, 0, None)


def of_blocks(*blocks):
    """Return the architecture of a model of given blocks, which nobody has looked at."""

    def architecture(input_shape, num_classes, width):
        made = nn.Sequential(*(block(width) for block in blocks))
        head = nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
        return BlockModel([made], head, tails=((),), block_shapes=(input_shape,))

    return Blueprint(architecture=architecture, input_shape=(1, 8, 8), num_classes=3, name="net")


def test_a_network_with_other_tensors_at_another_width_is_refused():
    deeper = of_blocks(lambda width: nn.Sequential(*(nn.Conv2d(1, 1, 1) for _ in range(thin(4, width)))))
    with pytest.raises(ScenarioError, match=r"blocks\.0\.0\.2\.bias is another tensor, or none, at another width"):
        layout(deeper, LEVELS)


class Looking(nn.Module):
    def forward(self, x):
        return x * x.mean().item()


def test_a_network_that_looks_at_numbers_is_refused():
    with pytest.raises(ScenarioError, match=r"cannot be told: it cannot be run without numbers at width 1: .*item"):
        layout(of_blocks(lambda width: nn.Conv2d(1, 1, 1), lambda width: Looking()), LEVELS)


def test_a_network_that_does_something_else_at_every_other_width_is_refused():
    model = of_blocks(
        lambda width: nn.Conv2d(1, thin(8, width), 1),
        lambda width: nn.ReLU() if width == 1 else nn.Identity(),
        lambda width: nn.Conv2d(thin(8, width), 1, 1),
    )
    with pytest.raises(ScenarioError, match="cannot be told: it does not do the same things at every width"):
        layout(model, LEVELS)


def test_a_width_at_which_channels_are_added_is_refused():
    def is_odd(width):
        return width == LEVELS["quarter"]

    model = of_blocks(
        lambda width: nn.Conv2d(1, thin(8, width), 1),
        lambda width: nn.ConstantPad3d((0, 0, 0, 0, 0, 3), 0.0) if is_odd(width) else nn.Identity(),
        lambda width: nn.Conv2d(thin(8, width) + 3 * is_odd(width), 1, 1),
    )
    message = r"blocks\.0\.2\.weight does not have the channels that it has at other widths"
    with pytest.raises(ScenarioError, match=message):
        layout(model, LEVELS)


def test_channels_that_are_flattened_too_often_are_not_followed():
    channels = Channels()
    with pytest.raises(UnclearError, match="it flattens 131072 times 1 groups of channels"):
        channels.merged(channels.run((8, 4)), 2**17, 1)
