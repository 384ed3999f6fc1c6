"""FeDepth: parts, links and cuts by hand, a plain twin of a local training, and the mean over those who trained it."""

import itertools
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made_flights import cost_of
from thin_models import THREE, Peaks, blueprint, plain_block, samples, three

from neulite_sim.data.batches import batch_slices
from neulite_sim.errors import ScenarioError
from neulite_sim.methods.contract import LocalTask, Setting, Update
from neulite_sim.methods.fedepth import FeDepthOptions
from neulite_sim.methods.parted import Link, PartedModel, make_link
from neulite_sim.methods.parted_cuts import balanced_ends
from neulite_sim.methods.parted_plan import PartedPlan
from neulite_sim.models.balancing import balanced_cuts
from neulite_sim.models.contract import BlockModel, Blueprint
from neulite_sim.models.trainee import FullModel, load_tensors
from neulite_sim.population.availability.kinds import AlwaysOnline
from neulite_sim.population.hardware.catalogue import device_class
from neulite_sim.population.table import Population
from neulite_sim.profiling.audit import audit
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.profiling.profile import profile
from neulite_sim.registry import component
from neulite_sim.scenario.schema import Training
from neulite_sim.seeding import stream
from neulite_sim.training.local import train_locally

BATCH = 4


def fedepth(num_blocks=3, **options):
    setting = Setting(num_blocks=num_blocks, num_devices=4, max_rounds=4, seed=3)
    return component("method", "fedepth").build(FeDepthOptions(**options), setting)


def started(**options):
    method = fedepth(**options)
    return method, method.start(THREE, 1, None)


# What is offered


def test_submodels_are_the_full_model_then_more_parts_then_fewer_blocks():
    assert fedepth().submodels == ("full", "parts-2", "parts-3", "partial-2", "partial-1")
    assert fedepth(partial=False).submodels == ("full", "parts-2", "parts-3")


def test_a_device_takes_the_fewest_parts_whose_largest_fits():
    method, state = started()
    peaks = {"full": 100, "parts-2": 60, "parts-3": 40, "partial-2": 30, "partial-1": 20}
    fleet = Peaks(peaks, [100, 99, 60, 59, 40, 39, 30, 29, 20, 19])
    proposal = method.offers(state, fleet, np.arange(10))
    chosen = [proposal.offers.submodels[index] for index in proposal.offers.submodel_index]
    assert chosen == [
        "full",
        "parts-2",
        "parts-2",
        "parts-3",
        "parts-3",
        "partial-2",
        "partial-2",
        "partial-1",
        "partial-1",
    ]
    (denial,) = proposal.denials
    assert (denial.devices.tolist(), denial.submodel, denial.shortfall_bytes.tolist()) == ([9], "partial-1", [1])


@pytest.mark.parametrize(("submodel", "num_frozen", "ends"), [
    ("full", 0, (3,)), ("parts-3", 0, (1, 2, 3)), ("partial-2", 1, (2, 3)), ("partial-1", 2, (3,)),
])  # fmt: skip
def test_the_parts_of_a_submodel(submodel, num_frozen, ends):
    plan = fedepth().plan(submodel, THREE)
    assert (plan.num_frozen, plan.ends) == (num_frozen, ends)


def trained_in(trainee, part):
    trainee.enter(part)
    found = {name.rpartition(".")[0].rpartition(".")[0] for name, p in trainee.named_parameters() if p.requires_grad}
    trainee.enter(None)
    return found


def test_a_part_trains_its_blocks_its_link_and_the_head():
    plan = PartedPlan(num_frozen=0, ends=(1, 3), link="conv", frozen_batch_norm="eval")
    trainee = PartedModel(THREE, plan)
    assert trained_in(trainee, 0) == {"blocks.0", "links.1", "head"}
    assert trained_in(trainee, 1) == {"blocks.1", "blocks.2", "head"}
    assert set(trainee.upload_names()) == {name for name, _ in trainee.travelling()}
    partial = fedepth().trainee("partial-2", THREE)
    assert trained_in(partial, 0) == {"blocks.1", "head"}
    assert trained_in(partial, 1) == {"blocks.2", "head"}
    assert {name.split(".")[0] + name.split(".")[1] for name in partial.upload_names()} == {
        "blocks1",
        "blocks2",
        "head2",
    }


