"""Steps along noise: DeComFL's numbers, weights that stay what they are, replays to the bit, pools and warm-ups."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from thin_models import blueprint, method
from torch import nn
from torch.func import functional_call

from neulite_sim import simulate
from neulite_sim.errors import ScenarioError, SimulationError
from neulite_sim.methods.contract import Update
from neulite_sim.methods.zeroth import (
    SCALARS,
    SEEDS,
    SUMS,
    Moved,
    Told,
    ZerothModel,
    ZerothPlan,
    drawn_noise,
    generator_seed,
    move,
    replayed,
    slope,
)
from neulite_sim.methods.zeroth_order import ZerothOrder
from neulite_sim.models.contract import BlockModel, Blueprint
from neulite_sim.models.noise import noise, taking_turns
from neulite_sim.models.trainee import load_tensors
from neulite_sim.profiling.audit import audit
from neulite_sim.profiling.profile import profile
from neulite_sim.registry import component
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.scenario.schema import Training

LENET = blueprint("lenet", num_classes=3, width=0.5)
CURVATURE = torch.tensor([2.0, 1.0, 4.0])
TRUE_SLOPES = (-1.3733337, 6.8812723)


def quadratic(weights):
    return lambda: 0.5 * (weights @ (torch.diag(CURVATURE) @ weights))


@pytest.mark.parametrize(
    ("differences", "slopes"),
    [("central", (-1.3734101, 6.8813558)), ("forward", (-1.3694762, 6.8850513))],
)
def test_slopes_are_those_of_the_authors_code(differences, slopes):
    """L = w'Aw / 2 at w = (1, -2, .5), mu 1e-3, seed 7: run with DeComFL's code on PyTorch 2.13."""
    weights = torch.tensor([1.0, -2.0, 0.5])
    plan = ZerothPlan(perturbations=2, differences=differences)
    loss = quadratic(weights)
    base = loss() if differences == "forward" else None
    found = [float(slope(loss, [weights], plan, 7, number, base=base)[0]) for number in range(2)]
    assert found == pytest.approx(slopes, abs=1e-6)
    assert found == pytest.approx(TRUE_SLOPES, abs=5e-3)
    assert weights.tolist() == [1.0, -2.0, 0.5]


def test_the_seeds_of_generators_follow_the_rule_and_noise_is_theirs():
    assert [generator_seed(7, number) for number in range(2)] == [119, 127]
    drawn = [drawn_noise(torch.empty(3), 7, number, 0, "normal").tolist() for number in range(2)]
    assert drawn[0] == pytest.approx((-0.95362109, 0.85139835, 1.11835253))
    assert drawn[1] == pytest.approx((0.71704608, -1.78989863, 0.93369150))
    assert set(drawn_noise(torch.empty(200), 7, 0, 1, "rademacher").tolist()) == {-1.0, 1.0}


def test_a_step_moves_along_the_estimated_gradient():
    weights = torch.tensor([1.0, -2.0, 0.5])
    plan = ZerothPlan(perturbations=2)
    slopes = torch.stack([slope(quadratic(weights), [weights], plan, 7, number)[0] for number in range(2)])
    after = weights.clone()
    move([after], plan, [7], slopes[None], 0.5)
    estimate = (weights - after) / 0.5
    assert estimate.tolist() == pytest.approx((3.1219811, -6.7431240, 2.4445534), abs=1e-5)


class Tied(nn.Module):
    """A head that reads the weight of the first block, as those of language models do."""

    def __init__(self, first):
        super().__init__()
        self._first = (first,)

    def forward(self, features):
        return features @ self._first[0].weight[:3].t()


def tied(input_shape, num_classes, width):
    del input_shape, num_classes, width
    embedding, attention = nn.Linear(64, 8), nn.MultiheadAttention(8, 2, batch_first=True)

    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.attention = embedding, attention

        def forward(self, images):
            rows = self.embedding(images.flatten(2))
            return self.attention(rows, rows, rows)[0].mean(dim=1)

    head = nn.Linear(8, 64)
    embedding.weight = nn.Parameter(torch.randn(8, 64) * 0.1)
    return BlockModel([Attending()], nn.Sequential(head, Tied(embedding)), tails=((),), block_shapes=((8, 1, 1),))


def models():
    yield LENET
    yield blueprint("resnet18", num_classes=3, width=0.0625)
    yield Blueprint(architecture=tied, input_shape=(1, 8, 8), num_classes=3, name="tied")


@pytest.mark.parametrize("model", list(models()), ids=lambda model: model.name)
def test_every_reader_of_a_weight_reads_the_moved_one(model):
    """However a forward pass comes by it: tied, sliced, or taken from a layer that is never called itself."""
    built = model.build_seeded(0).eval()
    inputs = noise(model.spec, 2, generator=torch.Generator().manual_seed(1))
    weights = dict(built.named_parameters())
    moved = {name: weight + 0.01 for name, weight in weights.items()}
    with torch.no_grad(), Moved(list(weights.values()), lambda place, weight: weight + 0.01):
        found = built(inputs)
    torch.testing.assert_close(found, functional_call(built, moved, (inputs,)), rtol=0, atol=1e-6)
    assert not torch.allclose(found, built(inputs))


def local_training(chosen, state, device, training=None, model=LENET, batches=2):
    """Return the update of a device, as a worker makes it."""
    (submodel,) = {"zeroth-order"} & set(chosen.submodels)
    trainee = chosen.trainee(submodel, model)
    load_tensors(trainee, {**chosen.payload(state, submodel), **chosen.personal_payload(state, device, submodel)})
    trainee.see_labels(torch.arange(3))
    trainee.prepare()
    training = training or Training(batch_size=4)
    stepper = trainee.stepper(training, learning_rate=0.1, is_charged=False)
    generator = torch.Generator().manual_seed(device)
    before = {name: tensor.clone() for name, tensor in trainee.state_dict().items()}
    for _ in range(batches):
        stepper.step(noise(model.spec, 4, generator=generator), taking_turns(model.spec, 4, num_classes=3))
    own = trainee.state_dict()
    tensors = {name: own[name].clone() for name in trainee.upload_names()}
    changed = {name for name in before if not torch.equal(before[name], own[name])}
    return Update(device=device, submodel=submodel, num_samples=4, tensors=tensors, loss=0.0,
                  version=state.version), changed  # fmt: skip


def test_a_device_sends_a_number_per_direction_and_its_weights_stay_as_they_were():
    chosen = method("zeroth-order", perturbations=3)
    found, changed = local_training(chosen, chosen.start(LENET, 0, None), 0, batches=1)
    assert found.tensors[SCALARS].shape == (1, 3)
    assert changed == {SCALARS}


def test_batch_norm_collects_nothing_in_the_passes():
    model = blueprint("resnet18", num_classes=3, width=0.0625)
    chosen = method("zeroth-order")
    _, changed = local_training(chosen, chosen.start(model, 0, None), 0, model=model, batches=1)
    assert changed == {SCALARS}


def test_dropout_leaves_out_the_same_in_both_passes():
    def dropping(input_shape, num_classes, width):
        del input_shape, width
        block = nn.Sequential(nn.Flatten(), nn.Dropout(0.5))
        return BlockModel([block], nn.Linear(64, num_classes), tails=((),), block_shapes=((64, 1, 1),))

    model = Blueprint(architecture=dropping, input_shape=(1, 8, 8), num_classes=3)
    chosen = method("zeroth-order", mu=1e-2)
    torch.manual_seed(0)
    found, _ = local_training(chosen, chosen.start(model, 0, None), 0, model=model, batches=1)
    # With other masks the losses differ by far more than a step of mu makes them, and the quotient explodes.
    assert abs(float(found.tensors[SCALARS])) < 20


def test_micro_batches_add_up_to_the_slope_of_the_batch():
    chosen = method("zeroth-order")
    state = chosen.start(LENET, 0, None)
    whole, parts = (
        local_training(chosen, state, 0, Training(batch_size=4, **size), batches=1)[0].tensors[SCALARS]
        for size in ({}, {"micro_batch_size": 2})
    )
    torch.testing.assert_close(whole, parts, rtol=1e-2, atol=1e-2)


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 2), st.integers(1, 2), st.integers(0, 4))
def test_a_device_that_was_away_comes_to_the_same_bits(steps, perturbations, since):
    """It holds the weights of some version and is told seeds and slopes of the rounds that it has missed: five at most."""
    chosen = method("zeroth-order", steps=steps, perturbations=perturbations)
    state = chosen.start(LENET, 0, None)
    held = []
    for number in range(5):
        held.append(state.tensors)
        made = [
            Update(device=device, submodel="zeroth-order", num_samples=1, loss=0.0, version=state.version,
                   tensors={SCALARS: torch.randn(steps, perturbations)})
            for device in (0, 1 + number % 2)
        ]  # fmt: skip
        state = chosen.digest(state, iter(made))
    told: Told = state.extra.told
    caught_up = replayed(held[since], state.extra.names, chosen.plan, told[since:])
    assert len(told) == 5
    assert all(torch.equal(caught_up[name], tensor) for name, tensor in state.tensors.items())
    assert any(not torch.equal(held[since][name], tensor) for name, tensor in state.tensors.items())


def test_the_server_moves_along_the_plain_mean_of_the_slopes():
    chosen = method("zeroth-order")
    state = chosen.start(LENET, 0, None)
    made = [Update(device=n, submodel="zeroth-order", num_samples=1 + 8 * n, loss=0.0,
                   tensors={SCALARS: torch.tensor([[value]])}) for n, value in enumerate((1.0, 3.0))]  # fmt: skip
    after = chosen.digest(state, iter(made))
    names = state.extra.names
    wanted = {name: state.tensors[name].clone() for name in names}
    move(list(wanted.values()), chosen.plan, chosen.seeds(0), torch.tensor([[2.0]]), 0.01)
    assert all(torch.equal(after.tensors[name], wanted[name]) for name in names)


def rate_of_the_server(before, after, update):
    """Return the rate of the steps that a digest of one update has taken."""
    if SUMS in update.tensors:
        sums, slopes = after.extra.sums - before.extra.sums, update.tensors[SUMS]
        return float(sums[slopes != 0].mean() / slopes[slopes != 0].mean())
    return float(after.extra.told.rates[-1])


@pytest.mark.parametrize("options", [{}, {"steps": 2}, {"steps": 2, "pool": 3}])
def test_server_and_devices_take_their_steps_at_the_rate_of_the_round_though_rounds_came_to_nothing(
    options, monkeypatch
):
    """Rounds of which nothing arrives in time are aborted: the next one is a later round, of the same version."""
    scenario = {
        "name": "aborted", "seed": 1, "model": {"kind": "logistic"}, "method": {"kind": "zeroth-order", **options},
        "data": {"kind": "digits", "partition": "iid"}, "stop": {"rounds": 8}, "backend": "inprocess",
        "training": {"batch_size": 16, "learning_rate": 0.01, "learning_rate_schedule": {
            "kind": "step", "milestones": [1, 2, 3, 4, 5, 6, 7], "factor": 0.5}},
        "population": {"devices": 8, "available_memory": {"kind": "uniform", "low": "1GB", "high": "1GB"}, "groups": [
            {"device": "jetson-nano-4gb", "share": 1}, {"device": "raspberry-pi-4-8gb", "share": 1}]},
        "selection": {"kind": "uniform", "devices_per_round": 1},
        "protocol": {"kind": "deadline", "over_selection": 1, "minimum_updates": 1, "too_few": "abort"},
    }  # fmt: skip
    free = simulate({**scenario, "protocol": {"kind": "synchronous"}, "backend": "dry-run"})
    lasted_s = np.diff([0.0, *(row["virtual_time_s"] for row in free.rounds)])
    scenario["protocol"]["maximum_wait"] = f"{np.median(lasted_s):.9f}s"
    rates, digest = [], ZerothOrder.digest

    def watched(self, state, updates):
        (update,) = updates
        after = digest(self, state, iter((update,)))
        rates.append(rate_of_the_server(state, after, update))
        return after

    monkeypatch.setattr(ZerothOrder, "digest", watched)
    rows = simulate(scenario).rounds
    wanted = [row["learning_rate"] for row in rows if row["arrived"]]
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.01 / 2**number for number in range(8)])
    assert len(wanted) < len(rows), "no round was aborted"
    assert not all(row["arrived"] for row in rows[: len(wanted)]), "only the last rounds were aborted"
    assert rates == pytest.approx(wanted, rel=1e-5)


def test_slopes_of_rounds_of_different_rates_are_no_round():
    chosen = method("zeroth-order")
    state = chosen.start(LENET, 0, None)
    made = [Update(device=n, submodel="zeroth-order", num_samples=1, loss=0.0, learning_rate=rate,
                   tensors={SCALARS: torch.ones(1, 1)}) for n, rate in enumerate((0.02, 0.01))]  # fmt: skip
    message = (
        r"^slopes that were found at learning rates 0\.01 and 0\.02 came into one round of zeroth-order; use a protocol "
        r"that merges the flights of one round, or training\.learning_rate_schedule: constant$"
    )
    with pytest.raises(SimulationError, match=message):
        chosen.digest(state, iter(made))


def test_downloads_grow_by_the_rounds_that_were_missed():
    """4 (K P + K) bytes a round; that of one round is the submodel's own download."""
    chosen = method("zeroth-order", steps=2, perturbations=3)
    state = chosen.start(LENET, 0, None)
    how = {"spec": LENET.spec, "batch_size": 4, "training": Training(batch_size=4)}
    found = profile("zeroth-order", lambda: chosen.trainee("zeroth-order", LENET), **how)
    assert (found.bytes_down, found.bytes_up) == (4 * (2 * 3 + 2), 4 * 2 * 3)
    for version in range(6):
        came = [Update(device=0, submodel="zeroth-order", num_samples=1, tensors={}, loss=0.0, version=version)]
        state = chosen.digest(state, iter(came if version != 3 else ()))
    owed = chosen.owed_bytes(state, np.arange(2), ["zeroth-order"] * 2)
    assert owed.tolist() == [0, 5 * 32]
    assert chosen.owed_bytes(chosen.start(LENET, 0, None), np.arange(2), ["zeroth-order"] * 2).tolist() == [0, 0]


