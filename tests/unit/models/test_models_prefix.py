"""The frozen prefix: what belongs to it, that it is computed once per sample and flight, and that no bit moves by that."""

import functools
import random

import numpy as np
import pytest
import torch
from made_flights import cost_of
from thin_models import blueprint
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_pre_hook

from neulite_sim.methods.contract import LocalTask, Setting
from neulite_sim.models.company import is_known
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.given import given_architecture
from neulite_sim.models.prefix import PrefixKeeper, cut
from neulite_sim.models.shortcuts import take_shortcuts
from neulite_sim.models.together import pack
from neulite_sim.models.trainee import FullModel, Trainee, in_layout, lay_out
from neulite_sim.registry import component
from neulite_sim.scenario.schema import Training
from neulite_sim.training.local import train_locally

WATCHES = []


def trainee_of(kind, submodel, model, shape=(3, 16, 16), width=0.1, **options):
    plan, found = blueprint(model, shape, width, num_classes=3), component("method", kind)
    setting = Setting(num_blocks=plan.build_meta().num_blocks, num_devices=3, max_rounds=8, seed=0)
    return found.build(found.options(**options), setting).trainee(submodel, plan)


def trained(build, *, samples=13, shape=(3, 16, 16), transform=None, batch_size=5, **options):
    """Return the trainee and its update after a flight of a worker, seeded alike whatever the options."""
    torch.manual_seed(0)
    trainee = build()
    lay_out(trainee)
    pack(trainee)
    take_shortcuts(trainee)
    trainee.reports_squared_loss = trainee.takes_shortcuts = True
    inputs, labels = in_layout(torch.randn(samples, *shape)), torch.arange(samples) % 3
    task = LocalTask(
        flight=1, cost=cost_of(0, "any", peak_memory_bytes=1, available_memory_bytes=2), version=0, seed=5,
        learning_rate=0.05, enforces_memory=False,
    )  # fmt: skip
    training = Training(**{"epochs": 3, "batch_size": batch_size, **options})
    return trainee, train_locally(trainee, inputs, labels, task=task, training=training, transform=transform)


def assert_same_bits(build, **how):
    (_, plain), (_, kept) = (trained(build, prefix_cache=cache, **how) for cache in ("none", "simulator"))
    assert (plain.loss, plain.metrics) == (kept.loss, kept.metrics)
    assert all(torch.equal(tensor, kept.tensors[name]) for name, tensor in plain.tensors.items())


def counted(layer):
    """Return a list that grows by the size of each batch that a layer reads."""
    seen = []

    def watch(module, inputs):
        if module is layer:
            seen.append(len(inputs[0]))

    # A hook of the layer's own could be anybody's code, and would have it tried out.
    WATCHES.append(register_module_forward_pre_hook(watch))
    return seen


@pytest.fixture(autouse=True)
def _nobody_watches_on():
    yield
    while WATCHES:
        WATCHES.pop().remove()


def samples_seen(build, layer_of=lambda trainee: trainee.blocks[0][0], **how):
    seen = []

    def watched():
        trainee = build()
        seen.append(counted(layer_of(trainee)))
        return trainee

    trained(watched, **how)
    return sum(seen[0])


STAGES = [
    ("resnet18", "stage-2"), ("resnet18", "stage-4"), ("resnet34", "stage-3"), ("vgg11_bn", "stage-3"),
    ("squeezenet", "stage-3"), ("cnn", "stage-2"), ("lenet", "stage-2"), ("vit", "stage-2"), ("vit", "stage-3"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("model", "stage"), STAGES)
def test_no_bit_depends_on_whether_features_are_kept(model, stage):
    """Thirteen samples in batches of five: a last batch of three, other company for each sample in each epoch."""
    side = 32 if model in ("vgg11_bn", "squeezenet") else 16
    assert_same_bits(
        lambda: trainee_of("neulite", stage, model, (3, side, side), 0.1 if model != "vit" else 0.05),
        shape=(3, side, side),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"micro_batch_size": 2},
        {"micro_batch_size": 1},
        {"checkpointing": True},
        {"precision": "bf16", "micro_batch_size": 3},
        {"batch_size": 1, "epochs": 2},
        {"batch_size": 4},
        {"optimizer": "adam"},
    ],
    ids=str,
)
def test_no_bit_depends_on_it_in_any_kind_of_step(options):
    assert_same_bits(lambda: trainee_of("neulite", "stage-3", "resnet18"), **options)


