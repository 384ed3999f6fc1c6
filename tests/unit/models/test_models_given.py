"""A model that is handed over: cut into blocks that compute what it computes, and what is refused, by its text."""

import copy
import functools
import pickle
import random
import threading

import numpy as np
import pytest
import torch
from given_models import (
    IMAGES,
    NETWORKS,
    ROWS,
    TAGS,
    TOKENS,
    Mlp,
    SmallGpt,
    SmallResNet,
    SmallTransformer,
    WithClassToken,
    digits_net,
)
from torch import nn
from torch.nn import functional as F

from neulite_sim.errors import ScenarioError
from neulite_sim.models.conformance import check_architecture
from neulite_sim.models.contract import BlockModel, Blueprint
from neulite_sim.models.given import given_architecture
from neulite_sim.models.noise import noise
from neulite_sim.models.trainee import FullModel
from neulite_sim.profiling.identity import identity_of
from neulite_sim.profiling.profile import profile
from neulite_sim.samples import InputSpec
from neulite_sim.scenario.schema import Training
from neulite_sim.torchvision_compat import torchvision_module

COLOURED = InputSpec(shape=(3, 32, 32), num_classes=7)
BATCH = 5


def settled(value, spec, *, blocks=None, options=None):
    architecture = given_architecture(value, blocks=blocks, options=options)
    return architecture.settled(spec, batch_size=16, state_copies=1)


def blueprint(value, spec, **wishes):
    return Blueprint(architecture=settled(value, spec, **wishes), spec=spec, name="own")


def own_name(name):
    kind, _, rest = name.partition(".")
    return rest.partition(".")[2] if kind == "blocks" else rest


def require_same(network, spec, **wishes):
    """Assert that blocks and head compute what the network does, to the bit, and hold the same tensors by their names."""
    model = blueprint(network, spec, **wishes).build()
    whole = copy.deepcopy(network)
    assert {own_name(name) for name, _ in model.named_parameters()} == {name for name, _ in whole.named_parameters()}
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in whole.parameters())
    for is_training in (True, False):
        inputs = noise(spec, BATCH)
        found = []
        for either in (model.train(is_training), whole.train(is_training)):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(5)
                found.append(either(inputs))
                found[-1].square().sum().backward()
        assert torch.equal(*found)
    theirs = dict(whole.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[own_name(name)].grad, rtol=0, atol=0)
    statistics = {name: tensor for name, tensor in whole.named_buffers() if "running" in name}
    for name, tensor in model.named_buffers():
        if "running" in name:
            assert torch.equal(tensor, statistics[own_name(name)])
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_cut_it_computes_what_it_computes_whole_and_keeps_the_names_of_its_tensors(name):
    make, spec = NETWORKS[name]
    torch.manual_seed(0)
    require_same(make(), spec)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_given_keeps_the_contract_of_architectures(name):
    make, spec = NETWORKS[name]
    torch.manual_seed(0)
    check_architecture(settled(make(), spec), spec=spec, is_seeded=False)


SHAPES = {
    "residual": ((8, 8, 8), (8, 8, 8), (16, 4, 4), (32, 2, 2)),
    "mlp": ((32,), (32,), (16,)),
    "lstm": ((8, 12), (16, 2)),
    "lstm-outputs": ((8, 12), (16, 12)),
    "gru": ((8, 12), (32, 12)),
    "transformer": ((8, 12),) * 4,
    "gpt": ((8, 12),) * 4,
    "conv1d": ((16, 18), (24, 16), (24, 14)),
    "flat": ((16,),),
    "logistic": ((1, 8, 8),),
    "linear": ((20,),),
}


@pytest.mark.parametrize("name", SHAPES)
def test_maps_between_the_blocks_are_channels_first_whatever_the_network_passes_on(name):
    make, spec = NETWORKS[name]
    assert blueprint(make(), spec).build_meta().block_shapes == SHAPES[name]