def test_a_pool_adds_slopes_up_by_seed_and_makes_the_weights_from_the_first_ones():
    chosen = method("zeroth-order", pool=4, steps=3)
    state = first = chosen.start(LENET, 0, None)
    assert chosen.owed_bytes(state, np.arange(2), ["zeroth-order"] * 2) is None
    for version in range(3):
        made = [Update(device=n, submodel="zeroth-order", num_samples=1, loss=0.0, version=version,
                       tensors={SUMS: torch.tensor([float(n), 0.0, version, -1.0])}) for n in (1, 2)]  # fmt: skip
        state = chosen.digest(state, iter(made))
    assert state.extra.sums.tolist() == pytest.approx([0.045, 0.0, 0.03, -0.03])
    weights = [first.tensors[name].clone() for name in first.extra.names]
    seeds = [chosen.plan.pool[number] for number in (0, 2, 3)]
    move(weights, chosen.plan, seeds, state.extra.sums[[0, 2, 3]][:, None], 1.0)
    pairs = zip(first.extra.names, weights, strict=True)
    assert all(torch.equal(state.tensors[name], weight) for name, weight in pairs)


def test_with_a_pool_every_device_draws_its_own_seeds_and_sends_their_sums():
    chosen = method("zeroth-order", pool=4, steps=3)
    state = chosen.start(LENET, 0, None)
    drawn = [chosen.personal_payload(state, device, "zeroth-order")[SEEDS].tolist() for device in (0, 1, 2)]
    assert len(set(map(tuple, drawn))) > 1
    found, _ = local_training(chosen, state, 0, batches=3)
    assert found.tensors[SUMS].shape == (4,)
    assert {place for place, total in enumerate(found.tensors[SUMS].tolist()) if total} == set(map(int, drawn[0]))