@pytest.mark.parametrize("samples", [17, 20, 30])
def test_batches_whose_size_decides_on_other_kernels_keep_their_bits(samples):
    """PyTorch computes 1x1 convolutions of fewer than 16 samples otherwise: in last batches of 1, 4 and 14 here."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert_same_bits(
            lambda: trainee_of("neulite", "stage-3", "squeezenet", (3, 32, 32), 0.25),
            shape=(3, 32, 32), samples=samples, batch_size=16,
        )  # fmt: skip
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "submodel", "options"),
    [
        ("neulite", "stage-3", {}),
        ("neulite", "stage-3", {"tail": 2}),
        ("neulite", "stage-3", {"coadaptation": False, "curriculum": False}),
        ("progfed", "grow-3-warmup", {"warmup_rounds": 1}),
        ("progfed", "full-warmup", {"warmup_rounds": 1}),
    ],
)
def test_a_flight_computes_the_prefix_once_for_each_sample(kind, submodel, options):
    build = lambda: trainee_of(kind, submodel, "resnet18", **options)  # noqa: E731
    assert samples_seen(build, prefix_cache="simulator") == 13
    assert samples_seen(build, prefix_cache="device") == 13
    assert samples_seen(build, prefix_cache="none") == 3 * 13
    assert_same_bits(build)


def head_only():
    model = FullModel(blueprint("resnet18", (3, 16, 16), 0.1, num_classes=3))
    model.blocks.requires_grad_(False)
    return model


def test_training_the_head_alone_keeps_what_the_pooling_of_the_head_makes():
    assert samples_seen(head_only) == 13
    assert samples_seen(head_only, lambda trainee: trainee.head[0]) == 13
    assert samples_seen(head_only, lambda trainee: trainee.head[2]) == 39
    assert_same_bits(head_only)


def test_the_rest_of_the_block_that_is_trained_in_part_is_not_computed_once():
    build = lambda: trainee_of("neulite", "stage-2", "resnet18")  # noqa: E731
    assert samples_seen(build, lambda trainee: trainee.blocks[0].layer0) == 13
    assert samples_seen(build, lambda trainee: trainee.blocks[0].layer1.conv2) == 39


class Shaken(nn.Module):
    """Adds noise, as no layer of PyTorch's that is known to."""

    def forward(self, maps):
        return maps + torch.randn_like(maps)


class Lucky(nn.Module):
    """Draws from Python's generator, as stochastic depth that was published does."""

    def __init__(self):
        super().__init__()
        random.seed(0)

    def forward(self, maps):
        return maps * random.random()


class Dealt(nn.Module):
    """Draws from NumPy's."""

    def __init__(self):
        super().__init__()
        np.random.seed(0)  # noqa: NPY002

    def forward(self, maps):
        return maps * float(np.random.normal())  # noqa: NPY002


class Counting(nn.Module):
    """Changes a buffer of its own."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, maps):
        self.calls += 1
        return maps * self.calls


class Thinning(nn.Module):
    """Puts out every other number of each row: not a sample's numbers side by side."""

    def forward(self, maps):
        return maps[..., ::2]


class Small(Trainee):
    """A frozen convolution, a layer of choice, and a trained head."""

    def __init__(self, layer, **settings):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(3, 4, 3), layer).requires_grad_(False)])
        self.head = nn.Linear(4, 3)
        for name, value in settings.items():
            setattr(self, name, value)

    def loss(self, images, labels):
        maps = self.along(self.blocks, images)
        return F.cross_entropy(self.head(maps.mean(dim=(2, 3))), labels), {}


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.ReLU, 13),
        (lambda: nn.BatchNorm2d(4), 13),
        (lambda: nn.GroupNorm(2, 4), 13),
        (lambda: nn.Dropout(0.0), 13),
        (lambda: nn.BatchNorm2d(4, track_running_stats=False), 13),
        (lambda: nn.Dropout(0.5), 13),
    ],
)
def test_what_stands_before_a_layer_that_varies_is_still_kept(layer, expected):
    assert samples_seen(lambda: Small(layer())) == expected
    assert_same_bits(lambda: Small(layer()))


