"""SLT: configurations and switch points of the authors' code, exactly; mixed widths against a plain twin; the mean."""

import functools
import itertools
import pickle
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

from neulite_sim.errors import ScenarioError
from neulite_sim.methods.contract import Setting, Update
from neulite_sim.methods.staircase import (
    Configuration,
    OverBudgetError,
    depths_of,
    search,
    switch_rounds,
    thinned,
)
from neulite_sim.methods.successive import SuccessiveModel, chain_of
from neulite_sim.models.contract import BlockModel, Blueprint, scaled
from neulite_sim.registry import component

GIGABYTE = 10**9
PUBLISHED = {
    0.125: [(0.03, 0.1), (0.03, 0.15), (0.03, 0.2), (0.03, 0.25), (0.06, 0.3), (0.07, 0.35), (0.08, 0.4), (0.2, 0.45),
            (0.2, 0.5), (0.28, 0.55), (0.28, 0.6), (0.4, 0.65), (0.4, 0.7), (0.7, 0.75), (0.8, 0.8), (1.0, 0.85)],
    0.25: [(0.185, 0.1), (0.19, 0.15), (0.19, 0.2), (0.25, 0.25), (0.25, 0.3), (0.35, 0.35), (0.35, 0.4), (0.5, 0.45),
           (0.5, 0.5), (0.7, 0.55), (0.8, 0.6), (1.0, 0.65)],
    0.5: [(0.47, 0.1), (0.5, 0.15), (0.55, 0.2), (0.64, 0.25), (0.68, 0.3), (0.83, 0.35), (0.95, 0.4), (1.0, 0.45)],
}  # fmt: skip
"""The configurations of ResNet20 that the authors publish, by the width m whose memory they keep to."""
SWITCHES = {
    0.125: (30, 31, 35, 39, 43, 48, 53, 60, 85, 122, 165, 207, 278, 356, 545, 778, 1000),
    0.25: (185, 193, 206, 219, 240, 260, 295, 332, 406, 485, 610, 768, 1000),
    0.5: (470, 499, 533, 572, 623, 680, 766, 876, 1000),
}
SEARCHED = {
    0.125: (0.062, 0.062, 0.062, 0.078, 0.078, 0.093, 0.093, 0.187, 0.187, 0.343, 0.343, 0.484, 0.531, 0.781, 0.859, 1),
    0.25: (0.218, 0.249, 0.249, 0.312, 0.312, 0.374, 0.406, 0.562, 0.578, 0.781, 0.859, 1.0),
    0.5: (0.499, 0.531, 0.562, 0.656, 0.718, 0.874, 0.968, 1.0),
}
"""What the authors' search finds with their estimate of memory, at d = 0.06, 0.11, 0.16, 0.22, ..."""
BUDGETS = {0.125: 0.012, 0.25: 0.0242, 0.5: 0.0486}
"""Their memory of ResNet20 at width m, in gigabytes to four decimals."""


def blueprint(kind, shape=(3, 32, 32), width=1.0, classes=10, **options):
    found = component("model", kind)
    architecture = found.build(found.options(**options))
    return Blueprint(architecture=architecture, input_shape=shape, num_classes=classes, width=width, name=kind)


@functools.cache
def theirs():
    return blueprint("resnet20", shortcut="convolution", head_side=2)


def slt(model=None, rounds=1000, **options):
    built = (model or theirs()).build_meta()
    layers = tuple(map(len, built.layers))
    setting = Setting(num_blocks=len(layers), num_layers=layers, num_devices=4, max_rounds=rounds, seed=3)
    found = component("method", "slt")
    return found.build(found.options(**options), setting)


def built(configuration, model=None, frozen_batch_norm="train"):
    with torch.device("meta"):
        return SuccessiveModel(model or theirs(), configuration, frozen_batch_norm=frozen_batch_norm)


@functools.cache
def counts(width, depth):
    model = built(Configuration(width=width, depth=depth))
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)


@pytest.mark.parametrize(
    ("pair", "expected"),
    {
        (0.03, 0.1): (869, 869),
        (0.03, 0.15): (3194, 2730),
        (0.06, 0.3): (10_673, 3201),
        (0.2, 0.45): (31_546, 17_066),
        (0.4, 0.7): (114_109, 53_165),
        (1.0, 0.85): (294_874, 150_538),
    }.items(),
)
def test_configurations_hold_and_train_what_the_authors_do(pair, expected):
    assert counts(*pair) == expected


