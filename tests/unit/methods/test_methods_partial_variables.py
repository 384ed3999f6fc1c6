"""Partial variable training: which variables are drawn, what is sent, what is charged, and the mean per variable."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from thin_models import Peaks, blueprint, method

from neulite_sim.data.batches import batch_slices
from neulite_sim.errors import ScenarioError
from neulite_sim.methods.contract import Update
from neulite_sim.methods.variable_sets import MASK, Rung, typical_set
from neulite_sim.methods.variables import PartialModel
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.noise import noise, taking_turns
from neulite_sim.models.step import Stepper
from neulite_sim.models.trainee import load_tensors
from neulite_sim.profiling.audit import audit
from neulite_sim.profiling.keeping import largest, trace_training
from neulite_sim.profiling.profile import profile, ready
from neulite_sim.registry import component
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.scenario.schema import Training
from neulite_sim.seeding import stream

LENET = blueprint("lenet", num_classes=3, width=0.5)
SHARE = "share-0.5"


@pytest.fixture(scope="module")
def lenet():
    chosen = method("partial-variables")
    return chosen, chosen.start(LENET, 0, None)


def sent(chosen, state, device, submodel):
    return {**chosen.payload(state, submodel), **chosen.personal_payload(state, device, submodel)}


def told(chosen, state, device, submodel=SHARE):
    """Return the trainee of a device as a worker has it: its payload loaded, its labels seen."""
    trainee = chosen.trainee(submodel, LENET)
    load_tensors(trainee, sent(chosen, state, device, submodel))
    trainee.see_labels(torch.arange(3))
    return trainee


def trained(trainee):
    return [name for name, variable in trainee.named_parameters() if variable.requires_grad]


def test_shares_are_the_submodels_and_the_first_is_the_full_model(lenet):
    chosen, state = lenet
    assert chosen.submodels == ("full", "share-0.5", "share-0.25", "share-0.125")
    assert chosen.personal_payload(state, 0, "full") == {}
    assert len(trained(chosen.trainee("full", LENET))) == 10


def test_a_device_trains_what_was_drawn_for_it_and_uploads_that_alone(lenet):
    chosen, state = lenet
    trainee = told(chosen, state, 4)
    mask = chosen.personal_payload(state, 4, SHARE)[MASK].tolist()
    names = [name for name, _ in trainee.named_parameters()]
    drawn = [name for name, flag in zip(names, mask, strict=True) if flag]
    assert trained(trainee) == drawn == list(trainee.upload_names())
    assert 0 < len(drawn) <= 5


def test_the_next_flight_trains_another_set_in_the_same_module(lenet):
    """Workers build a submodel once and refill it."""
    chosen, state = lenet
    trainee = told(chosen, state, 0)
    first = trained(trainee)
    load_tensors(trainee, sent(chosen, replace(state, version=1), 0, SHARE))
    trainee.see_labels(torch.arange(3))
    assert trained(trainee) != first


def test_sets_depend_on_round_device_and_seed(lenet):
    chosen, state = lenet
    other = type(chosen)(component("method", "partial-variables").options(), seed=9)

    def mask(of, version, device):
        return of.personal_payload(replace(state, version=version), device, SHARE)[MASK].tolist()

    assert mask(chosen, 0, 0) == mask(chosen, 0, 0)
    assert len({tuple(mask(chosen, *at)) for at in ((0, 0), (0, 1), (1, 0))} | {tuple(mask(other, 0, 0))}) == 4
    rung = state.extra.rungs[SHARE]
    assert mask(chosen, 3, 8) == [float(flag) for flag in rung.drawn(stream(0, "trained-variables", 3, 8))]


def test_the_mean_of_each_variable_is_over_the_devices_that_trained_it():
    chosen = method("partial-variables")
    state = chosen.start(LENET, 0, None)
    first, second, third, *rest = state.tensors
    held = {0: (first, second), 1: (second,), 2: (first, second, third)}
    updates = [
        Update(
            device=device,
            submodel=SHARE,
            num_samples=device + 1,
            tensors={name: torch.full_like(state.tensors[name], 10.0**device) for name in names},
            loss=0.0,
            version=0,
        )
        for device, names in held.items()
    ]
    after = chosen.digest(state, updates).tensors
    assert after[first].unique().tolist() == [pytest.approx((1 * 1 + 3 * 100) / 4)]
    assert after[second].unique().tolist() == [pytest.approx((1 * 1 + 2 * 10 + 3 * 100) / 6)]
    assert after[third].unique().tolist() == [100]
    assert all(torch.equal(after[name], state.tensors[name]) for name in rest)
    uniform = method("partial-variables", weighting="uniform").digest(state, updates).tensors
    assert uniform[second].unique().tolist() == [37]


def test_training_changes_what_was_drawn_and_nothing_else(lenet):
    chosen, state = lenet
    trainee = told(chosen, state, 2)
    trainee.prepare()
    stepper = Stepper(trainee, Training(), learning_rate=0.1)
    for rows in batch_slices(8, 4, np.random.default_rng(0)):
        inputs = noise(LENET.spec, 8, generator=torch.Generator().manual_seed(1))[rows]
        stepper.step(inputs, taking_turns(LENET.spec, 8, num_classes=3)[rows])
    own = trainee.state_dict()
    changed = {name for name in state.tensors if not torch.equal(own[name], state.tensors[name])}
    assert changed == set(trainee.upload_names())


def test_frozen_batch_norm_normalises_and_sends_as_it_is_told():
    model = blueprint("resnet18", width=0.0625)
    for frozen, expected in (("eval", False), ("train", True)):
        chosen = method("partial-variables", bn_frozen=frozen)
        trainee = chosen.trainee(SHARE, model)
        norm = trainee.get_submodule("blocks.0.stem.bn")
        norm.requires_grad_(False)
        trainee.prepare()
        assert norm.training is expected
        assert "blocks.0.stem.bn.running_mean" not in trainee.upload_names()
        norm.bias.requires_grad_(True)
        trainee.prepare()
        assert norm.training
        assert "blocks.0.stem.bn.running_mean" in trainee.upload_names()


def test_a_device_is_offered_the_largest_share_that_fits(lenet):
    chosen, state = lenet
    peaks = Peaks(dict(zip(chosen.submodels, (8, 4, 2, 1), strict=True)), [0, 1, 2, 5, 9])
    proposal = chosen.offers(state, peaks, np.arange(5))
    assert proposal.offers.taken(np.arange(4))[1] == ["share-0.125", "share-0.25", "share-0.5", "full"]
    assert proposal.denials[0].devices.tolist() == [0]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "shares is [], but the first must be 1, the full model; put 1 in front"),
        ([0.5], "shares is [0.5], but the first must be 1, the full model; put 1 in front"),
        ([1, 0.25, 0.5], "shares is [1, 0.25, 0.5], but shares must fall and stay above 0; for example [1, 0.5, 0.25]"),
        ([1, 0.5, 0.49999999], "but two of them agree in six digits; remove one of them"),
    ],
)
def test_shares_that_are_no_ladder_are_refused(given, says):
    with pytest.raises(ScenarioError) as refusal:
        parse_scenario({"method": {"kind": "partial-variables", "shares": given}})
    assert says in str(refusal.value)
    assert "method.shares" in str(refusal.value)


sizes_of_models = st.lists(st.integers(1, 50), min_size=1, max_size=12)


@settings(max_examples=100, deadline=None)
@given(sizes_of_models, st.floats(0.01, 0.99), st.integers(0, 99))
def test_a_drawn_set_keeps_within_count_and_budget_and_is_never_empty(sizes, share, seed):
    rung = Rung.of(share, sizes)
    mask = rung.drawn(np.random.default_rng(seed))
    assert 1 <= sum(mask) <= rung.count == max(1, int(np.ceil(share * len(sizes))))
    assert max(sizes) <= rung.budget <= sum(sizes)
    assert share * sum(sizes) <= rung.budget
    assert rung.held(mask) <= rung.budget


@settings(max_examples=100, deadline=None)
@given(sizes_of_models, st.floats(0.01, 0.99), st.randoms(use_true_random=False))
def test_the_heaviest_set_is_at_any_moment_as_large_as_any_other_can_be(sizes, share, random):
    """Whatever comes first in the backward pass, sets of the budget hold no more of what has come by then."""
    rung = Rung.of(share, sizes)
    order = random.sample(range(len(sizes)), len(sizes))
    kept = rung.first_within_budget(order)
    for moment in range(len(order) + 1):
        come = order[:moment]
        own = sum(sizes[place] for place in come if place in kept)
        assert own >= min(rung.budget, sum(sizes[place] for place in come))
    assert max(sizes) == max(sizes[place] for place in kept)


def test_every_variable_is_drawn_at_every_share_and_none_much_more_than_its_share():
    sizes = [variable.numel() for variable in blueprint("resnet18", width=0.25).build_meta().parameters()]
    for share in (0.5, 0.25, 0.125):
        rung = Rung.of(share, sizes)
        draws = np.array([rung.drawn(np.random.default_rng(number)) for number in range(300)])
        assert draws.any(axis=0).all()
        # Small variables move up into the places of large ones that are passed over.
        assert draws.mean(axis=0).max() < share + 0.12


def test_what_is_charged_for_seconds_and_bytes_is_a_draw_of_median_size():
    sizes = [variable.numel() for variable in blueprint("resnet18", width=0.25).build_meta().parameters()]
    rung = Rung.of(0.25, sizes)
    held = sorted(rung.held(rung.drawn(np.random.default_rng(number))) for number in range(400))
    assert held[150] <= rung.held(typical_set(rung)) <= held[250]


SHAPES = {
    "resnet18": (1, 8, 8),
    "vgg11_bn": (1, 16, 16),
    "squeezenet": (1, 16, 16),
    "vit": (3, 8, 8),
    "lenet": (1, 8, 8),
}


def small(kind):
    """Return a network thin and, where it has one, shallow enough for a test."""
    found = component("model", kind)
    options = {"patch": 4, "dim": 64, "heads": 2, "depth": 3} if kind == "vit" else {}
    architecture = found.build(found.options(**options))
    return Blueprint(architecture=architecture, input_shape=SHAPES[kind], num_classes=10, width=0.125, name=kind)


WAYS = {
    "sgd": {},
    "adam": {"optimizer": "adam"},
    "micro-batches": {"micro_batch_size": 2},
    "bf16": {"precision": "bf16"},
    "checkpointing": {"checkpointing": True},
    "clipped": {"clip_norm": 1.0, "optimizer": "adam"},
    "features kept": {"prefix_cache": "device", "epochs": 2},
}


def tracked(trainee, mask, spec, training):
    """Return the peak of a real step that trains the variables of a set."""
    trainee.train_only(mask)
    stepper, batch = ready(trainee, spec, training.batch_size, training, loss_scale=2.0)
    return largest(trace_training(trainee, stepper, batch, training)).total


CASES = [
    *(("lenet", way) for way in WAYS),
    ("vgg11_bn", "sgd"),
    ("vgg11_bn", "bf16"),
    ("resnet18", "sgd"),
    ("vit", "sgd"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "way"), CASES)
def test_no_draw_needs_more_than_is_charged(kind, way):
    """Seed 3 of VGG trains the bias of a convolution, for which PyTorch makes the weight's gradient as well."""
    model = small(kind)
    chosen, training = method("partial-variables", shares=[1, 0.3]), Training(batch_size=5, **WAYS[way])
    how = {"spec": model.spec, "batch_size": 5, "training": training}
    charged = profile("share-0.3", lambda: chosen.trainee("share-0.3", model), **how).peak_memory_bytes
    trainee = chosen.trainee("share-0.3", model)
    for number in (0, 1, 3):
        mask = trainee.rung.drawn(np.random.default_rng(number))
        assert tracked(chosen.trainee("share-0.3", model), mask, model.spec, training) <= charged


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHAPES)
def test_the_charge_is_what_its_heaviest_model_needs_on_real_tensors(kind):
    model = small(kind)
    chosen, training = method("partial-variables"), Training(batch_size=5)
    how = {"spec": model.spec, "batch_size": 5, "training": training}
    predicted = profile("share-0.25", lambda: chosen.trainee("share-0.25", model), **how)
    assert audit(lambda: chosen.trainee("share-0.25", model), **how).total == predicted.peak_memory_bytes
    full = profile("full", lambda: chosen.trainee("full", model), **how)
    assert predicted.peak_memory_bytes < full.peak_memory_bytes
    assert predicted.bytes_up < full.bytes_up
    assert predicted.bytes_down == full.bytes_down + 4 * len(list(model.build_meta().parameters()))
    assert predicted.flops_per_step < full.flops_per_step


@pytest.mark.slow
def test_the_charge_is_close_to_the_heaviest_set_that_can_be_drawn():
    """The last variables fill the budget, and the first one makes autograd keep everything in between."""
    model = small("resnet18")
    training = Training(batch_size=5)
    chosen = method("partial-variables", shares=[1, 0.25])
    trainee = chosen.trainee("share-0.25", model)
    assert isinstance(trainee, PartialModel)
    rung, held, mask = trainee.rung, trainee.rung.sizes[0], [True] + [False] * (len(trainee.rung.sizes) - 1)
    for place in range(len(mask) - 1, 0, -1):
        if held + rung.sizes[place] <= rung.budget:
            mask[place], held = True, held + rung.sizes[place]
    how = {"spec": model.spec, "batch_size": 5, "training": training}
    charged = profile("share-0.25", lambda: chosen.trainee("share-0.25", model), **how).peak_memory_bytes
    assert 0.98 * charged < tracked(trainee, tuple(mask), model.spec, training) <= charged