# Links


def test_a_link_takes_every_nth_pixel_and_puts_zeros_around_the_channels():
    """As the published code does for 16 channels of 32x32 in front of a head of 64 channels of 8x8."""
    maps = torch.randn(2, 16, 32, 32)
    found = Link((16, 32, 32), (64, 8, 8), has_weights=False)(maps)
    assert torch.equal(found, F.pad(maps[:, :, ::4, ::4], (0, 0, 0, 0, 24, 24)))
    odd = Link((4, 8, 8), (9, 2, 2), has_weights=False)(torch.ones(1, 4, 8, 8))
    assert odd[0, :, 0, 0].tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize(("before", "after"), [
    ((6, 15, 15), (4, 7, 7)), ((3, 7), (5, 3)), ((3,), (5,)), ((5,), (3,)), ((4, 4, 4), (4, 4, 4)), ((2, 3, 3), (2, 6, 6)),
])  # fmt: skip
@pytest.mark.parametrize("has_weights", [False, True])
def test_a_link_fits_maps_of_any_shape(before, after, has_weights):
    link = Link(before, after, has_weights=has_weights)
    found = link(torch.randn(2, *before))
    assert found.shape == (2, *after)
    assert bool(list(link.parameters())) == has_weights


def test_a_trained_link_is_a_strided_pointwise_convolution_without_bias():
    link = Link((3, 8, 8), (5, 4, 4), has_weights=True)
    maps = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(link(maps), F.conv2d(maps, link.pointwise.weight, stride=2))


def test_a_block_whose_maps_have_other_dimensions_than_the_last_one_is_refused():
    def flat_at_last(input_shape, num_classes, width):
        model = three(input_shape, num_classes, width)
        return BlockModel(list(model.blocks), model.head, tails=((),) * 3, block_shapes=((4, 8, 8), (6, 4, 4), (9,)))

    model = Blueprint(architecture=flat_at_last, input_shape=(1, 8, 8), num_classes=3).build_meta()
    with pytest.raises(ScenarioError, match=r"block 2 puts out \(6, 4, 4\) and the last one \(9,\); use a model whose"):
        make_link(model, 2, "pad")


def test_a_model_of_one_block_is_refused_with_what_trains_the_same():
    with pytest.raises(
        ScenarioError, match=r"has 1 block, which leaves one part: the full model; use .* method fedavg"
    ):
        fedepth(num_blocks=1)


# Cuts


def test_cuts_make_the_largest_part_as_small_as_can_be_for_any_costs():
    draw = random.Random(4)
    for _ in range(60):
        num_blocks = draw.randint(1, 8)
        table = {pair: draw.randint(1, 50) for pair in itertools.combinations(range(num_blocks + 1), 2)}
        for num_parts in range(1, num_blocks + 1):
            cuts = balanced_cuts(num_blocks, num_parts, lambda begin, end, table=table: table[begin, end])
            assert len(cuts) == num_parts - 1
            largest = [
                max(table[pair] for pair in itertools.pairwise((0, *given, num_blocks)))
                for given in itertools.combinations(range(1, num_blocks), num_parts - 1)
            ]
            assert max(table[pair] for pair in itertools.pairwise((0, *cuts, num_blocks))) == min(largest)