TORCHVISION = {
    "resnet18": {}, "mobilenet_v2": {}, "densenet121": {}, "squeezenet1_1": {}, "mobilenet_v3_small": {},
    "shufflenet_v2_x0_5": {},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_classifiers_of_torchvision_given_as_instances_are_cut_by_the_same_rules(name):
    torch.manual_seed(0)
    network = torchvision_module("models").get_model(name, num_classes=7, **TORCHVISION[name])
    model = require_same(network, COLOURED)
    assert model.num_blocks == 4


@pytest.mark.slow
@pytest.mark.parametrize(("name", "num_parts"), [("vit_b_32", 13), ("swin_t", 16), ("regnet_y_400mf", 17)])
def test_larger_ones_are_cut_between_their_units_without_memory(name, num_parts):
    settings = {"image_size": 32} if name == "vit_b_32" else {}

    def build(num_classes):
        return torchvision_module("models").get_model(name, num_classes=num_classes, **settings)

    own = Blueprint(architecture=given_architecture(build, blocks=num_parts), spec=COLOURED)
    model = own.build_meta()
    maps = torch.empty(2, 3, 32, 32, device="meta")
    for block, stated in zip(model.blocks, model.block_shapes, strict=True):
        maps = block(maps)
        assert maps.shape == (2, *stated)
    assert model.head(maps).shape == (2, 7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual", "mlp", "gpt", "conv1d"])
def test_the_full_model_is_charged_as_the_module_whole(name):
    make, spec = NETWORKS[name]
    training = Training(batch_size=8, learning_rate=0.1)
    network = make()

    def peak_of(chosen):
        return profile("full", lambda: FullModel(chosen), batch_size=8, training=training, spec=spec)

    cut = peak_of(blueprint(network, spec))
    whole = peak_of(Blueprint(architecture=functools.partial(_uncut, network), spec=spec))
    assert cut.peak_memory_bytes == whole.peak_memory_bytes
    assert cut.parameters == whole.parameters
    assert cut.flops_per_step == whole.flops_per_step


def _uncut(network, spec, _width):
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            fake = given_architecture(network)._made(spec, 1.0)
            self.network = fake

        def forward(self, inputs):
            return self.network(inputs)

    shape = (spec.num_classes, *spec.target_shape)
    return BlockModel([Whole()], nn.Identity(), tails=((),), block_shapes=(shape,))


@pytest.mark.parametrize("num_blocks", [1, 2, 5])
def test_as_many_blocks_as_are_wished(num_blocks):
    model = blueprint(SmallResNet(), IMAGES, blocks=num_blocks).build()
    assert model.num_blocks == num_blocks
    assert "blocks.0.layer1.0.conv1.weight" in dict(
        blueprint(SmallResNet(), IMAGES, blocks=2).build().named_parameters()
    )


def test_more_blocks_than_parts_are_refused():
    with pytest.raises(ScenarioError, match=r"model\.blocks: is 9, but SmallResNet is a chain of 6 part\(s\); "
                                            r"use 1 to 6, or leave it out"):  # fmt: skip
        blueprint(SmallResNet(), IMAGES, blocks=9)


def test_weights_of_an_instance_are_the_initial_ones_whatever_the_seed_and_it_stays_as_it_is():
    network = SmallResNet()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    own = blueprint(network, IMAGES)
    first, second = own.build_seeded(1), own.build_seeded(2)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(1)
    for name, tensor in second.state_dict().items():
        assert torch.equal(tensor, before[own_name(name)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.slow
def test_a_function_is_called_anew_under_the_seed_with_what_it_asks_for():
    own = blueprint(digits_net, IMAGES, options={"depth": 4})
    check_architecture(own.architecture, spec=IMAGES, width=0.5)
    model = own.build_seeded(3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        theirs = digits_net(10, 1.0, depth=4)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[own_name(name)])
    assert own.at_width(0.25).build_meta().block_shapes[0][0] == 2


def test_a_width_that_means_something_else_is_left_alone():
    def build(num_classes, width=24):
        return nn.Sequential(nn.Linear(20, width), nn.ReLU(), nn.Linear(width, num_classes))

    own = blueprint(build, ROWS)
    assert own.build_meta().block_shapes == ((24,),)
    assert "one width; give a function with a parameter width" in own.architecture.width_hint
    assert given_architecture(digits_net).width_hint == ""


@pytest.mark.slow
def test_classes_and_functions_and_instances_travel_by_standard_pickles():
    for value, spec in ((SmallResNet, IMAGES), (digits_net, IMAGES), (SmallResNet(), IMAGES), (Mlp, ROWS)):
        own = blueprint(value, spec)
        there = pickle.loads(pickle.dumps(own))
        ours, theirs = own.build_seeded(4).state_dict(), there.build_seeded(4).state_dict()
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_equal_architectures_are_equal():
    network = SmallResNet()
    assert settled(network, IMAGES) == settled(network, IMAGES)
    assert settled(network, IMAGES) != settled(network, IMAGES, blocks=2)


def a_block(before, after):
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.ReLU())


def a_head(channels=8, num_classes=10):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


@pytest.mark.parametrize("blocks", [
    [a_block(1, 4), a_block(4, 8)],
    {"early": a_block(1, 4), "late": a_block(4, 8)},
    nn.Sequential(a_block(1, 4), a_block(4, 8)),
    nn.ModuleList([a_block(1, 4), a_block(4, 8)]),
])  # fmt: skip
def test_blocks_and_a_head_stay_as_they_are_given(blocks):
    for value in ((blocks, a_head()), {"blocks": blocks, "head": a_head()}, lambda: (blocks, a_head())):
        model = blueprint(value, IMAGES).build()
        assert model.block_shapes == ((4, 8, 8), (8, 8, 8))
        assert next(iter(model.state_dict())) == "blocks.0.0.weight"
    check_architecture(settled((blocks, a_head()), IMAGES), spec=IMAGES, is_seeded=False)
    assert blueprint((blocks, a_head()), IMAGES, blocks=1).build().num_blocks == 1


def test_given_blocks_that_pass_tokens_with_channels_last_are_turned():
    blocks = [nn.Embedding(30, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)]
    model = blueprint((blocks, nn.Linear(8, 3)), TOKENS_AT_LAST).build()
    assert model.block_shapes == ((8, 12), (8, 12))


TOKENS_AT_LAST = InputSpec(shape=(12,), vocabulary=30, num_classes=12, target_shape=(3,))


def test_a_block_model_is_taken_as_it_is():
    def build(num_classes):
        return BlockModel([a_block(1, 8)], a_head(8, num_classes), tails=((),), block_shapes=((8, 8, 8),))

    assert blueprint(build, IMAGES).build().num_blocks == 1
    with pytest.raises(ScenarioError, match=r"model\.blocks: is 3, but build is a BlockModel of 1; leave it out"):
        blueprint(build, IMAGES, blocks=3).build()
    model = build(10)
    again = blueprint(model, IMAGES).build()
    assert again is not model
    assert torch.equal(again.head[2].weight, model.head[2].weight)


class Shared(nn.Module):
    """A language model whose output layer is its embedding."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(30, 8)
        self.hidden = nn.Linear(8, 8)
        self.out = nn.Linear(8, 30, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, ids):
        return self.out(torch.relu(self.hidden(self.embedding(ids)))).transpose(1, 2)


def test_what_shares_a_parameter_stays_in_one_block_and_says_so():
    own = blueprint(Shared(), TAGS)
    assert own.build().num_blocks == 1
    assert own.architecture.remarks == ("Shared stays one block: its first and last layers share parameters",)
    require_same_values(Shared(), TAGS)


def require_same_values(network, spec):
    inputs = noise(spec, BATCH)
    assert torch.equal(blueprint(network, spec).build().eval()(inputs), copy.deepcopy(network).eval()(inputs))


class Branching(nn.Module):
    """Asks for the batch's size, which no trace can keep open."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(20, 8)
        self.second = nn.Linear(8, 4)

    def forward(self, x):
        hidden = torch.relu(self.first(x))
        if len(x) > 1:
            hidden = hidden * 2
        return self.second(hidden)


class Counting(Branching):
    """Changes itself in each call."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return self.second(torch.relu(self.first(x)))


class HalfFrozen(Branching):
    """Switches gradients in the middle."""

    def forward(self, x):
        with torch.no_grad():
            hidden = self.first(x)
        return self.second(hidden)


class Drawing(Branching):
    """Draws a number of Python's."""

    def forward(self, x):
        import random

        return self.second(self.first(x) * random.random())


@pytest.mark.parametrize(("network", "reason"), [
    (Branching, "it asks how many samples there are"),
    (Counting, "it sets calls of Counting anew"),
    (HalfFrozen, "it switches gradients or precision"),
    (Drawing, "it draws random numbers of Python's or NumPy's"),
])  # fmt: skip
def test_what_cannot_be_taken_apart_stays_one_block_and_says_why_and_where(network, reason):
    own = blueprint(network(), ROWS)
    assert own.build().num_blocks == 1
    (remark,) = own.architecture.remarks
    assert remark.startswith(f"{network.__name__} stays one block, since its forward cannot be taken apart: {reason}")
    if network is not Drawing:
        require_same_values(network(), ROWS)
    if network is Branching:
        assert f"({__file__}:" in remark


def test_a_module_inside_that_cannot_be_taken_apart_is_called_whole_and_named():
    network = nn.Sequential(nn.Linear(20, 20), nn.Sequential(Branching(), nn.ReLU()), nn.Linear(4, 4))
    own = blueprint(network, ROWS)
    assert own.build().num_blocks == 2
    require_same(network, ROWS)


def test_a_softmax_at_the_end_is_remarked_not_refused():
    network = nn.Sequential(nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 4), nn.Softmax(dim=1))
    (remark,) = settled(network, ROWS).remarks[:1]
    assert "ends in a softmax, but cross-entropy expects logits" in remark
    assert settled(nn.Sequential(nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 4), nn.LogSoftmax(1)), ROWS).remarks == (
        "Sequential is one block: only one layer, or one that cannot be parted, comes before its classifier",
    )


class Returning(Branching):
    """Returns whatever a test says."""

    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, x):
        return self.what(self.second(self.first(x)))


