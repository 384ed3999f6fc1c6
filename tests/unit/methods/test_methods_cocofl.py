"""CoCoFL: which runs are offered, by brute force; a plain twin of a local training; the mean by hand; what is kept."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made_flights import cost_of
from thin_models import Peaks, blueprint
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from neulite_sim.data.batches import batch_slices
from neulite_sim.errors import ScenarioError
from neulite_sim.methods.cocofl import CoCoFLOptions
from neulite_sim.methods.contract import LocalTask, Setting, Update
from neulite_sim.methods.folding import Fold
from neulite_sim.methods.frozen_around import FrozenAround
from neulite_sim.methods.frozen_layers import FoldedNorm, PassingConvolution, fold_normalisation, let_gradients_pass
from neulite_sim.models.contract import BlockModel, Blueprint, scaled
from neulite_sim.models.trainee import FullModel, load_tensors
from neulite_sim.profiling.audit import audit
from neulite_sim.profiling.profile import profile
from neulite_sim.registry import component
from neulite_sim.scenario.schema import Training
from neulite_sim.seeding import stream
from neulite_sim.training.local import train_locally

BATCH = 4


def three(input_shape, num_classes, width):
    """Return three blocks with BatchNorm, of 4, 6 and 9 channels and sides that halve, and a head of its own norm."""
    channels, blocks, shapes = input_shape[0], [], []
    side = input_shape[1]
    for number, after in enumerate(scaled(base, width) for base in (4, 6, 9)):
        conv = nn.Conv2d(channels, after, 3, 2 if number else 1, padding=1)
        blocks.append(nn.Sequential(conv, nn.BatchNorm2d(after), nn.Tanh()))
        channels, side = after, side if not number else side // 2
        shapes.append((channels, side, side))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
    return BlockModel(blocks, head, tails=(("0",),) * 3, block_shapes=tuple(shapes))


THREE = Blueprint(architecture=three, input_shape=(1, 8, 8), num_classes=3, name="three")
WEIGHTS = {"block-1": (0, 1), "block-2": (1, 2), "block-3": (2, 3), "blocks-1-2": (0, 2), "blocks-2-3": (1, 3)}
"""Runs of three blocks that are not all of them."""


def cocofl(num_blocks=3, charged=None, **options):
    setting = Setting(num_blocks=num_blocks, num_devices=4, max_rounds=4, seed=3, charged=charged)
    return component("method", "cocofl").build(CoCoFLOptions(**options), setting)


class Fleet(Peaks):
    def least_peak_bytes(self, submodel):
        return self.peaks[submodel]


def offered(method, fleet, version):
    """Return what each device is offered by its number; None where it holds nothing."""
    state = method.start(THREE, 1, None)
    state = type(state)(version=version, tensors=state.tensors)
    proposal = method.offers(state, fleet, np.arange(len(fleet.memory)))
    found = dict.fromkeys(range(len(fleet.memory)))
    for number in range(len(proposal.offers)):
        offer = proposal.offers[number]
        found[offer.device] = offer.submodel
    return found, proposal.denials


# What is offered


def test_submodels_are_all_runs_and_those_with_most_weights_come_first():
    assert cocofl().submodels == ("full", "blocks-1-2", "blocks-2-3", "block-1", "block-2", "block-3")
    # Block 1 has 40 + 8 weights, block 2 has 222 + 12, block 3 has 495 + 18, and the head 30.
    assert cocofl(charged=THREE).submodels == ("full", "blocks-2-3", "block-3", "blocks-1-2", "block-2", "block-1")
    assert len(cocofl(num_blocks=16).submodels) == 136


def test_a_device_is_offered_a_run_that_is_part_of_no_longer_one_that_fits_it():
    """By brute force, for peaks in any order: also where a longer run needs less than a shorter one."""
    rng = np.random.default_rng(5)
    runs = {**WEIGHTS, "full": (0, 3)}
    method = cocofl()
    seen: dict[frozenset[str], set[str]] = {}
    for version in range(60):
        peaks = {name: int(rng.integers(1, 20)) for name in runs}
        fleet = Fleet(peaks, rng.integers(0, 20, size=40))
        found, denials = offered(method, fleet, version)
        for device, memory in enumerate(fleet.memory):
            fits = {name for name in runs if peaks[name] <= memory}
            longest = {
                name for name in fits
                if not any(runs[other][0] <= runs[name][0] and runs[name][1] <= runs[other][1] and other != name
                           for other in fits)
            }  # fmt: skip
            assert (found[device] in longest) if longest else found[device] is None
            seen.setdefault(frozenset(longest), set()).add(found[device])
        denied = {int(device) for denial in denials for device in denial.devices}
        assert denied == {device for device, submodel in found.items() if submodel is None}
        assert all(peaks[denial.submodel] == min(peaks.values()) for denial in denials)
    # Each of them comes in its turn.
    assert {len(longest) for longest in seen} == {0, 1, 2, 3}
    assert all(drawn == set(longest) for longest, drawn in seen.items() if len(longest) == 2)


def test_runs_are_drawn_alike_anew_each_round_and_whoever_else_is_asked():
    fleet = Fleet({"full": 100, **dict.fromkeys(WEIGHTS, 50), "blocks-1-2": 60, "blocks-2-3": 60}, [50] * 3000)
    method = cocofl()
    first, _ = offered(method, fleet, 0)
    counts = [list(first.values()).count(name) for name in ("block-1", "block-2", "block-3")]
    # Three standard deviations of a binomial around a third.
    assert sum(counts) == 3000
    assert all(abs(count - 1000) < 3 * (3000 * 2 / 9) ** 0.5 for count in counts)
    assert first != offered(method, fleet, 1)[0]
    state = method.start(THREE, 1, None)
    alone = method.offers(state, fleet, np.array([7, 1234]))
    assert [alone.offers[place].submodel for place in (0, 1)] == [first[7], first[1234]]
    draws = [stream(3, "trained-run", 0, device).random() for device in range(20)]
    assert [first[device] for device in range(20)] == [f"block-{1 + int(3 * drawn)}" for drawn in draws]


def test_with_most_a_device_trains_the_run_with_most_weights_that_fits_it():
    method = cocofl(charged=THREE, choice="most")
    peaks = {"full": 9, "blocks-2-3": 7, "block-3": 5, "blocks-1-2": 6, "block-2": 3, "block-1": 4}
    found, (denial,) = offered(method, Fleet(peaks, [9, 8, 7, 6, 5, 4, 3, 2]), 0)
    assert list(found.values()) == [
        "full",
        "blocks-2-3",
        "blocks-2-3",
        "block-3",
        "block-3",
        "block-2",
        "block-2",
        None,
    ]
    assert (denial.submodel, denial.shortfall_bytes.tolist()) == ("block-2", [1])


@pytest.mark.parametrize(("num_blocks", "words"), [
    (1, r"freezes some blocks of a model, and this one has 1 block; use .* or method fedavg, which trains the same"),
    (17, r"profiles each run of consecutive blocks, and 17 blocks have 153; use at most 16 blocks: .* model\.blocks"),
])  # fmt: skip
def test_models_of_one_block_or_of_too_many_are_refused(num_blocks, words):
    with pytest.raises(ScenarioError, match=words):
        cocofl(num_blocks=num_blocks)


# What is trained


@pytest.mark.parametrize(("submodel", "trained"), [
    ("full", {"blocks.0", "blocks.1", "blocks.2", "head.2"}), ("blocks-2-3", {"blocks.1", "blocks.2", "head.2"}),
    ("block-1", {"blocks.0"}), ("block-2", {"blocks.1"}), ("blocks-1-2", {"blocks.0", "blocks.1"}),
])  # fmt: skip
def test_a_run_is_trained_and_sent_back_with_its_statistics_and_the_head_goes_with_the_last(submodel, trained):
    trainee = cocofl().trainee(submodel, THREE)
    assert {".".join(name.split(".")[:2]) for name in trainee.upload_names()} == trained
    sent = set(trainee.upload_names())
    assert all(
        (f"{block}.1.running_mean" in sent) == (block in trained) for block in ("blocks.0", "blocks.1", "blocks.2")
    )
    assert {name for name, _ in trainee.travelling()} == {name for name, _ in FullModel(THREE).travelling()}


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


def kept_maps(trainee):
    """Return the shapes of the maps that autograd keeps of each block of one step, without weights."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*trainee.parameters(), *trainee.buffers())}
    kept, images = [], torch.randn(2, 1, 8, 8)

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in own and tensor.ndim == 4:
            kept.append(tuple(tensor.shape[1:]))
        return tensor

    trainee.prepare()
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        trainee.loss(images, torch.tensor([0, 1]))
    return kept