def peak_of(plan, ends, training):
    made = PartedPlan(num_frozen=0, ends=ends, link="pad", frozen_batch_norm="eval")
    build = lambda: PartedModel(plan, made)  # noqa: E731
    return profile("any", build, spec=plan.spec, batch_size=training.batch_size, training=training).peak_memory_bytes


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "options"), [
    ("resnet18", {"batch_size": 16}), ("vgg11_bn", {"batch_size": 64, "optimizer": "adam"}),
])  # fmt: skip
def test_of_all_ways_to_cut_a_network_in_two_the_one_that_is_taken_has_the_smallest_predicted_peak(kind, options):
    """Estimated from one forward pass; by the ledger it is the best or within a hundredth of it."""
    plan, training = blueprint(kind, (3, 32, 32), width=0.125), Training(**options)
    peaks = {cut: peak_of(plan, (cut, 4), training) for cut in (1, 2, 3)}
    ends = balanced_ends(plan, training)
    assert [len(each) for each in ends] == [1, 2, 3, 4]
    assert peaks[ends[1][0]] <= 1.01 * min(peaks.values())
    assert max(peaks.values()) > 1.1 * min(peaks.values())


def test_the_cut_follows_what_is_charged_and_stays_the_same_for_what_is_trained():
    """Large batches make the first blocks the heaviest, small ones those with the most weights."""
    charged, trained = blueprint("resnet18", (3, 32, 32)), blueprint("resnet18", (1, 8, 8), width=0.0625)
    found = {}
    for batch_size in (4, 128):
        training = Training(batch_size=batch_size)
        setting = Setting(num_blocks=4, num_devices=4, max_rounds=4, seed=3, charged=charged, training=training)
        method = component("method", "fedepth").build(FeDepthOptions(), setting)
        found[batch_size] = method.plan("parts-2", trained).ends
        assert method.plan("parts-2", charged).ends == found[batch_size] == method.shaped_by[1]
    assert found == {4: (3, 4), 128: (1, 4)}


# Local training


class OnePart(PartedModel):
    """One part of several, alone."""

    def __init__(self, plan, made, part):
        self.only = part
        super().__init__(plan, made)
        self.num_parts = 1
        super().enter(part)

    def enter(self, part):
        if part is None and hasattr(self, "_begins") and self.num_parts > 1:
            super().enter(None)


def profiled(build, training):
    return profile("any", build, spec=THREE.spec, batch_size=training.batch_size, training=training)


def seconds(found, *, epochs):
    population = Population(
        classes=(device_class("jetson-nano-4gb"),), class_index=np.zeros(1, np.int16),
        available_memory_bytes=np.array([2**30]), downlink_bits_per_second=np.array([1e6]),
        uplink_bits_per_second=np.array([1e6]), latency_s=np.zeros(1), speed_jitter=0.0,
        availability=AlwaysOnline(num_devices=1),
    )  # fmt: skip
    return Ledger({"any": found}, population, np.array([10]), epochs=epochs).compute_s("any", np.array([0]))[0]


@pytest.mark.parametrize("link", ["pad", "conv"])
def test_the_peak_is_the_largest_part_s_and_seconds_are_the_sum_of_the_parts(link):
    """Without momentum a part leaves nothing behind, so that each can be profiled by itself."""
    training = Training(batch_size=BATCH, momentum=0.0)
    plan = PartedPlan(num_frozen=0, ends=(1, 2, 3), link=link, frozen_batch_norm="eval")
    whole = profiled(lambda: PartedModel(THREE, plan), training)
    alone = [profiled(lambda part=part: OnePart(THREE, plan, part), training) for part in range(3)]
    assert whole.part_peaks_bytes == tuple(found.peak_memory_bytes for found in alone)
    assert whole.peak_memory_bytes == max(whole.part_peaks_bytes)
    assert seconds(whole, epochs=3) == pytest.approx(sum(seconds(found, epochs=3) for found in alone), rel=1e-12)


def test_one_part_costs_what_the_full_model_costs():
    training = Training(batch_size=BATCH)
    full = profiled(lambda: fedepth().trainee("full", THREE), training)
    one = PartedPlan(num_frozen=0, ends=(3,), link="pad", frozen_batch_norm="eval")
    assert full.memory == profiled(lambda: FullModel(THREE), training).memory
    assert full.memory == profiled(lambda: PartedModel(THREE, one), training).memory