class Failing(Branching):
    """Reads numbers to decide."""

    def forward(self, x):
        if x.sum() > 0:
            x = -x
        return self.second(self.first(x))


def with_double():
    return Mlp().double()


def with_sparse_buffer():
    network = Mlp()
    network.register_buffer("likeness", torch.eye(3).to_sparse())
    return network


def frozen():
    network = Mlp()
    network.first.requires_grad_(False)
    return network


def on_meta():
    with torch.device("meta"):
        return Mlp()


REFUSED = {
    "a tuple": (lambda: Returning(lambda y: (y, y)), r"model: the output of Returning is a tuple of 2, not logits "
                r"\[B, classes\]; let its forward return the logits alone, in training too"),
    "a dict": (lambda: Returning(lambda y: {"logits": y}), r"is a dict of logits, not logits"),
    "another rank": (lambda: Returning(lambda y: y[:, None, :]), r"the output of Returning is \[B, 1, 4\] for .*, not "
                     r"logits \[B, classes\] with 4 classes; let its forward return one row of logits per target"),
    "classes": (lambda: nn.Linear(20, 7), r"the output of Linear has 7 classes, and the data have 4; give a network "
                r"for as many, or a function with a parameter num_classes"),
    "samples": (lambda: nn.Sequential(nn.Linear(20, 8), nn.Linear(9, 4)), r"Sequential fails on a batch of shape "
                r"\(7, 20\) \(rows of 20 numbers\): .*\(1\); give a network that reads such samples"),
    "numbers": (Failing, r"the forward of Failing looks at the numbers of a tensor \(.*test_models_given\.py:\d+\); "
                r"what a step needs is predicted on tensors without numbers: decide by shapes, or with torch\.where"),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(4)), r"Sequential has lazy layers whose shapes are not known yet: 0; "
             r"call it on a batch once before it is given, or give a function that does"),
    "empty": (nn.ReLU, r"ReLU has no parameters, so there is nothing to train; give a network with weights"),
    "frozen": (frozen, r"2 of the 10 parameters of Mlp are frozen: first\.weight, first\.bias; what is frozen and when, "
               r"the method decides; call requires_grad_\(True\) on them, or make them buffers"),
    "dtype": (with_double, r"first\.weight of Mlp is of torch\.float64, and weights are float32 here; call \.float\(\)"),
    "sparse": (with_sparse_buffer, r"likeness of Mlp is a sparse_coo tensor, and tensors of models are dense here; "
               r"give its to_dense\(\)"),
    "device": (on_meta, r"first\.weight of Mlp is on meta, and models are built on cpu; give it with its numbers"),
    "number": (lambda: 3, r"model: a int cannot be used as a model; give an nn\.Module, a function or class that builds "
               r"one, \(\[block, \.\.\.\], head\), or a BlockModel"),
    "list": (lambda: [nn.Linear(2, 2)], r"a list of 1 cannot be used as a model"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trained_is_refused_with_the_reason(case):
    make, message = REFUSED[case]
    with pytest.raises(ScenarioError, match=message):
        blueprint(make(), ROWS).build()


def test_logits_with_classes_last_are_told_how_to_turn():
    class Last(SmallGpt):
        def forward(self, ids):
            return super().forward(ids).transpose(1, 2)

    with pytest.raises(ScenarioError, match=r"the output of Last is \[B, 12, 30\], classes last, not logits "
                                            r"\[B, classes, 12\]; return logits\.transpose\(1, 2\)"):  # fmt: skip
        blueprint(Last(), TAGS)


def test_options_go_to_functions_and_have_to_fit():
    with pytest.raises(ScenarioError, match=r"model\.options\.dept: digits_net has no parameter dept; did you mean "
                                            r"'depth'\?; its parameters are num_classes, width, depth"):  # fmt: skip
        given_architecture(digits_net, options={"dept": 3})
    with pytest.raises(ScenarioError, match=r"model\.options: options are given \(depth\), but Mlp is built already"):
        given_architecture(Mlp(), options={"depth": 3})

    def build(features, num_classes):
        return nn.Linear(features, num_classes)

    with pytest.raises(ScenarioError, match=r"nothing gives the parameter features of build a value; give it in "
                                            r"model\.options; known without are input_shape, num_classes"):  # fmt: skip
        given_architecture(build)
    assert blueprint(build, ROWS, options={"features": 20}).build().num_blocks == 1


def test_a_function_that_fails_or_returns_something_else_is_told_with_its_line():
    def fails(num_classes):
        raise ValueError(f"no network for {num_classes}")

    with pytest.raises(ScenarioError, match=r"model: fails\(num_classes=4\) failed: ValueError: no network for 4 "
                                            r"\(.*test_models_given\.py:\d+\); see that line, or model\.options"):  # fmt: skip
        blueprint(fails, ROWS)
    with pytest.raises(ScenarioError, match=r"<lambda> returned a NoneType; let it return an nn\.Module"):
        blueprint(lambda: None, ROWS)


def test_given_blocks_have_to_chain_and_to_share_nothing():
    with pytest.raises(ScenarioError, match=r"block 1 of the network of given blocks cannot read what block 0 puts out, "
                                            r"\(4, 8, 8\): .*; give blocks of which each reads"):  # fmt: skip
        blueprint(([a_block(1, 4), a_block(5, 8)], a_head()), IMAGES)
    same = a_block(1, 1)
    with pytest.raises(ScenarioError, match=r"0\.weight of block 1 is also a parameter of block 0; put what shares"):
        blueprint(([same, same], a_head(1)), IMAGES)
    with pytest.raises(ScenarioError, match=r"block 0 of .* \(0\) does not put out one tensor with a row per sample"):
        blueprint(([nn.LSTM(20, 4), nn.Linear(4, 4)], nn.Linear(4, 4)), ROWS)


class NeedsNumbers(nn.Module):
    """Reads numbers while it is built, as vision transformers do for their rates of stochastic depth."""

    def __init__(self, num_classes):
        super().__init__()
        rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]
        self.layers = nn.Sequential(*(nn.Sequential(nn.Linear(20, 20), nn.Dropout(rate)) for rate in rates))
        self.out = nn.Linear(20, num_classes)

    def forward(self, x):
        return self.out(self.layers(x))