def test_frozen_blocks_keep_nothing_before_a_run_and_behind_it_what_passes_a_gradient():
    """A block keeps, trained: its input, the map behind its convolution, and the result of tanh; frozen: the last."""
    one, two, last = (4, 8, 8), (6, 4, 4), (9, 2, 2)
    found = {submodel: kept_maps(cocofl().trainee(submodel, THREE)) for submodel in ("block-1", "block-2", "block-3")}
    assert found["block-1"] == [(1, 8, 8), one, one, two, last]
    assert found["block-2"] == [one, two, two, last]
    assert found["block-3"] == [two, last, last]


@pytest.mark.parametrize(("submodel", "options"), [
    ("block-1", {}), ("block-1", {"checkpointing": True}), ("block-1", {"precision": "bf16", "micro_batch_size": 4}),
    ("blocks-2-3", {"optimizer": "adam"}), ("blocks-2-3", {"prefix_cache": "device", "epochs": 2}),
], ids=str)  # fmt: skip
def test_the_predicted_peak_is_that_of_real_steps(submodel, options):
    plan, training = blueprint("resnet18", (3, 16, 16), width=0.125), Training(batch_size=8, **options)
    method = cocofl(num_blocks=4)
    how = {"spec": plan.spec, "batch_size": 8, "training": training}
    torch.manual_seed(0)
    predicted = profile(submodel, lambda: method.trainee(submodel, plan), **how).memory.total
    assert audit(lambda: method.trainee(submodel, plan), **how).total == pytest.approx(predicted, rel=0.01)