class Replacing(nn.Module):
    """Puts another tensor in the place of its buffer, as own running means do."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4, 1, 1))

    def forward(self, maps):
        self.mean = 0.9 * self.mean + 0.1
        return maps - self.mean


class Growing(nn.Module):
    """Counts its calls in a plain number, and goes by it."""

    calls = 0

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, maps):
        self.calls += 1
        return maps * self.calls


@pytest.mark.parametrize("layer", [Shaken, Lucky, Dealt, Counting, Thinning, Replacing, Growing])
def test_nothing_is_kept_of_a_prefix_that_turns_out_to_vary(layer):
    assert samples_seen(lambda: Small(layer())) == 39
    assert_same_bits(lambda: Small(layer()))


class Own(nn.Module):
    """Does something of somebody's own."""

    def __init__(self, does):
        super().__init__()
        self.does = [does]

    def forward(self, maps):
        return self.does[0](maps)


def own_norm(maps):
    return (maps - maps.mean((0, 2, 3), keepdim=True)) / maps.std((0, 2, 3), keepdim=True)


def trimmed(maps):
    """As wide as the batch needs it."""
    return maps[..., : 1 + int((maps.mean() * 1e6).abs()) % 5].contiguous()


def attending(maps):
    """Attention along the wrong dimension."""
    return torch.softmax(maps.flatten(1) @ maps.flatten(1).T, dim=1) @ maps.flatten(1)


def hooked(layer):
    layer.register_forward_hook(lambda _layer, _inputs, maps: maps - maps.mean(0))
    return layer


def bare(does):
    layer = nn.Identity()
    layer.forward = does
    return layer


LOOKS_AT_ITS_BATCH = {
    "its mean": lambda: Own(lambda maps: maps - maps.mean(0, keepdim=True)),
    "an own norm": lambda: Own(own_norm),
    "a functional norm": lambda: Own(lambda maps: F.batch_norm(maps, None, None, training=True)),
    "its largest number": lambda: Own(lambda maps: maps / maps.abs().max()),
    "its smallest numbers": lambda: Own(lambda maps: maps - maps.amin(0)),
    "its first sample": lambda: Own(lambda maps: maps - maps[:1]),
    "the sample beside": lambda: Own(lambda maps: maps + maps.roll(1, 0)),
    "a little of it": lambda: Own(lambda maps: maps + 1e-6 * maps.mean(0)),
    "places in it": lambda: Own(lambda maps: maps * torch.arange(len(maps)).view(-1, 1, 1, 1)),
    "its size": lambda: Own(lambda maps: maps / len(maps)),
    "its size in pairs": lambda: Own(lambda maps: maps * (1 + len(maps) % 2)),
    "its samples running": lambda: Own(lambda maps: maps.cumsum(0)),
    "what it needs": lambda: Own(trimmed),
    "all at once": lambda: Own(lambda maps: maps.relu() - maps.relu().mean()),
    "others' likeness": lambda: nn.Sequential(Own(attending), nn.Unflatten(1, (4, 14, 14))),
    "a dimension of choice": lambda: nn.Softmax(dim=0),
    "attention the wrong way": lambda: nn.Sequential(
        nn.Flatten(2), nn.TransformerEncoderLayer(196, 2, 8, 0.0), nn.Unflatten(2, (14, 14))
    ),
    "where numbers lie": lambda: nn.Sequential(
        nn.Flatten(2), nn.TransformerEncoderLayer(196, 2, 8, 0.0, batch_first=True), nn.Unflatten(2, (14, 14))
    ),
    "a hook": lambda: hooked(nn.Identity()),
    "a forward put on a layer": lambda: bare(lambda maps: maps - maps.mean(0)),
}
DOES_NOT = {
    "an own scale": lambda: Own(lambda maps: maps * 2),
    "its own mean": lambda: Own(lambda maps: maps - maps.mean((1, 2, 3), keepdim=True)),
    "its own largest number": lambda: Own(lambda maps: maps / maps.abs().amax((1, 2, 3), keepdim=True)),
    "rows": lambda: nn.Sequential(Own(lambda maps: maps.flatten(2)), nn.Linear(196, 196), nn.Unflatten(2, (14, 14))),
    "a hook that watches": lambda: hooked_in_vain(nn.Conv2d(4, 4, 3, padding=1)),
}


def hooked_in_vain(layer):
    layer.register_forward_hook(lambda *_: None)
    return layer