@pytest.mark.slow
@pytest.mark.parametrize(("submodel", "options"), [
    ("parts-2", {"optimizer": "adam"}), ("parts-4", {"micro_batch_size": 4}), ("partial-2", {"checkpointing": True}),
    ("parts-2", {"precision": "bf16"}), ("parts-4", {"prefix_cache": "device", "epochs": 2}),
], ids=str)  # fmt: skip
def test_the_predicted_peak_is_that_of_real_steps(submodel, options):
    plan, training = blueprint("resnet18", (3, 16, 16), width=0.125), Training(batch_size=8, **options)
    method = fedepth(num_blocks=4, link="conv")
    how = {"spec": plan.spec, "batch_size": 8, "training": training}
    torch.manual_seed(0)
    predicted = profile(submodel, lambda: method.trainee(submodel, plan), **how).memory.total
    assert audit(lambda: method.trainee(submodel, plan), **how).total == pytest.approx(predicted, rel=0.01)


def twin(tensors, images, labels, *, epochs, rate, momentum, decay, link):
    """Train two parts, block 1 and blocks 2 and 3, as a plain script would; returns what it ends with and its last loss."""
    weights = {name: tensor.double().clone() for name, tensor in tensors.items()}
    order, speed = stream(5, "batches", 0, 1), {}

    def logits(part, batch):
        maps = plain_block(weights, 0, batch, trains=part == 0)
        if part == 0:
            maps = maps[:, :, ::4, ::4]
            pad = (
                torch.zeros(len(batch), 2, 2, 2, dtype=torch.float64),
                torch.zeros(len(batch), 3, 2, 2, dtype=torch.float64),
            )
            at = "links.1.pointwise.weight"
            maps = torch.cat((pad[0], maps, pad[1]), dim=1) if link == "pad" else F.conv2d(maps, weights[at])
        else:
            for number in (1, 2):
                maps = plain_block(weights, number, maps, trains=True)
        return maps.mean(dim=(2, 3)) @ weights["head.2.weight"].T + weights["head.2.bias"]

    for part in (0, 1):
        starts = (("blocks.0", "links", "head"), ("blocks.1", "blocks.2", "head"))[part]
        names = [name for name in weights if name.startswith(starts) and "running" not in name]
        for _ in range(epochs):
            total = 0.0
            for rows in batch_slices(len(labels), BATCH, order):
                for name in names:
                    weights[name] = weights[name].detach().requires_grad_(True)
                loss = F.cross_entropy(logits(part, images[rows]), labels[rows])
                slopes = torch.autograd.grad(loss, [weights[name] for name in names])
                total += loss.item() * len(rows) / len(labels)
                for name, slope in zip(names, slopes, strict=True):
                    weights[name] = weights[name].detach()
                    slope = slope + decay * weights[name]
                    speed[name] = momentum * speed[name] + slope if name in speed else slope
                    weights[name] = weights[name] - rate * speed[name]
    return weights, total


@pytest.mark.parametrize("link", ["pad", "conv"])
def test_a_training_in_two_parts_is_that_of_its_plain_twin_in_double_precision(link):
    _, state = started(link=link)
    plan = PartedPlan(num_frozen=0, ends=(1, 3), link=link, frozen_batch_norm="eval")
    trainee = PartedModel(THREE, plan).double()
    sent = {name: tensor for name, tensor in state.tensors.items() if not name.startswith("links.2")}
    load_tensors(trainee, {name: tensor.double() for name, tensor in sent.items()})
    task = LocalTask(flight=1, cost=cost_of(0, "parts-2"), version=0, seed=5, learning_rate=0.05)
    training = Training(epochs=2, batch_size=BATCH, momentum=0.9, weight_decay=0.01)
    update = train_locally(trainee, *samples(), task=task, training=training)
    wanted, loss = twin(sent, *samples(), epochs=2, rate=0.05, momentum=0.9, decay=0.01, link=link)
    assert update.tensors.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(update.tensors[name], tensor, rtol=1e-10, atol=1e-12)
        assert not torch.equal(tensor, sent[name].double()), name
    assert update.loss == pytest.approx(loss, rel=1e-10)