HOW = {"spec": LENET.spec, "batch_size": 6}


@pytest.mark.parametrize("options", [{}, {"steps": 2}, {"differences": "forward", "perturbations": 2}])
@pytest.mark.parametrize("plan", [{}, {"precision": "bf16"}, {"micro_batch_size": 2}])
def test_the_peak_that_is_predicted_is_the_one_that_is_tracked(options, plan):
    chosen, training = method("zeroth-order", **options), Training(batch_size=6, **plan)

    def build():
        return chosen.trainee("zeroth-order", LENET)

    predicted = profile("zeroth-order", build, **HOW, training=training)
    assert audit(build, **HOW, training=training).total == predicted.peak_memory_bytes
    assert (predicted.memory.gradients, predicted.memory.activations) == (0, 0)
    # Who takes several steps has to go back, and keeps the weights for that.
    assert predicted.memory.optimizer == (4 * predicted.parameters if options.get("steps") else 0)


def test_a_step_holds_the_weights_and_little_more_than_a_forward_pass():
    training = Training(batch_size=6)
    full = profile("full", lambda: method("fedavg").trainee("full", LENET), **HOW, training=training)
    found = profile("z", lambda: method("zeroth-order").trainee("zeroth-order", LENET), **HOW, training=training)
    largest = max(4 * p.numel() for p in LENET.build_meta().parameters())
    maps = 4 * 6 * max(torch.Size(shape).numel() for shape in LENET.build_meta().block_shapes)
    assert found.memory.temporaries <= 2 * largest + 8 * maps
    assert found.peak_memory_bytes < full.peak_memory_bytes


