"""CoCoFL: which runs are offered, by brute force; a plain twin of a local training; the mean by hand; what is kept."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made_flights import cost_of
from thin_models import THREE, Peaks, blueprint, plain_block, samples
from torch.autograd.graph import saved_tensors_hooks

from neulite_sim.data.batches import batch_slices
from neulite_sim.errors import ScenarioError
from neulite_sim.methods.cocofl import CoCoFLOptions
from neulite_sim.methods.contract import FoldOrder, LocalTask, Setting, Update
from neulite_sim.methods.folding import Fold
from neulite_sim.methods.frozen_around import FrozenAround
from neulite_sim.models.trainee import FullModel, load_tensors
from neulite_sim.profiling.audit import audit
from neulite_sim.profiling.profile import profile
from neulite_sim.registry import component
from neulite_sim.scenario.schema import Training
from neulite_sim.seeding import stream
from neulite_sim.training.local import train_locally

BATCH = 4


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


@pytest.mark.slow
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


@pytest.mark.slow
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


def twin(tensors, images, labels, run, *, epochs, rate, momentum, decay):
    """Train a run of the three blocks as a plain script would; returns what it ends with."""
    weights = {name: tensor.double().clone() for name, tensor in tensors.items()}
    order, speed = stream(5, "batches", 0, 1), {}
    trained = [f"blocks.{number}" for number in range(*run)] + (["head"] if run[1] == 3 else [])
    names = [name for name in weights if name.startswith(tuple(trained)) and "running" not in name]

    for _ in range(epochs):
        for rows in batch_slices(len(labels), BATCH, order):
            for name in names:
                weights[name] = weights[name].detach().requires_grad_(True)
            maps = images[rows]
            for number in range(3):
                maps = plain_block(weights, number, maps, trains=f"blocks.{number}" in trained)
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
    most = sum(update.num_samples for update in single)
    fold = Fold(FoldOrder(number=0, weighting="samples", most_weight=most))
    for update in reversed(single):
        fold.add(update)
    one, other = method.digest(state, single).tensors, method.digest(state, fold.updates()).tensors
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-6, atol=1e-7)
