"""Thin models of anybody's network: which channels they hold, what makes the logits, and what is refused."""

import hashlib

import pytest
import torch
from thin_models import RATES, blueprint, method
from thin_networks import FOLLOWED, Network, Recurrent, SideBySide, thin
from torch import nn

from neulite_sim.errors import ScenarioError
from neulite_sim.methods.streams import streams
from neulite_sim.methods.thin import ThinTrainee, thinned
from neulite_sim.methods.thin_axes import axes_of, classifier_of
from neulite_sim.methods.width import OverlapMean, layout
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.given import given_architecture
from neulite_sim.models.trainee import float_tensors, load_tensors

LEVELS = {"full": 1.0, "width-0.5": 0.5, "width-0.3": 0.3}


def given(network, shape=(1, 8, 8), num_classes=3):
    return Blueprint(
        architecture=given_architecture(network), input_shape=shape, num_classes=num_classes, name=network.__name__
    )


def rows_held(network, ending, submodel="width-0.5", dimension=0, **sizes):
    slices = layout(given(network, **sizes), LEVELS)
    (name,) = (name for name in slices.axes if name.endswith(ending))
    held = slices.indices(submodel, name)[dimension]
    return held if held is None else held.tolist()


def lively(network):
    """Return a network none of whose tensors has equal numbers, as BatchNorm has at first."""
    with torch.no_grad():
        for name, tensor in network.state_dict(keep_vars=True).items():
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.uniform_(0.5, 1.5) if "norm" in name or "running" in name else tensor.uniform_(-0.5, 0.5)
    return network


def both(full, slices, submodel, places):
    """Return a thin model of channels at `places(name)`, and the full one with those alone and all else at zero."""
    torch.manual_seed(5)
    tensors = float_tensors(lively(full.build()))
    # A variance of zero would be one more thing that is small.
    zeros = {name: torch.full_like(tensor, float("var" in name)) for name, tensor in tensors.items()}
    sums, parts = OverlapMean(zeros), {}
    for name in tensors:
        indices, part = places(name), tensors[name]
        for dimension, held in enumerate(indices):
            part = part if held is None else part.index_select(dimension, held)
        parts[name] = part
        sums.add(name, indices, part)
    model, padded = thinned(full, LEVELS[submodel]).build().eval(), full.build().eval()
    load_tensors(model, parts)
    load_tensors(padded, sums.result())
    return model, padded