@pytest.mark.parametrize("subset", PUBLISHED)
def test_configurations_switch_in_the_rounds_of_the_authors_code(subset):
    trained = [counts(*pair)[1] for pair in PUBLISHED[subset]]
    assert switch_rounds(trained, PUBLISHED[subset][0][0], 1000) == SWITCHES[subset]


@functools.cache
def their_memory(width, depth):
    """Return the authors' estimate in gigabytes: all parameters, their gradients, and each output with a gradient."""
    model, configuration = theirs(), Configuration(width=width, depth=depth)
    shapes, frozen = chain_of(model).shapes(configuration), configuration.num_frozen(19)
    threshold = configuration.threshold(19)
    kept = {name: int(np.prod(shape)) for name, shape in shapes.items() if "running" not in name}
    trained = sum(size for name, size in kept.items() if chain_of(model).made[name] >= frozen)
    channels = [16] * 7 + [32] * 6 + [64] * 6
    outputs = [
        (thinned(count, width) if number >= threshold else count) * (32 * 16 // count) ** 2
        for number, count in enumerate(channels)
    ]
    activations = 3 * outputs[0] * (frozen <= 0)
    for first in range(1, 19, 2):
        second, reads_gradient = first + 1, first - 1 >= frozen
        has_shortcut = channels[first] != channels[first - 1]
        activations += 3 * outputs[first] * (first >= frozen) + 4 * outputs[second] * (second >= frozen)
        activations += outputs[second] * (2 * (second >= frozen) if has_shortcut else reads_gradient)
    activations += 2 * outputs[-1] // 16 + 10
    return round(4 * (32 * activations + sum(kept.values()) + trained) / GIGABYTE, 4)


@pytest.mark.parametrize("subset", SEARCHED)
def test_the_search_finds_what_the_authors_find_with_their_memory(subset):
    assert their_memory(subset, 0.0) == BUDGETS[subset]
    found = search(their_memory, BUDGETS[subset], depths_of(19))
    assert [configuration.width for configuration in found] == list(SEARCHED[subset])
    assert [configuration.depth for configuration in found] == list(depths_of(19)[: len(found)])
    assert depths_of(19)[:6] == (0.06, 0.11, 0.16, 0.22, 0.27, 0.32)


def width_after_width(memory, budget, depths, step):
    place, found = 0, []
    for depth in reversed(depths):
        while memory(round(1 - place * step, 6), depth) > budget:
            place += 1
        found.append(round(1 - place * step, 6))
    found.reverse()
    return found[: found.index(1.0) + 1] if 1.0 in found else found


@pytest.mark.parametrize("seed", range(20))
def test_few_values_decide_what_trying_every_width_would(seed):
    draw = random.Random(seed)
    depths, step = depths_of(draw.randint(2, 30)), draw.choice((0.001, 0.01, 0.125, 0.3))
    bends = {depth: (draw.uniform(0.2, 6), draw.randint(10, 10**6), draw.uniform(0.3, 2)) for depth in depths}
    asked = []

    def memory(width, depth):
        power, scale, height = bends[depth]
        asked.append((width, depth))
        return int(scale * height * int(64 * width) ** power / 64**power)

    thinnest = round(1 - int((1 - 1e-9) / step) * step, 6)
    budget = max(memory(thinnest, depth) for depth in depths) + draw.randint(0, 10**6)
    asked.clear()
    found = search(memory, budget, depths, step=step)
    num_asked = len(asked)
    assert [each.width for each in found] == width_after_width(memory, budget, depths, step)
    assert num_asked <= 20 * len(depths)


def test_a_budget_below_the_thinnest_width_is_told_with_what_it_needs():
    with pytest.raises(OverBudgetError, match=r"s0\.25-d0\.67 needs 250") as short:
        search(lambda width, depth: int(1000 * width), 249, depths_of(3), step=0.25)
    assert (short.value.thinnest, short.value.needed) == (Configuration(width=0.25, depth=0.67), 250)


@pytest.mark.parametrize("seed", range(20))
def test_what_a_budget_lacks_is_what_lets_the_search_find_something(seed):
    draw = random.Random(seed)
    depths = depths_of(draw.randint(2, 30))
    heights = {depth: draw.randint(10, 10**6) for depth in depths}
    asked = set()

    def memory(width, depth):
        asked.add((width, depth))
        return heights[depth] + int(10**6 * width)

    with pytest.raises(OverBudgetError) as short:
        search(memory, draw.randint(0, 999) + min(heights.values()), depths)
    assert len(asked) <= 2 * len(depths)
    search(memory, short.value.needed, depths)
    with pytest.raises(OverBudgetError):
        search(memory, short.value.needed - 1, depths)


@pytest.mark.parametrize("number", [1, 7, 49, 50, 99, 100, 101, 333])
def test_the_depths_of_a_network_fill_one_layer_more_each(number):
    thresholds = [Configuration(width=1.0, depth=depth).threshold(number) for depth in depths_of(number)]
    assert thresholds == list(range(1, number))


@pytest.mark.parametrize("configuration", [
    Configuration(width=1.0, depth=0.0), Configuration(width=0.062, depth=0.06), Configuration(width=1.0, depth=0.95),
    Configuration(width=0.5, depth=0.333, training_depth=12), Configuration(width=1e-7, depth=1 / 3, training_depth=2),
    Configuration(width=0.1234567891, depth=1e-5),
])  # fmt: skip
def test_the_name_of_a_submodel_says_what_it_is(configuration):
    assert Configuration.named(configuration.name) == configuration


def test_names_are_those_of_width_and_depth():
    names = [Configuration(width=0.2, depth=0.45, training_depth=depth).name for depth in (1, 4)]
    assert [*names, Configuration(width=1.0, depth=0.0).name] == ["s0.2-d0.45", "s0.2-d0.45-t4", "full"]


class Fleet:
    """The part of a ledger that settling reads: what each submodel needs, and the memory of each device."""

    def __init__(self, memory, needs, owns_data=None, plans=("plain",)):
        self.available_memory_bytes = np.asarray(memory)
        self.owns_data = np.ones(len(memory), bool) if owns_data is None else np.asarray(owns_data)
        self.plans = plans
        self._needs = needs

    def of(self, method):
        return self

    def with_memory(self, memory):
        assert not memory.any()
        return self

    def chosen(self, submodel):
        assert submodel == "full"
        return np.full(len(self.owns_data), len(self.plans) - 1)

    def peak_by(self, submodel, plan, devices):
        """The last plan is the one that needs least."""
        factor = len(self.plans) - self.plans.index(plan)
        return np.full(len(devices), factor * self._needs(Configuration.named(submodel)))

    @property
    def profiles(self):
        return _Profiles()


class _Profiles:
    def __getitem__(self, name):
        configuration = Configuration.named(name)
        trained = counts(configuration.width, configuration.depth)[1]
        return type("P", (), {"trainable_parameters": trained})


def in_bytes(configuration):
    return int(GIGABYTE * their_memory(configuration.width, configuration.depth))


@pytest.mark.parametrize(("subset", "options"), [(0.25, {"subset": 0.25}), (0.5, {"memory": "48.6MB"})])
def test_a_budget_that_is_given_settles_the_configurations(subset, options):
    fleet = Fleet([10**6, 10**9], in_bytes)
    settled = slt(**options).settled(theirs(), fleet.of)
    assert [stage.width for stage in settled.stages[1:]] == list(SEARCHED[subset])
    assert settled.stages[0] == Configuration(width=SEARCHED[subset][0], depth=0.0)
    assert settled.submodels == tuple(stage.name for stage in settled.stages)


def test_published_configurations_settle_into_the_published_rounds():
    settled = slt(configurations=PUBLISHED[0.125]).settled(theirs(), Fleet([0], in_bytes).of)
    assert settled.switches == SWITCHES[0.125]
    stages = [settled._stage_at(version) for version in (0, 29, 30, 31, 999, 1000, 5000)]
    assert stages == [0, 0, 1, 2, 16, 16, 16]


def test_the_smallest_memory_that_holds_a_staircase_is_the_budget():
    fleet = Fleet([10**5, 3 * 10**6, 24_200_000, 10**9], in_bytes)
    settled = slt().settled(theirs(), fleet.of)
    assert [stage.width for stage in settled.stages[1:]] == list(SEARCHED[0.25])
    with pytest.raises(OverBudgetError):
        search(lambda s, d: in_bytes(Configuration(width=s, depth=d)), 3 * 10**6, depths_of(19))


def test_of_several_plans_the_one_that_needs_least_counts():
    fleet = Fleet([24_200_000], in_bytes, plans=("plain", "micro-batches"))
    assert [stage.width for stage in slt().settled(theirs(), fleet.of).stages[1:]] == list(SEARCHED[0.25])


def test_a_device_without_data_does_not_count():
    fleet = Fleet([12 * 10**6, 24_200_000], in_bytes, owns_data=[False, True])
    settled = slt().settled(theirs(), fleet.of)
    assert [stage.width for stage in settled.stages[1:]] == list(SEARCHED[0.25])


def test_a_fleet_that_holds_everything_trains_the_full_model_only():
    settled = slt(rounds=7).settled(theirs(), Fleet([10**9], in_bytes).of)
    assert (settled.submodels, settled.switches) == (("full",), (7,))


def test_a_fleet_that_holds_nothing_is_told_by_what_it_lacks():
    settled = slt().settled(theirs(), Fleet([10**5], in_bytes).of)
    assert len(settled.submodels) == 1
    assert settled.submodels[0].startswith("s0.001-d")
    assert in_bytes(settled.stages[0]) > 10**5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"memory": "1MB"}, r"method\.memory: is 1 MB, but s0\.001-d0\.16, the thinnest .* needs 11\.5 MB; raise it"),
        ({"subset": 0.001}, r"method\.subset: is 0\.001, a budget of 4\.6 MB, but s0\.001-d0\.16, .* needs 11\.5 MB"),
    ],
)
def test_a_budget_that_holds_no_staircase_is_refused(options, words):
    with pytest.raises(ScenarioError, match=words):
        slt(**options).settled(theirs(), Fleet([10**9], in_bytes).of)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"configurations": [[0.5, 0.3], [0.4, 0.6]]}, r"d must rise, but \[0\.4, 0\.6\] follows \[0\.5, 0\.3\]; sort"),
        ({"configurations": [[0.5, 0.3], [0.6, 0.3]]}, r"\[0\.6, 0\.3\] follows \[0\.5, 0\.3\]; sort"),
        ({"configurations": [[0.5, 1.0]]}, "less than 1"),
        ({"configurations": [[0.5, 0.3]], "subset": 0.5}, "acts only without configurations; remove one of them"),
        ({"configurations": [[0.5, 0.3]], "memory": "9MB"}, "acts only without configurations; remove one of them"),
        ({"configurations": [[0.5, 0.3]], "width_step": 0.1}, "acts only without configurations; remove it"),
        ({"memory": "9MB", "subset": 0.5}, r"does not go with subset 0\.5, each is a budget; remove one of them"),
        ({"training_depths": [2, 4]}, r"training_depths is \[2, 4\], but must rise from 1 on; for example \[1, 2, 4\]"),
        ({"training_depths": [1, 4, 4]}, r"training_depths is \[1, 4, 4\], but must rise from 1 on"),
    ],
)
def test_options_that_contradict_are_refused(options, words):
    with pytest.raises(ValidationError, match=words):
        slt(**options)