def test_a_shorter_run_never_needs_more_than_one_that_contains_it():
    plan, training = blueprint("resnet18", (3, 16, 16), width=0.125), Training(batch_size=32)
    how = {"spec": plan.spec, "batch_size": 32, "training": training}
    runs = itertools.combinations(range(5), 2)
    peaks = {run: profile("any", lambda run=run: FrozenAround(plan, *run), **how).peak_memory_bytes for run in runs}
    for first, end in peaks:
        for wider in ((first - 1, end), (first, end + 1)):
            assert peaks[first, end] <= peaks.get(wider, 2**60)
    # Behind a run of the first block everything passes a gradient on: the last one is far cheaper.
    assert peaks[3, 4] < 0.5 * peaks[0, 1]


def samples(count=9, dtype=torch.float64):
    rng = np.random.default_rng(3)
    labels = np.arange(count) % 3
    images = rng.normal(size=(count, 1, 8, 8)) + labels[:, None, None, None]
    return torch.from_numpy(images).to(dtype), torch.from_numpy(labels)


def twin(tensors, images, labels, run, *, epochs, rate, momentum, decay):
    """Train a run of the three blocks as a plain script would; returns what it ends with."""
    weights = {name: tensor.double().clone() for name, tensor in tensors.items()}
    order, speed = stream(5, "batches", 0, 1), {}
    trained = [f"blocks.{number}" for number in range(*run)] + (["head"] if run[1] == 3 else [])
    names = [name for name in weights if name.startswith(tuple(trained)) and "running" not in name]

    def block(number, maps):
        at = f"blocks.{number}"
        maps = F.conv2d(maps, weights[f"{at}.0.weight"], weights[f"{at}.0.bias"], 2 if number else 1, padding=1)
        mean, var = weights[f"{at}.1.running_mean"], weights[f"{at}.1.running_var"]
        if at in trained:
            with torch.no_grad():
                count = maps.numel() // maps.shape[1]
                mean += 0.1 * (maps.mean(dim=(0, 2, 3)) - mean)
                var += 0.1 * (maps.var(dim=(0, 2, 3), unbiased=False) * count / (count - 1) - var)
            mean, var = maps.mean(dim=(0, 2, 3)), maps.var(dim=(0, 2, 3), unbiased=False)
        maps = (maps - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
        return torch.tanh(maps * weights[f"{at}.1.weight"][:, None, None] + weights[f"{at}.1.bias"][:, None, None])

    for _ in range(epochs):
        for rows in batch_slices(len(labels), BATCH, order):
            for name in names:
                weights[name] = weights[name].detach().requires_grad_(True)
            maps = block(2, block(1, block(0, images[rows])))
            logits = maps.mean(dim=(2, 3)) @ weights["head.2.weight"].T + weights["head.2.bias"]
            slopes = torch.autograd.grad(F.cross_entropy(logits, labels[rows]), [weights[name] for name in names])
            for name, slope in zip(names, slopes, strict=True):
                weights[name] = weights[name].detach()
                slope = slope + decay * weights[name]
                speed[name] = momentum * speed[name] + slope if name in speed else slope
                weights[name] = weights[name] - rate * speed[name]
    return {name: tensor for name, tensor in weights.items() if name.startswith(tuple(trained))}


@pytest.mark.parametrize(("submodel", "run"), [*WEIGHTS.items(), ("full", (0, 3))])
def test_a_training_is_that_of_its_plain_twin_in_double_precision(submodel, run):
    method = cocofl()
    state = method.start(THREE, 1, None)
    rng = np.random.default_rng(9)
    # Statistics and scales that differ from those at the start, so that a norm that is left out shows.
    sent = {
        name: tensor.double() + 0.2 * torch.from_numpy(rng.random(tensor.shape))
        for name, tensor in state.tensors.items()
    }
    trainee = method.trainee(submodel, THREE).double()
    load_tensors(trainee, sent)
    task = LocalTask(flight=1, cost=cost_of(0, submodel), version=0, seed=5, learning_rate=0.05)
    training = Training(epochs=2, batch_size=BATCH, momentum=0.9, weight_decay=0.01)
    update = train_locally(trainee, *samples(), task=task, training=training)
    wanted = twin(sent, *samples(), run, epochs=2, rate=0.05, momentum=0.9, decay=0.01)
    assert update.tensors.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(update.tensors[name], tensor, rtol=1e-10, atol=1e-12)
        assert not torch.equal(tensor, sent[name]), name
    frozen = {name: tensor for name, tensor in trainee.state_dict().items() if name in sent and name not in wanted}
    assert all(torch.equal(tensor, sent[name]) for name, tensor in frozen.items())


# Aggregation


def updates_of(method):
    """Return the updates of four devices with 10, 20, 30 and 40 samples, which report 1, 2, 3 and 4 everywhere."""
    found = []
    for device, submodel in enumerate(("full", "block-1", "block-2", "blocks-2-3")):
        trainee = method.trainee(submodel, THREE)
        shapes = dict(trainee.travelling())
        tensors = {name: torch.full_like(shapes[name], device + 1.0).detach() for name in trainee.upload_names()}
        found.append(Update(device=device, submodel=submodel, num_samples=10 * (device + 1), tensors=tensors, loss=0.0))
    return found


@pytest.mark.parametrize(("weighting", "expected"), [
    # Trained by devices 0 and 1; by 0, 2 and 3; by 0 and 3. The others count with what stands there, 5.
    ("uniform", {"blocks.0": (1 + 2 + 5 + 5) / 4, "blocks.1": (1 + 5 + 3 + 4) / 4, "blocks.2": (1 + 5 + 5 + 4) / 4}),
    ("samples", {"blocks.0": (10 + 40 + 5 * 70) / 100, "blocks.1": (10 + 100 + 90 + 160) / 100,
                 "blocks.2": (10 + 5 * 50 + 160) / 100}),
])  # fmt: skip
def test_devices_that_did_not_train_a_tensor_count_with_what_they_were_sent(weighting, expected):
    method = cocofl(weighting=weighting)
    start = method.start(THREE, 1, None)
    state = type(start)(version=4, tensors={name: torch.full_like(each, 5.0) for name, each in start.tensors.items()})
    after = method.digest(state, updates_of(method))
    assert after.version == 5
    assert after.tensors.keys() == state.tensors.keys()
    for name, tensor in after.tensors.items():
        value = {**expected, "head.2": expected["blocks.2"]}[".".join(name.split(".")[:2])]
        torch.testing.assert_close(tensor, torch.full_like(tensor, value), msg=name)


def test_what_all_trained_is_their_mean_and_what_nobody_trained_stays_to_the_bit():
    method = cocofl()
    state = method.start(THREE, 1, None)
    updates = [each for each in updates_of(method) if each.submodel == "block-2"]
    after = method.digest(state, updates)
    for name, tensor in state.tensors.items():
        if name.startswith("blocks.1"):
            assert torch.equal(after.tensors[name], torch.full_like(tensor, 3.0))
        else:
            assert torch.equal(after.tensors[name], tensor)


def test_folded_updates_give_what_single_ones_give():
    method = cocofl(weighting="samples")
    state = method.start(THREE, 1, None)
    single = updates_of(method)
    order = fold_order(sum(update.num_samples for update in single))
    fold = Fold(order)
    for update in reversed(single):
        fold.add(update)
    one, other = method.digest(state, single).tensors, method.digest(state, fold.updates()).tensors
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-6, atol=1e-7)


def fold_order(most_weight):
    from neulite_sim.methods.contract import FoldOrder

    return FoldOrder(number=0, weighting="samples", most_weight=most_weight)


NETWORKS = ("resnet18", "vgg11_bn", "squeezenet", "vit", "torchvision:shufflenet_v2_x0_5", "torchvision:mobilenet_v3_small",
            "torchvision:densenet121")  # fmt: skip


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