@pytest.mark.parametrize("batch_size", [2, 5])
@pytest.mark.parametrize("layer", LOOKS_AT_ITS_BATCH.values(), ids=LOOKS_AT_ITS_BATCH)
def test_nothing_is_kept_of_a_prefix_that_looks_at_its_batch(layer, batch_size):
    assert_same_bits(lambda: Small(layer()), batch_size=batch_size)


@pytest.mark.parametrize("layer", DOES_NOT.values(), ids=DOES_NOT)
def test_what_is_not_known_is_tried_out_once_and_kept_where_it_looks_at_each_sample_alone(layer):
    assert_same_bits(lambda: Small(layer()))
    # The first batch of five twice more, and the last one, of three.
    assert samples_seen(lambda: Small(layer())) == 13 + 5 + 5 + 3


def test_batches_of_one_sample_have_no_company():
    build = lambda: Small(Own(lambda maps: maps - maps.mean(0) + 1))  # noqa: E731
    assert samples_seen(build, batch_size=1, samples=12) == 12
    assert_same_bits(build, batch_size=1, samples=12)


def first_batch_of(does, inputs):
    """Return what a keeper keeps of the first batch of a flight."""
    chain = nn.Conv2d(1, 2, 1).requires_grad_(False), Own(does), nn.Linear(2, 2)
    keeper = PrefixKeeper(len(inputs))
    keeper.announce(inputs, np.arange(len(inputs)))
    keeper.lead(inputs, chain)
    return keeper.tables


def test_samples_or_features_that_are_all_alike_tell_nothing():
    centred = lambda maps: maps - maps.mean(0) + 1  # noqa: E731
    assert not first_batch_of(centred, torch.ones(4, 1, 2, 2))
    assert not first_batch_of(lambda maps: (maps - maps.mean(0) - 100).relu(), torch.randn(4, 1, 2, 2))
    assert not first_batch_of(centred, torch.cat([torch.ones(3, 1, 2, 2), torch.zeros(1, 1, 2, 2)]))
    assert first_batch_of(lambda maps: maps + 1, torch.cat([torch.ones(3, 1, 2, 2), torch.zeros(1, 1, 2, 2)]))


def test_what_is_charged_is_not_tried_out():
    inputs = torch.randn(4, 1, 2, 2)
    chain = nn.Conv2d(1, 2, 1).requires_grad_(False), hooked(nn.Identity()), nn.Linear(2, 2)
    keeper, seen = PrefixKeeper(4, tries_company=False), counted(chain[0])
    keeper.announce(inputs, np.arange(4))
    keeper.lead(inputs, chain)
    assert seen == [4]


def test_batch_norm_that_goes_on_collecting_is_computed_in_each_epoch():
    build = lambda: trainee_of("neulite", "stage-3", "vgg11_bn", (3, 32, 32), bn_frozen="train")  # noqa: E731
    norm = lambda trainee: trainee.blocks[0].bn1  # noqa: E731
    assert samples_seen(build, norm, shape=(3, 32, 32)) == 39
    assert_same_bits(build, shape=(3, 32, 32))


def test_augmented_samples_and_a_single_epoch_are_not_kept():
    build = lambda: trainee_of("neulite", "stage-3", "resnet18")  # noqa: E731
    shift = lambda batch, generator: batch + torch.randn((), generator=generator)  # noqa: E731
    assert samples_seen(build, transform=shift) == 39
    assert trained(build, epochs=1)[0].keeper is None
    assert samples_seen(build, epochs=1) == 13


def test_a_trainable_first_block_has_no_prefix():
    for submodel in ("stage-1", "stage-2"):
        trainee = trainee_of("neulite", submodel, "lenet")
        trainee.prepare()
        # lenet's blocks are one layer each, and the tail of stage 2 is all of block 1.
        assert cut(trainee.blocks) == ((), tuple(trainee.blocks))


def test_layers_without_parameters_alone_are_not_worth_keeping():
    chain = (nn.Sequential(nn.Flatten(), nn.ReLU()), nn.Linear(4, 2))
    assert cut(chain) == ((), chain)


def test_a_sequence_that_is_watched_is_not_taken_apart():
    block = nn.Sequential(nn.Conv2d(3, 4, 3).requires_grad_(False), nn.Conv2d(4, 4, 3))
    assert [len(part) for part in cut((block,))] == [1, 1]
    block.register_forward_hook(lambda *_: None)
    assert cut((block,)) == ((), (block,))