@pytest.mark.parametrize(("submodel", "offset"), [("width-0.5", 0), ("width-0.5", 3), ("width-0.3", -2)])
@pytest.mark.parametrize("network", FOLLOWED)
def test_a_slice_computes_what_the_network_does_with_all_else_at_zero(network, submodel, offset):
    """Holds only where whatever reads channels holds exactly those that were written."""
    full = given(network)
    slices = layout(full, LEVELS)
    model, padded = both(full, slices, submodel, lambda name: slices.indices(submodel, name, offset))
    images = torch.randn(4, 1, 8, 8)
    assert padded(images).std() > 1e-3, "or nothing would be told"
    torch.testing.assert_close(model(images), padded(images), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("network", FOLLOWED)
def test_random_channels_of_every_stream_compute_it_too(network):
    full = given(network)
    slices = layout(full, LEVELS)
    of_tensors, num_channels = streams(full, slices.axes)
    generator = torch.Generator().manual_seed(3)
    orders = [torch.randperm(number, generator=generator) for number in num_channels]

    def places(name):
        triples = zip(slices.axes[name], slices.shapes["width-0.5"][name], of_tensors[name], strict=True)
        return tuple(
            None if size == axis.size else
            axis.positions([orders[s][:n].sort().values for s, n in zip(maps, axis.counts(size), strict=True)])
            for axis, size, maps in triples
        )  # fmt: skip

    model, padded = both(full, slices, "width-0.5", places)
    images = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(model(images), padded(images), atol=1e-5, rtol=1e-4)


def test_what_reads_maps_side_by_side_holds_the_same_channels_of_each():
    leading, behind = list(range(8)), list(range(16, 24))
    for ending in ("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"):
        assert rows_held(SideBySide, f".{ending}") == [*leading, *behind]
    assert rows_held(SideBySide, "other.weight") == [*leading, 16, 17, 18, 19]
    assert rows_held(SideBySide, "fc.weight", dimension=1) == [0, 1, 2, 3, 4, 5, *range(12, 20), 28, 29, 30, 31]


@pytest.mark.parametrize(("kind", "gates"), [("gru", 3), ("lstm", 4), ("rnn", 1)])
def test_every_gate_of_a_recurrent_layer_holds_its_own_leading_channels(kind, gates):
    units = {"gru": 6, "lstm": 10, "rnn": 4}[kind]
    expected = [gate * units + unit for gate in range(gates) for unit in range(units // 2)]
    for tensor in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        assert rows_held(Recurrent, f".{kind}.{tensor}") == expected
    assert rows_held(Recurrent, f".{kind}.weight_hh_l0", dimension=1) == list(range(units // 2))


def attending(heads, channels_of_head):
    class Attending(Network):
        def made(self, at, classes):
            count = at(4) if heads is None else heads
            size = count * (channels_of_head or at(8))
            self.embed = nn.Linear(8, size)
            self.layer = nn.TransformerEncoderLayer(size, count, at(64), batch_first=True)
            self.fc = nn.Linear(size, classes)

        def run(self, x):
            return self.fc(self.layer(self.embed(x[:, 0])).mean(1))

    return Attending


def test_queries_keys_and_values_hold_leading_channels_of_every_head():
    """Four heads keep four of their eight channels each; as in vit, and in the code of HeteroFL's authors."""
    within = [head * 8 + channel for head in range(4) for channel in range(4)]
    expected = [part * 32 + place for part in range(3) for place in within]
    for ending in ("in_proj_weight", "in_proj_bias"):
        assert rows_held(attending(4, None), ending) == expected
    assert rows_held(attending(4, None), "out_proj.weight", dimension=1) == within
    assert rows_held(attending(4, None), "in_proj_weight", dimension=1) == list(range(16))
    assert rows_held(attending(4, None), "linear1.weight") == list(range(32))


def test_where_the_width_takes_heads_away_the_leading_ones_are_held():
    expected = [part * 32 + place for part in range(3) for place in range(16)]
    assert rows_held(attending(None, 8), "in_proj_weight") == expected
    assert rows_held(attending(None, 8), "in_proj_weight", "width-0.3") == [
        part * 32 + place for part in range(3) for place in range(8)
    ]


class Resting(Network):
    """Adds its input where the shapes happen to agree: with one channel, at the least width."""

    def made(self, at, classes):
        self.fc = nn.Linear(2 * at(8), classes)
        self.a, self.b, self.norm = nn.Conv2d(1, at(8), 1), nn.Conv2d(at(8), at(8), 1), nn.BatchNorm2d(2 * at(8))

    def run(self, x):
        for layer in (self.a, self.b):
            x = layer(x) + x if layer(x).shape == x.shape else layer(x)
        return self.fc(self.norm(torch.cat([x, x], 1)).mean((2, 3)))


def test_a_width_at_which_a_network_does_something_else_is_known_by_its_sizes():
    slices = layout(given(Resting), {"full": 1.0, "half": 0.5, "least": 0.125})
    (norm,) = (name for name in slices.axes if name.endswith("norm.weight"))
    assert slices.indices("half", norm)[0].tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert slices.indices("least", norm)[0].tolist() == [0, 8]


SHIPPED = {
    "cnn": ((1, 8, 8), 0.25, "147c697f9645cc83"),
    "lenet": ((1, 8, 8), 1.0, "f4564ffb8a30c86f"),
    "logistic": ((1, 8, 8), 1.0, "2d734ac5ebba1c79"),
    "resnet18": ((3, 16, 16), 0.25, "e83eedc64f4a27f6"),
    "resnet20": ((3, 16, 16), 1.0, "ac11fe99b5ae7e14"),
    "vgg11_bn": ((3, 32, 32), 0.25, "79b349f43ade65c8"),
    "squeezenet": ((3, 32, 32), 0.25, "3aca2a774800b978"),
    "vit": ((3, 32, 32), 0.5, "801063a0d2c6532d"),
}


@pytest.mark.parametrize("kind", SHIPPED)
def test_the_architectures_here_keep_their_index_sets(kind):
    shape, width, expected = SHIPPED[kind]
    slices = layout(blueprint(kind, shape, width=width), {"full": 1.0, "width-0.5": 0.5, "width-0.125": 0.125})
    digest = hashlib.sha256()
    for submodel, shapes in slices.shapes.items():
        for name in sorted(shapes):
            for offset in (0, 3):
                for held in slices.indices(submodel, name, offset):
                    digest.update(repr((submodel, name, offset, None if held is None else held.tolist())).encode())
    digest.update(repr(sorted(slices.classifier)).encode())
    assert digest.hexdigest()[:16] == expected


@pytest.mark.parametrize("kind", [kind for kind in SHIPPED if kind not in ("vit", "resnet20", "logistic")])
def test_following_an_architecture_here_finds_what_is_known_of_it(kind):
    """Not those whose windows keep heads together, or whose shortcuts pad with zeros."""
    shape, width, _ = SHIPPED[kind]
    model = blueprint(kind, shape, width=width)
    slices, found = layout(model, LEVELS), axes_of(model, tuple(LEVELS.values()))
    assert classifier_of(model).rows == slices.classifier
    assert streams(model, found) == streams(model, slices.axes)
    for submodel, shapes in slices.shapes.items():
        for name, sizes in shapes.items():
            for offset in (0, 3):
                followed = [axis.held(size, offset) for axis, size in zip(found[name], sizes, strict=True)]
                pairs = zip(followed, slices.indices(submodel, name, offset), strict=True)
                assert all(a is b is None or torch.equal(a, b) for a, b in pairs), (submodel, name)


class Early(Network):
    """Registers its classifier first."""

    def made(self, at, classes):
        self.fc, self.a, self.b = nn.Linear(at(6), classes), nn.Conv2d(1, at(6), 3), nn.Conv2d(at(6), at(6), 3)

    def run(self, x):
        return self.fc(self.b(self.a(x)).amax((2, 3)))


class Bottleneck(Early):
    """Has a hidden layer with as many channels as there are classes, at every width."""

    def made(self, at, classes):
        super().made(at, classes)
        self.b, self.fc = nn.Conv2d(at(6), classes, 3), nn.Linear(classes, classes)


class TwoHeads(Early):
    """Adds what two classifiers say of two maps, and scales it by a gate that has no classes."""

    def made(self, at, classes):
        super().made(at, classes)
        self.other, self.gate = nn.Linear(at(6), classes, bias=False), nn.Linear(at(6), 1)

    def run(self, x):
        x = self.a(x)
        means = x.mean((2, 3))
        return (self.fc(self.b(x).amax((2, 3))) + self.other(means)) * self.gate(means).sigmoid()


class Rows(Network):
    """Ends in a convolution over rows, whose places are averaged."""

    def made(self, at, classes):
        self.last, self.a = nn.Conv1d(at(6), classes, 1), nn.Conv1d(8, at(6), 3)

    def run(self, x):
        return self.last(self.a(x[:, 0]).relu()).mean(2)


class Prototypes(Early):
    """Compares with a vector for each class, that is no layer."""

    def made(self, at, classes):
        super().made(at, classes)
        self.fc, self.classes = None, nn.Parameter(torch.randn(at(6), classes))

    def run(self, x):
        return self.b(self.a(x)).mean((2, 3)) @ self.classes


@pytest.mark.parametrize("num_classes", [3, 6, 20])
@pytest.mark.parametrize(
    ("network", "layers", "rows"),
    [
        (Early, {"fc"}, {"fc.weight", "fc.bias"}),
        (Bottleneck, {"fc"}, {"fc.weight", "fc.bias"}),
        (TwoHeads, {"fc", "other", "gate"}, {"fc.weight", "fc.bias", "other.weight"}),
        (Rows, {"last"}, {"last.weight", "last.bias"}),
        (Prototypes, set(), set()),
    ],
)
def test_the_classifier_is_what_makes_the_logits_wherever_it_is_registered(network, layers, rows, num_classes):
    found = classifier_of(given(network, num_classes=num_classes))

    def ends(paths):
        return {path.split(".", 2)[2] if path.startswith("blocks") else path.split(".", 1)[1] for path in paths}

    assert ends(found.layers) == layers
    assert ends(found.rows) == rows
    assert layout(given(network, num_classes=num_classes), LEVELS).classifier == found.rows


def scaled_layers(network):
    trainee = ThinTrainee(given(network), 0.5, scaler=True, masks_absent=False)
    return {path.split(".")[-1] for path, layer in trainee.named_modules() if layer._forward_hooks}


def test_the_scaler_acts_on_every_convolution_and_linear_layer_but_the_classifier():
    class Everything(Network):
        def made(self, at, classes):
            self.last, self.rows = nn.Linear(at(6), classes), nn.Conv1d(8, at(6), 3, padding=1)
            self.back, self.maps = nn.ConvTranspose1d(at(6), at(6), 3), nn.Conv2d(1, at(6), 3)
            self.volume, self.fc = nn.Conv3d(at(6), at(6), 1), nn.Linear(at(6), at(6))

        def run(self, x):
            x = self.maps(self.back(self.rows(x[:, 0]))[:, None])
            return self.last(self.fc(self.volume(x[:, :, None]).amax((2, 3, 4))).relu())

    assert scaled_layers(Everything) == {"rows", "back", "maps", "volume", "fc"}
    assert scaled_layers(Early) == {"a", "b"}
    assert scaled_layers(Rows) == {"a"}


@pytest.mark.parametrize("kind", ["heterofl", "fedrolex", "federated-dropout"])
def test_a_network_of_rows_alone_is_sliced(kind):
    chosen = method(kind, rates=RATES)
    model = given(Rows)
    state = chosen.start(model, 0, None)
    for submodel in chosen.submodels:
        sent = {**chosen.payload(state, submodel)}
        if kind == "federated-dropout":
            sent |= chosen.personal_payload(state, 1, submodel)
        load_tensors(chosen.trainee(submodel, model), sent)


def test_rows_of_classes_are_refused_where_no_layer_has_them_and_can_be_switched_off():
    message = "method.classifier_rows: Prototypes has no linear or convolutional layer at its end with a row for each"
    with pytest.raises(ScenarioError, match=message):
        method("heterofl").start(given(Prototypes), 0, None)
    method("heterofl", classifier_rows=False).start(given(Prototypes), 0, None)


def test_a_normed_weight_is_sliced_with_its_norm():
    class Normed(Early):
        def made(self, at, classes):
            super().made(at, classes)
            self.b = nn.utils.parametrizations.weight_norm(self.b)
            self.fc = nn.utils.parametrizations.weight_norm(self.fc)

    for tensor in ("original0", "original1"):
        assert rows_held(Normed, f"b.parametrizations.weight.{tensor}") == [0, 1, 2]
        assert rows_held(Normed, f"fc.parametrizations.weight.{tensor}") is None
    assert {name.split("fc.")[-1] for name in classifier_of(given(Normed)).rows} == {
        "bias", "parametrizations.weight.original0", "parametrizations.weight.original1"
    }  # fmt: skip


def test_rounding_is_the_networks_own():
    assert [thin(channels, 0.3) for channels in (6, 8, 16)] == [2, 2, 5]