def test_there_is_nothing_to_checkpoint():
    with pytest.raises(ScenarioError, match=r"training\.checkpointing: true has no effect on zeroth-order"):
        profile("zeroth-order", lambda: ZerothModel(LENET, ZerothPlan()), **HOW,
                training=Training(batch_size=6, checkpointing=True))  # fmt: skip


def full_update(state, device, value, samples):
    tensors = {name: torch.full_like(tensor, value) for name, tensor in state.tensors.items()}
    return Update(device=device, submodel="full", num_samples=samples, tensors=tensors, loss=0.0)


def test_a_warm_up_is_that_of_fedavg_and_then_everybody_sends_slopes():
    chosen = method("zo-warmup", warmup_rounds=1)
    state = chosen.start(LENET, 0, None)
    assert chosen.offering(state, None).submodels == ("full",)
    state = chosen.digest(state, iter((full_update(state, 0, 1.0, 1), full_update(state, 1, 4.0, 2))))
    assert all(tensor.unique().tolist() == [3.0] for tensor in state.tensors.values())
    assert chosen.offering(state, None).submodels == ("zeroth-order",)
    mixed = method("zo-warmup", warmup_rounds=1, capable="first-order")
    assert mixed.offering(state, None).submodels == ("full", "zeroth-order")


def test_trained_models_and_slopes_are_mixed_by_their_weights():
    chosen = method("zo-warmup", warmup_rounds=0, capable="first-order", zeroth_learning_rate=0.5)
    state = chosen.start(LENET, 0, None)
    slopes = [Update(device=n, submodel="zeroth-order", num_samples=samples, loss=0.0,
                     tensors={SCALARS: torch.tensor([[value]])}) for n, samples, value in ((1, 1, 2.0), (2, 3, 6.0))]  # fmt: skip
    after = chosen.digest(state, iter((full_update(state, 0, 1.0, 4), *slopes))).tensors
    alone = chosen.digest(state, iter(slopes)).tensors
    moved = {name: state.tensors[name].clone() for name in state.extra.names}
    move(list(moved.values()), chosen.plan, chosen._seeds(0), torch.tensor([[5.0]]), 0.5)
    for name, tensor in moved.items():
        assert torch.equal(alone[name], tensor)
        torch.testing.assert_close(after[name], (4 * 1.0 + 4 * tensor) / 8)