def test_a_function_that_reads_numbers_while_it_builds_is_profiled_too():
    own = blueprint(NeedsNumbers, ROWS)
    assert own.build_meta().num_blocks == 3
    found = profile("full", lambda: FullModel(own), batch_size=4, training=Training(batch_size=4, learning_rate=0.1),
                    spec=ROWS)  # fmt: skip
    assert found.peak_memory_bytes > 0


class Mixed(nn.Module):
    """In-place changes, constants, sizes, and tensors that are not registered, all in one forward."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.scale = torch.tensor(0.5)
        self.shift = nn.Parameter(torch.ones(4, 1, 1))
        self.register_buffer("grid", torch.arange(8.0), persistent=False)
        self.fc = nn.Linear(4 * 64, 10)

    def forward(self, x):
        b, _, h, w = x.shape
        assert h == w == 8
        x = self.first(x) * self.scale
        x.add_(self.grid.view(1, 1, 1, -1))
        x = F.relu(x, inplace=True)
        x = self.second(x) + self.shift
        return self.fc(F.dropout(x.reshape(b, -1), p=0.3, training=self.training))


def test_constants_sizes_in_place_changes_and_own_parameters_are_kept():
    model = require_same(Mixed(), IMAGES)
    assert model.num_blocks == 2, [list(block._modules) for block in model.blocks]
    assert "blocks.1.shift" in dict(model.named_parameters())


def test_the_class_token_of_the_root_is_in_the_first_block():
    names = list(dict(blueprint(WithClassToken(), IMAGES).build().named_parameters()))
    assert {"blocks.0.token", "blocks.0.positions"} <= set(names)
    assert blueprint(SmallTransformer(), TOKENS).build().num_blocks == 4


class Widening(nn.Module):
    """Parts and head that would be told apart otherwise at each width: by their shares of the weights, and by widening."""

    def __init__(self, num_classes, width):
        super().__init__()
        channels = max(1, round(16 * width))
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.body = Pair(channels)
        self.widen = nn.Conv2d(channels, 8, 1)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x):
        x = F.relu(self.widen(self.body(F.relu(self.first(x)))))
        return self.fc(x.mean((2, 3)))


class Pair(nn.Module):
    """Two layers, between which it can be cut if it is looked into."""

    def __init__(self, channels):
        super().__init__()
        self.one = nn.Conv2d(channels, channels, 3, padding=1)
        self.two = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.two(torch.relu(self.one(x)))


def test_blocks_and_their_names_are_the_same_at_every_width_settled_or_not():
    for architecture in (given_architecture(Widening), settled(Widening, IMAGES)):
        own = Blueprint(architecture=architecture, spec=IMAGES)
        names = [list(own.at_width(width).build_meta().state_dict()) for width in (1.0, 0.5, 0.0625)]
        assert names[0] == names[1] == names[2]


def test_what_holds_a_variable_longer_than_needed_is_all_that_a_cut_frees():
    training = Training(batch_size=8, learning_rate=0.1)
    network = SmallTransformer()
    cut, whole = (
        profile("full", lambda chosen=chosen: FullModel(chosen), batch_size=8, training=training, spec=TOKENS)
        for chosen in (
            blueprint(network, TOKENS),
            Blueprint(architecture=functools.partial(_uncut, network), spec=TOKENS),
        )
    )
    assert 0.999 * whole.peak_memory_bytes < cut.peak_memory_bytes <= whole.peak_memory_bytes
    assert cut.flops_per_step == whole.flops_per_step


def test_no_kept_profile_is_one_of_a_model_that_was_handed_over():
    assert identity_of(blueprint=blueprint(SmallResNet, IMAGES)) is None


class BySize(nn.Module):
    """Has a layer more for images of twice the side."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(1, 1, 3, padding=1) for _ in range(4))
        self.fc = nn.Linear(1, 10)

    def forward(self, x):
        for layer in self.layers[: x.shape[-1] // 4]:
            x = F.relu(layer(x))
        return self.fc(x.mean((2, 3)))


def test_a_network_that_is_another_one_for_other_samples_is_refused_as_a_proxy():
    own = settled(BySize(), IMAGES)
    with pytest.raises(ScenarioError, match="the forward of BySize does other things with 1x16x16 images than with what "
                                            "is charged; use the same samples for both"):  # fmt: skip
        Blueprint(architecture=own, spec=InputSpec(shape=(1, 16, 16), num_classes=10)).build_meta()


class Uncopyable(Mlp):
    """Holds what nothing can copy."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


def test_what_cannot_be_copied_is_to_be_given_as_a_function():
    with pytest.raises(ScenarioError, match=r"Uncopyable cannot be copied: TypeError: cannot pickle '_thread\.lock' "
                                            r"object; give the class or a function that builds it"):  # fmt: skip
        blueprint(Uncopyable(), ROWS)


class ByConstant(Branching):
    """Reads a number that it has just written down, which fake steps know and the meta device does not."""

    def forward(self, x):
        return self.second(self.first(x) * torch.tensor(2.0).item())


def test_a_constant_that_is_read_keeps_a_network_whole():
    own = blueprint(ByConstant(), ROWS)
    assert own.build().num_blocks == 1
    found = profile("full", lambda: FullModel(own), batch_size=4, training=Training(batch_size=4, learning_rate=0.1),
                    spec=ROWS)  # fmt: skip
    assert found.peak_memory_bytes > 0
    require_same_values(ByConstant(), ROWS)


def test_numbers_that_another_thread_draws_meanwhile_do_not_count():
    stop = threading.Event()

    def draw() -> None:
        while not stop.is_set():
            random.random()
            np.random.rand()  # noqa: NPY002

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        spec = InputSpec(shape=(1, 8, 8), num_classes=3)
        network = nn.Sequential(*(nn.Conv2d(1 if place == 0 else 4, 4, 3, padding=1) for place in range(4)),
                                nn.Flatten(), nn.Linear(256, 3))  # fmt: skip

        class Whole(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layers = network

            def forward(self, images):
                return self.layers(images)

        found = given_architecture(Whole()).settled(spec, batch_size=4, state_copies=0)
    finally:
        stop.set()
        thread.join()
    assert not found.remarks
    assert len(found(spec, 1.0).blocks) == 4