def test_a_device_with_more_memory_is_offered_more_layers_of_those_there_are():
    method = slt(training_depths=[1, 2, 4], configurations=[[0.2, 0.11], [0.5, 0.16], [1.0, 0.27]])
    assert method._submodels == (
        ("s0.2-d0",), ("s0.2-d0.11-t2", "s0.2-d0.11"), ("s0.5-d0.16-t2", "s0.5-d0.16"),
        ("s1-d0.27-t4", "s1-d0.27-t2", "s1-d0.27"),
    )  # fmt: skip


def sliced(tensor, *sizes):
    return tensor[tuple(map(slice, sizes))]


def twin(tensors, images, threshold, width):
    """Return what SLT's ResNet20 of one class of shortcuts makes of images, written out: every layer by hand."""
    sizes = [thinned(count, width) if number >= threshold else count
             for number, count in enumerate([16] * 7 + [32] * 6 + [64] * 6)]  # fmt: skip

    def layer(x, path, norm, number, stride=1, side=3, reads=None):
        made, weight = sizes[number], tensors[f"{path}.weight"]
        x = F.conv2d(x, sliced(weight, made, x.shape[1]), stride=stride, padding=side // 2)
        return F.batch_norm(x, None, None, sliced(tensors[f"{norm}.weight"], made), sliced(tensors[f"{norm}.bias"], made),
                            training=True)  # fmt: skip

    x = F.relu(layer(images, "blocks.0.stem.conv", "blocks.0.stem.bn", 0))
    number = 1
    for block, index in itertools.product(range(3), range(3)):
        at, stride = f"blocks.{block}.layer{index}", 2 if block and not index else 1
        inner = F.relu(layer(x, f"{at}.conv1", f"{at}.bn1", number, stride))
        inner = layer(inner, f"{at}.conv2", f"{at}.bn2", number + 1)
        if stride == 2:
            around = layer(x, f"{at}.shortcut.conv", f"{at}.shortcut.bn", number + 1, 2)
        else:
            around = x[:, : inner.shape[1]]
        x, number = F.relu(inner + around), number + 2
    x = F.avg_pool2d(x, 4).flatten(1)
    return F.linear(x, tensors["head.fc.weight"][:, : x.shape[1]], tensors["head.fc.bias"])


@pytest.mark.parametrize("threshold", [0, 1, 2, 5, 8, 9, 13, 14, 18])
def test_a_mixed_model_and_its_gradients_are_those_of_a_plain_twin(threshold):
    width, depth = 0.3, threshold / 19 + 1e-6
    configuration = Configuration(width=width, depth=depth, training_depth=2)
    method = slt(configurations=[[0.3, 0.9]])
    method = method._with([configuration], ())
    state = method.start(theirs(), 5, None)
    state = replace(state, tensors={name: tensor.double() for name, tensor in state.tensors.items()})
    trainee = method.trainee(configuration.name, theirs()).double()
    trainee.load_state_dict(method.payload(state, method.submodels[-1]), strict=False)
    whole = {name: tensor.clone().requires_grad_() for name, tensor in state.tensors.items() if "running" not in name}
    generator = torch.Generator().manual_seed(1)
    images, labels = torch.randn(4, 3, 32, 32, generator=generator).double(), torch.tensor([0, 1, 2, 3])
    trainee.prepare()
    loss, _ = trainee.loss(images, labels)
    expected = F.cross_entropy(twin(whole, images, threshold, width), labels)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    for name, parameter in trainee.named_parameters():
        if parameter.requires_grad:
            theirs_grad = sliced(whole[name].grad, *parameter.shape)
            torch.testing.assert_close(parameter.grad, theirs_grad, msg=name)
            rest = whole[name].grad.clone()
            rest[tuple(map(slice, parameter.shape))] = 0
            assert not rest.any(), name


def test_frozen_are_all_layers_before_the_last_ones_of_full_width():
    model = built(Configuration(width=0.5, depth=0.48, training_depth=2))
    frozen = {name.rsplit(".", 1)[0] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {
        "blocks.0.stem.conv", "blocks.0.stem.bn",
        *(f"blocks.0.layer{i}.{part}{j}" for i in range(3) for part in ("conv", "bn") for j in (1, 2)),
    }  # fmt: skip


def test_a_shortcut_is_trained_with_the_layer_that_it_is_added_to():
    for depth, is_trained in ((0.48, True), (0.53, False)):
        model = built(Configuration(width=0.5, depth=depth))
        assert model.blocks[1].layer0.shortcut.conv.weight.requires_grad is is_trained


@pytest.mark.parametrize("over", ["holders", "trainers"])
def test_the_mean_is_over_who_holds_a_scalar_and_what_nobody_trains_stays(over):
    method = slt(configurations=[[0.25, 0.16]], training_depths=[1, 2], averaged_over=over)
    state = method.start(theirs(), 0, None)
    state = replace(state, tensors={name: torch.ones_like(tensor) for name, tensor in state.tensors.items()})
    updates = []
    for device, (submodel, value) in enumerate((("s0.25-d0.16-t2", 7.0), ("s0.25-d0.16", 4.0), ("s0.25-d0.16", 4.0))):
        names = method.trainee(submodel, theirs()).upload_names()
        tensors = {n: torch.full_like(t, value) for n, t in method.payload(state, submodel).items() if n in names}
        updates.append(Update(device=device, submodel=submodel, num_samples=9**device, tensors=tensors, loss=0.0))
    after = method.digest(state, updates).tensors
    assert (after["blocks.0.stem.conv.weight"] == 1).all()
    assert (after["blocks.0.layer0.conv1.weight"] == (3.0 if over == "holders" else 7.0)).all()
    assert (after["blocks.0.layer0.conv2.weight"] == 5).all()
    thin = after["blocks.0.layer1.conv1.weight"]
    assert (thin[:4, :16] == 5).all()
    assert (thin[4:] == 1).all()
    assert (after["head.fc.weight"][:, : 16 * 4] == 5).all()
    assert (after["head.fc.weight"][:, 16 * 4 :] == 1).all()


def test_tested_is_what_the_latest_round_trained_and_the_full_model_once_that_is_whole():
    method = slt(configurations=[[0.5, 0.1], [1.0, 0.5]], rounds=8)
    assert method.switches == (4, 6, 8)
    state = method.start(theirs(), 0, None)
    names = [method.evaluated(replace(state, version=version)) for version in range(9)]
    assert names == ["s0.5-d0"] * 5 + ["s0.5-d0.1"] * 2 + ["full"] * 2
    assert method.evaluation_model("full", theirs()).head.fc.in_features == 256


def test_methods_travel_to_workers_and_make_the_same_models_there():
    one = pickle.loads(pickle.dumps(slt()))
    assert one.trainee("s0.2-d0.45-t3", theirs()).head.fc.in_features == 12 * 4


@pytest.mark.parametrize(("width", "groups"), [(1.0, 2), (0.5, 1), (0.75, 1)])
def test_a_thin_layer_has_groups_as_large_as_the_full_one(width, groups):
    model = replace(theirs(), norm="group")
    trainee = built(Configuration(width=width, depth=0.0), model)
    norm = trainee.blocks[1].layer0.bn1
    assert (norm.num_groups, norm.num_channels) == (groups, 32 * width)
    assert trainee(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)


def plain(input_shape, num_classes, width, *, layers, block):
    channels = scaled(8, width)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
    return BlockModel([block(input_shape[0], channels)], head, tails=(layers[-1],), layers=(layers,),
                      block_shapes=((channels, *input_shape[1:]),))  # fmt: skip


class Joined(nn.Module):
    """A residual block of a stranger's: it adds maps that SLT would make differ in their channels."""

    def __init__(self, channels_in, channels):
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, maps):
        first = self.first(maps)
        return first + self.second(first)


class Grouped(Joined):
    def __init__(self, channels_in, channels):
        super().__init__(channels_in, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)


class Counting(Joined):
    """Insists on the number of channels that it was built with."""

    def __init__(self, channels_in, channels):
        super().__init__(channels_in, channels)
        self.expected = channels

    def forward(self, maps):
        maps = self.second(self.first(maps))
        if maps.shape[1] != self.expected:
            raise KeyError(f"{self.expected} channels were expected")
        return maps


def strange(block, layers):
    def architecture(input_shape, num_classes, width):
        return plain(input_shape, num_classes, width, layers=layers, block=block)

    return Blueprint(architecture=architecture, input_shape=(1, 4, 4), num_classes=3, name="strange")


BOTH = (("first",), ("second",))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (blueprint("vit"), r"vit has a layer that is no plain convolution, blocks\.0\.stem"),
        (strange(Joined, BOTH), r"strange cannot pass on fewer channels from its layer 2 on: .*; choose one that is"),
        (strange(Grouped, BOTH), r"strange has a layer that is no plain convolution, blocks\.0\.second \(Conv2d\)"),
        (strange(Joined, (("second",),)), r"strange does not say which layers its block 0 has \(BlockModel\.layers\)"),
        (strange(Joined, (("first", "second"),)), r"strange has 1 layers of convolutions, and one has to follow"),
        (strange(Joined, (("",),)), r"strange has several convolutions in one layer, blocks\.0; choose one that is"),
        (strange(Counting, BOTH), r"strange cannot pass on fewer channels from its layer 2 on: .*8 channels were"),
        (blueprint("logistic"), r"logistic has 0 layers of convolutions"),
    ],
)
def test_models_that_are_no_chain_of_convolutions_are_refused(model, words):
    with pytest.raises(ScenarioError, match="model: method slt: " + words):
        slt(model).trainee("s0.5-d0.5", model)


@pytest.mark.parametrize("kind", ["cnn", "lenet", "squeezenet", "vgg11_bn", "resnet18", "resnet20"])
def test_every_chain_of_convolutions_is_cut_at_every_layer(kind):
    model = blueprint(kind, (3, 16, 16), width=0.125)
    with torch.device("meta"):
        num_layers = chain_of(model).num_layers
        for number in range(0, num_layers, 3):
            trainee = SuccessiveModel(
                model, Configuration(width=0.4, depth=number / num_layers + 1e-9), frozen_batch_norm="train"
            )
            assert trainee(torch.empty(2, 3, 16, 16)).shape == (2, 10)