def test_a_partial_training_leaves_what_lies_before_as_it_was_sent():
    method, state = started()
    trainee = method.trainee("partial-1", THREE)
    load_tensors(trainee, method.payload(state, "partial-1"))
    task = LocalTask(flight=1, cost=cost_of(0, "partial-1"), version=0, seed=5, learning_rate=0.05)
    update = train_locally(trainee, *samples(dtype=torch.float32), task=task, training=Training(epochs=2, batch_size=4))
    assert {name.split(".")[0] + name.split(".")[1] for name in update.tensors} == {"blocks2", "head2"}
    before = {
        name: tensor for name, tensor in trainee.state_dict().items() if name.startswith(("blocks.0", "blocks.1"))
    }
    assert all(torch.equal(tensor, state.tensors[name]) for name, tensor in before.items() if name in state.tensors)


# Aggregation


def update(method, submodel, device, value, num_samples):
    names = method.trainee(submodel, THREE).upload_names()
    shapes = dict(method.trainee(submodel, THREE).travelling())
    tensors = {name: torch.full_like(shapes[name], value, requires_grad=False) for name in names}
    return Update(device=device, submodel=submodel, num_samples=num_samples, tensors=tensors, loss=0.0)


@pytest.mark.parametrize(("weighting", "expected"), [
    # Four devices of 10, 20, 30 and 40 samples that report 1, 2, 3 and 4.
    ("samples", {"blocks.0": 50 / 30, "blocks.1": 140 / 60, "blocks.2": 300 / 100, "head": 300 / 100, "links.1": 2.0, "links.2": 2.0}),
    ("uniform", {"blocks.0": 3 / 2, "blocks.1": 6 / 3, "blocks.2": 10 / 4, "head": 10 / 4, "links.1": 2.0, "links.2": 2.0}),
])  # fmt: skip
def test_the_mean_of_a_tensor_is_over_those_who_trained_it(weighting, expected):
    method, state = started(weighting=weighting, link="conv")
    submodels = ("full", "parts-3", "partial-2", "partial-1")
    updates = [update(method, name, device, device + 1.0, 10.0 * (device + 1)) for device, name in enumerate(submodels)]
    # Links are trained by whoever has parts behind which they stand: of the second device both, of the third the last.
    expected = {**expected, "links.2": (2 * 20 + 3 * 30) / 50 if weighting == "samples" else 5 / 2}
    after = method.digest(state, updates).tensors
    for name, tensor in after.items():
        (value,) = (value for start, value in expected.items() if name.startswith(start))
        torch.testing.assert_close(tensor, torch.full_like(tensor, value), msg=name)


def test_what_nobody_trained_stays_and_links_are_not_tested():
    method, state = started(link="conv")
    after = method.digest(state, [update(method, "partial-1", 0, 7.0, 1)])
    for name, tensor in state.tensors.items():
        assert torch.equal(after.tensors[name], tensor) != name.startswith(("blocks.2", "head")), name
    assert not any(name.startswith("links") for name in method.evaluation_tensors(after))
    assert {name.split(".")[1] for name in method.payload(state, "parts-3") if name.startswith("links")} == {"1", "2"}
    assert not any(name.startswith("links") for name in method.payload(state, "full"))


def test_links_that_are_trained_start_from_streams_of_their_own():
    (_, one), (_, other) = started(link="conv"), started(link="pad")
    assert {name for name in one.tensors if name not in other.tensors} == {
        "links.1.pointwise.weight", "links.2.pointwise.weight",
    }  # fmt: skip
    assert all(torch.equal(one.tensors[name], tensor) for name, tensor in other.tensors.items())