def kept(most_bytes=2**20, samples=4):
    part = nn.Conv2d(1, 2, 1).requires_grad_(False)
    chain, keeper = (part, nn.Conv2d(2, 2, 1)), PrefixKeeper(samples, most_bytes=most_bytes)
    inputs = torch.randn(samples, 1, 2, 2)
    keeper.announce(inputs, np.arange(samples))
    keeper.lead(inputs, chain)
    return keeper, chain, inputs


def test_features_take_their_bytes_and_no_more_than_is_allowed():
    keeper, _, _ = kept()
    assert keeper.bytes_per_sample == 2 * 2 * 2 * 4
    assert kept(most_bytes=4 * 32)[0].tables
    assert not kept(most_bytes=4 * 32 - 1)[0].tables
    assert kept(most_bytes=4 * 32 - 1)[0].bytes_per_sample == 0


def test_autograd_sees_nothing_of_the_prefix():
    keeper, chain, inputs = kept()
    keeper.announce(inputs, np.arange(4))
    features, left = keeper.lead(inputs, chain)
    assert not features.requires_grad
    assert left == chain[1:]
    # Where nobody keeps anything it sees nothing, either: neither inputs nor weights want a gradient.
    assert not chain[0](inputs).requires_grad


def test_inputs_that_were_not_announced_are_computed():
    keeper, chain, inputs = kept()
    other = torch.randn(4, 1, 2, 2)
    assert torch.equal(keeper.lead(other, chain)[0], chain[0](other))
    assert not torch.equal(keeper.lead(other, chain)[0], keeper.lead(inputs, chain)[0])


def test_another_chain_begins_anew():
    keeper, chain, inputs = kept()
    other = (nn.Conv2d(1, 3, 1).requires_grad_(False), *chain[1:])
    assert torch.equal(keeper.lead(inputs, other)[0], other[0](inputs))
    assert keeper.bytes_per_sample == 3 * 2 * 2 * 4


def test_a_flight_leaves_nothing_behind():
    assert trained(lambda: trainee_of("neulite", "stage-3", "resnet18"))[0].keeper is None


KNOWN = [nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.LSTM(2, 2, batch_first=True), nn.Softmax(dim=1), nn.GELU(), nn.GLU(),
         nn.Sequential(Own(None))]  # fmt: skip
UNKNOWN = [nn.LSTM(2, 2), nn.GRU(2, 2), nn.Softmax(dim=0), nn.LogSoftmax(dim=-2), nn.Softmin(), Own(None),
           nn.MultiheadAttention(2, 1, batch_first=True), hooked(nn.ReLU()), bare(torch.tanh)]  # fmt: skip


def test_known_are_layers_of_classes_that_cannot_take_the_batch_for_something_else():
    assert [layer for layer in KNOWN if not is_known(layer)] == []
    assert [layer for layer in UNKNOWN if is_known(layer)] == []


class Centred(nn.Module):
    """A network of PyTorch's layers that does something of its own between them."""

    def __init__(self, between):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3 if number == 0 else 4, 4, 3, padding=1) for number in range(4))
        self.last, self.between = nn.Linear(4, 3), between

    def forward(self, maps):
        for conv in self.convs:
            maps = conv(maps).relu()
            maps = (
                maps - maps.mean(0, keepdim=True) if self.between == "batch" else maps - maps.mean((2, 3), keepdim=True)
            )
        return self.last(maps.square().mean((2, 3)))


@pytest.mark.parametrize(("between", "expected"), [("batch", 39 + 5), ("sample", 13 + 5 + 5 + 3)])
def test_what_a_network_that_was_cut_does_between_its_layers_is_tried_out(between, expected):
    architecture = given_architecture(functools.partial(Centred, between), blocks=4)
    plan = Blueprint(architecture=architecture, input_shape=(3, 16, 16), num_classes=3)
    found = component("method", "neulite")
    setting = Setting(num_blocks=4, num_devices=3, max_rounds=8, seed=0)

    def build():
        return found.build(found.options(), setting).trainee("stage-3", plan)

    assert_same_bits(build)
    first = lambda trainee: trainee.blocks[0].convs.get_submodule("0")  # noqa: E731
    assert samples_seen(build, first) == expected