def test_who_missed_a_trained_round_downloads_the_model_and_else_what_was_told():
    chosen = method("zo-warmup", warmup_rounds=1)
    state = chosen.start(LENET, 0, None)
    model_bytes = 4 * sum(tensor.numel() for tensor in state.tensors.values())
    everybody, slopes = np.arange(3), ["zeroth-order"] * 3
    state = chosen.digest(state, iter((full_update(state, 0, 1.0, 1),)))
    assert chosen.owed_bytes(state, everybody, slopes).tolist() == [model_bytes - 8] * 3
    assert chosen.owed_bytes(state, everybody, ["full"] * 3).tolist() == [0, 0, 0]
    for version in (1, 2, 3):
        sent = Update(device=1, submodel="zeroth-order", num_samples=1, loss=0.0, version=version,
                      tensors={SCALARS: torch.zeros(1, 1)})  # fmt: skip
        state = chosen.digest(state, iter((sent,) if version == 1 else ()))
    # The second holds version 1: three rounds of 8 bytes, of which one is the submodel's own.
    assert chosen.owed_bytes(state, everybody, slopes).tolist() == [model_bytes - 8, 16, model_bytes - 8]
    again = replace(state, extra=state.extra)
    assert chosen.follow(again, chosen.progress(state)).extra.attendance.missed_rounds(everybody).tolist() == [5, 4, 5]


def test_more_directions_than_one_do_not_go_with_a_pool():
    found = r"method\.perturbations: is 2, but with a pool each step has one direction; remove one of them"
    with pytest.raises(ScenarioError, match=found):
        parse_scenario({"method": {"kind": "zeroth-order", "pool": 8, "perturbations": 2}, "model": "lenet",
                        "data": "digits"})  # fmt: skip


def test_slopes_are_found_in_so_many_steps_and_no_epochs():
    assert method("zeroth-order", steps=3).own_training("zeroth-order").steps == 3
    assert component("method", "zo-warmup").options().zeroth_learning_rate == 1e-3
