"""ProFL: phases, models, what each phase trains and keeps, against a twin written out in plain PyTorch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from thin_models import Peaks
from tiny_scenarios import TINY
from torch import nn

from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import ScenarioError
from neulite_sim.methods.contract import LocalTask, OwnTraining, Setting, Update
from neulite_sim.methods.distilling import Distillation, SurrogateStage
from neulite_sim.methods.profl import ProFLOptions
from neulite_sim.models.contract import BlockModel, Blueprint
from neulite_sim.models.trainee import load_tensors
from neulite_sim.profiling.cost import Cost
from neulite_sim.profiling.plans import Plan
from neulite_sim.profiling.profile import profile
from neulite_sim.registry import component
from neulite_sim.samples import InputSpec
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.scenario.schema import Training
from neulite_sim.training.local import train_locally

CHANNELS = (2, 3, 4, 5)
SIDES = (8, 8, 4, 2)
CLASSES = 3


def chain(input_shape, num_classes, width):
    """Return three blocks, each a convolution, BatchNorm and ReLU, and a pooled classifier."""
    blocks = [
        nn.Sequential(
            nn.Conv2d(CHANNELS[i], CHANNELS[i + 1], 3, 1 + (i > 0), padding=1),
            nn.BatchNorm2d(CHANNELS[i + 1]),
            nn.ReLU(),
        )
        for i in range(3)
    ]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS[3], num_classes))
    shapes = tuple((CHANNELS[i], SIDES[i], SIDES[i]) for i in range(1, 4))
    return BlockModel(blocks, head, tails=(("0", "1"),) * 3, block_shapes=shapes)


CHAIN = Blueprint(architecture=chain, input_shape=(2, 8, 8), num_classes=CLASSES, name="chain")
SHRINKING = ("shrink-3", "distil-3", "shrink-2", "distil-2")
GROWING = ("grow-1", "grow-2", "grow-3")
TWO_EACH = {"shrinking_rounds": 2, "growing_rounds": 2, "distillation_rounds": 2}


def profl(num_blocks=3, **options):
    setting = Setting(num_blocks=num_blocks, num_devices=4, max_rounds=16, seed=3)
    return component("method", "profl").build(ProFLOptions(**options), setting)


class Fitting(Peaks):
    """A fleet of one device with data that fits all submodels but some."""

    def __init__(self, method, *lacking):
        super().__init__({name: 2 if name in lacking else 1 for name in method.submodels}, [1])

    def fits_somebody(self, submodel):
        return bool(self.fits(submodel).any())


def started(method, *lacking):
    ledger = Fitting(method, *lacking)
    return method.start(CHAIN, 3, ledger), ledger


def moved(method, state, submodel, amount=0.5, **given):
    """Return the update of a device that moves everything it trains by `amount`."""
    names = method.trainee(submodel, CHAIN).upload_names()
    payload = method.payload(state, submodel)
    tensors = {name: payload[name] + amount for name in names}
    return Update(**{"device": 0, "submodel": submodel, "num_samples": 1, "tensors": tensors, "loss": 0.0, **given})


def phase_of(method, state):
    return method.offering(state, None).stage


def through(method, state, rounds):
    """Yield the phase of each round and the states around it; one device moves what is trained."""
    for _ in range(rounds):
        before, phase = state, phase_of(method, state)
        state = method.digest(before, [moved(method, before, phase)])
        yield phase, before, state


# The twin: weights by name in double precision, one device after the other, nothing of this package.


def twin_block(weights, i, x, *, collects, rate=0.1):
    """Return block i's output and, where its BatchNorm uses the batch, what its statistics become."""
    p = f"blocks.{i}."
    x = F.conv2d(x, weights[p + "0.weight"], weights[p + "0.bias"], stride=1 + (i > 0), padding=1)
    mean, variance = weights[p + "1.running_mean"], weights[p + "1.running_var"]
    became = {}
    if collects:
        count = x.numel() / x.shape[1]
        mean, variance = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), unbiased=False)
        for name, new in (("running_mean", mean), ("running_var", variance * count / (count - 1))):
            became[p + "1." + name] = (1 - rate) * weights[p + "1." + name] + rate * new.detach()
    x = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
    x = x * weights[p + "1.weight"][:, None, None] + weights[p + "1.bias"][:, None, None]
    return x.clamp(min=0), became


def twin_read(weights, x, first, head="head"):
    for j in range(first, 3):
        x = F.conv2d(x, weights[f"surrogates.{j}.conv.weight"], stride=2, padding=1)
    return x.mean(dim=(2, 3)) @ weights[f"{head}.2.weight"].T + weights[f"{head}.2.bias"]


def twin_loss(weights, teacher_head, phase, images, labels, mode):
    """Return the loss of a phase and the statistics that come of it."""
    part, block = phase.split("-")
    block, x, statistics = int(block), images, {}
    for i in range(block):
        is_trained = part != "distil" and i == block - 1
        if part == "distil" and i == block - 1:
            before = x
        x, became = twin_block(weights, i, x, collects=is_trained or mode == "train")
        statistics |= became
    if part != "distil":
        return F.cross_entropy(twin_read(weights, x, block), labels), statistics
    taught = twin_read({**weights, **teacher_head}, x, block, head="teacher" if block == 3 else "head").detach()
    return ((twin_read(weights, before, block - 1) - taught) ** 2).mean(), statistics


def twin_trained(phase):
    """Return the beginnings of the names of what a phase trains, written out."""
    return {
        "shrink-3": ("blocks.2.", "head."),
        "distil-3": ("surrogates.2.", "head."),
        "shrink-2": ("blocks.1.", "surrogates.2.", "head."),
        "distil-2": ("surrogates.1.",),
        "grow-1": ("blocks.0.", "surrogates.1.", "surrogates.2.", "head."),
        "grow-2": ("blocks.1.", "surrogates.2.", "head."),
        "grow-3": ("blocks.2.", "head."),
    }[phase]


def twin_device(weights, teacher_head, phase, images, labels, mode, *, rate, epochs):
    """Return what a device sends: SGD with momentum 0.9 and weight decay 0.01, one batch of all its samples."""
    own = dict(weights)
    names = [name for name in own if name.startswith(twin_trained(phase)) and "running" not in name]
    velocity, sent = {}, {}
    for _ in range(epochs):
        leaves = {name: own[name].clone().requires_grad_(True) for name in names}
        loss, statistics = twin_loss({**own, **leaves}, teacher_head, phase, images, labels, mode)
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        for name, gradient in zip(names, gradients, strict=True):
            slope = gradient + 0.01 * own[name]
            velocity[name] = slope if name not in velocity else 0.9 * velocity[name] + slope
            own[name] = own[name] - rate * velocity[name]
        own |= statistics
        sent |= {name: own[name] for name in (*names, *statistics)}
    return sent


def data():
    generator = torch.Generator().manual_seed(11)
    sizes = (5, 8)
    return [
        (
            torch.randn(size, 2, 8, 8, generator=generator, dtype=torch.float64) + number,
            torch.randint(CLASSES, (size,), generator=generator),
        )
        for number, size in enumerate(sizes)
    ]


def task(method, phase, device, version):
    cost = Cost(submodel=phase, device=device, download_s=0.0, compute_s=0.0, upload_s=0.0, peak_memory_bytes=0,
                available_memory_bytes=0, plan=Plan(batch_size=8))  # fmt: skip
    own = method.own_training(phase)
    rate = TRAINING.learning_rate if own.learning_rate is None else own.learning_rate
    return LocalTask(flight=1 + device, cost=cost, version=version, seed=3, learning_rate=rate, epochs=own.epochs)


TRAINING = Training(epochs=2, batch_size=8, learning_rate=0.1, momentum=0.9, weight_decay=0.01)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_two_rounds_of_every_phase_leave_the_tensors_of_a_plain_twin(mode):
    method = profl(**TWO_EACH, bn_frozen=mode, distillation_learning_rate=0.02, distillation_epochs=3)
    state, _ = started(method)
    state = replace(state, tensors={name: tensor.double() for name, tensor in state.tensors.items()})
    twin = {name: tensor.clone() for name, tensor in state.tensors.items() if not name.startswith("teacher_")}
    trainees = {name: method.trainee(name, CHAIN).double() for name in method.submodels}
    for phase in (*SHRINKING, *GROWING):
        rate, epochs = (0.02, 3) if phase.startswith("distil") else (0.1, 2)
        teacher_head = {name.replace("head.", "teacher."): twin[name] for name in twin if name.startswith("head.")}
        for _ in range(2):
            assert phase_of(method, state) == phase
            sent, updates = [], []
            for device, (images, labels) in enumerate(data()):
                sent.append(twin_device(twin, teacher_head, phase, images, labels, mode, rate=rate, epochs=epochs))
                load_tensors(trainees[phase], method.payload(state, phase))
                about = task(method, phase, device, state.version)
                updates.append(train_locally(trainees[phase], images, labels, task=about, training=TRAINING))
            twin |= {name: sum(own[name] for own in sent) / len(sent) for name in sent[0]}
            state = method.digest(state, updates)
            for name, tensor in twin.items():
                torch.testing.assert_close(state.tensors[name], tensor, rtol=1e-9, atol=1e-11, msg=f"{phase}, {name}")
    assert phase_of(method, state) == "grow-3"


def test_blocks_are_shrunk_and_distilled_from_the_last_on_and_grown_from_the_first():
    assert profl(4).submodels == (
        "shrink-4", "distil-4", "shrink-3", "distil-3", "shrink-2", "distil-2", "grow-1", "grow-2", "grow-3", "grow-4",
    )  # fmt: skip
    assert profl(distillation_rounds=0).submodels == ("shrink-3", "shrink-2", *GROWING)
    assert profl(shrinking=False).submodels == GROWING


def test_each_phase_lasts_its_number_of_rounds_and_the_last_until_the_end():
    method = profl(shrinking_rounds=2, distillation_rounds=1, growing_rounds=3)
    seen = [phase for phase, _, _ in through(method, started(method)[0], 20)]
    assert seen == [
        *["shrink-3"] * 2, "distil-3", *["shrink-2"] * 2, "distil-2", *["grow-1"] * 3, *["grow-2"] * 3, *["grow-3"] * 8,
    ]  # fmt: skip


def test_without_distillation_shrinking_goes_from_block_to_block():
    method = profl(shrinking_rounds=1, growing_rounds=1, distillation_rounds=0)
    state, _ = started(method)
    assert not any(name.startswith("teacher_head.") for name in state.tensors)
    assert [phase for phase, _, _ in through(method, state, 5)] == ["shrink-3", "shrink-2", *GROWING]


def test_only_what_a_phase_trains_is_sent_back():
    method = profl(bn_frozen="eval")
    for phase in method.submodels:
        sent = method.trainee(phase, CHAIN).upload_names()
        assert {name for name in sent if not name.startswith(twin_trained(phase))} == set(), phase
        assert {
            name.split(".")[0] + "." + name.split(".")[1] + "." if name[0] in "bs" else "head." for name in sent
        } == (set(twin_trained(phase))), phase


def test_frozen_layers_that_collect_statistics_send_nothing_else_of_theirs():
    method = profl(bn_frozen="train")
    sent = method.trainee("distil-2", CHAIN).upload_names()
    assert set(sent) == {
        "surrogates.1.conv.weight",
        *(f"blocks.{i}.1.running_{kind}" for i in (0, 1) for kind in ("mean", "var")),
    }


def test_frozen_weights_never_move_and_growing_starts_from_what_shrinking_left():
    method = profl(**TWO_EACH)
    state, _ = started(method)
    left = {}
    for phase, before, after in through(method, state, 14):
        if phase.startswith("grow") and phase not in left:
            left[phase] = before
        moving = {name for name in before.tensors if not torch.equal(before.tensors[name], after.tensors[name])}
        weights = {name for name in moving if "running" not in name and not name.startswith("teacher_")}
        assert all(name.startswith(twin_trained(phase)) for name in weights), phase
    start, grown = state.tensors, left["grow-1"].tensors
    same = [i for i in range(3) if torch.equal(start[f"blocks.{i}.0.weight"], grown[f"blocks.{i}.0.weight"])]
    assert same == [0]
    for i in (1, 2):
        torch.testing.assert_close(grown[f"blocks.{i}.0.weight"], start[f"blocks.{i}.0.weight"] + 1.0)
        torch.testing.assert_close(left[f"grow-{i + 1}"].tensors[f"blocks.{i}.0.weight"], grown[f"blocks.{i}.0.weight"])


def test_the_last_block_teaches_through_the_classifier_as_its_shrinking_left_it():
    method = profl(**TWO_EACH)
    states = {number: (phase, after) for number, (phase, _, after) in enumerate(through(method, started(method)[0], 5))}
    weight = {
        number: (after.tensors["head.2.bias"], after.tensors["teacher_head.2.bias"])
        for number, (_, after) in states.items()
    }
    assert [states[number][0] for number in range(5)] == ["shrink-3", "shrink-3", "distil-3", "distil-3", "shrink-2"]
    assert all(torch.equal(*weight[number]) for number in (0, 1))
    assert not torch.equal(*weight[2])
    assert torch.equal(weight[1][1], weight[4][1])
    assert "teacher_head.2.bias" in method.payload(states[1][1], "distil-3")
    assert "teacher_head.2.bias" not in method.payload(states[1][1], "distil-2")


def loaded(method, state, submodel):
    trainee = method.trainee(submodel, CHAIN)
    load_tensors(trainee, method.payload(state, submodel))
    trainee.prepare()
    return trainee


def test_with_a_tied_embedding_teacher_and_student_read_the_same_and_it_is_frozen():
    spec = InputSpec(shape=(8,), vocabulary=13, num_classes=13, target_shape=(8,), predicts_tokens=True)
    found = component("model", "gpt")
    decoder = Blueprint(architecture=found.build(found.options(dim=8, heads=2, depth=2, vocabulary=13)), spec=spec)
    method = profl(2)
    state = method.start(decoder, 3, Fitting(method))
    trainee = method.trainee("distil-2", decoder)
    load_tensors(trainee, method.payload(state, "distil-2"))
    names = [name for name in trainee.state_dict() if "head" in name]
    assert names == [
        f"{head}.classifier.norm.{kind}" for head in ("head", "teacher_head") for kind in ("weight", "bias")
    ]
    tokens = torch.arange(8)[None]
    loss, _ = trainee.loss(tokens, tokens)
    loss.backward()
    assert trainee.blocks[0].embedding.weight.grad is None
    assert trainee.head.classifier.norm.weight.grad.abs().sum() > 0
    # Whatever the map, the logits of both fall with the embedding.
    maps = torch.randn(1, 8, 8)
    with torch.no_grad():
        trainee.blocks[0].embedding.weight.zero_()
        assert trainee.head(maps).abs().max() == trainee.teacher_head(maps).abs().max() == 0


def test_a_model_with_a_tied_embedding_goes_through_all_phases():
    data = {"kind": "synthetic-text", "samples": 20, "test_samples": 5, "sequence_length": 8}
    mapping = {**TINY, "data": data, "model": {"kind": "gpt", "depth": 2, "dim": 8, "heads": 2}}
    done = {"kind": "profl", "shrinking_rounds": 1, "growing_rounds": 1}
    found = simulate(parse_scenario({**mapping, "method": done, "training": {"epochs": 1, "batch_size": 4}}))
    assert [row["stage"] for row in found.memory.rounds] == ["shrink-2", "distil-2", "grow-1", "grow-2"]


def test_a_student_with_the_logits_of_its_teacher_has_no_loss():
    """A block that is a convolution itself is distilled perfectly by that convolution."""
    method = profl()
    state, _ = started(method)
    student = Distillation(CHAIN, 2, frozen_batch_norm="eval")
    load_tensors(student, method.payload(state, "distil-2"))
    student.blocks[1] = student.surrogates["1"]
    student.prepare()
    images = torch.randn(4, 2, 8, 8)
    loss, _ = student.loss(images, torch.zeros(4, dtype=torch.int64))
    assert loss.item() == 0.0


def test_a_teacher_gets_no_gradient_and_keeps_no_activations():
    method = profl()
    trainee = loaded(method, started(method)[0], "distil-3")
    loss, _ = trainee.loss(torch.randn(4, 2, 8, 8), torch.zeros(4, dtype=torch.int64))
    loss.backward()
    assert {name for name, parameter in trainee.named_parameters() if parameter.grad is not None} == {
        "surrogates.2.conv.weight", "head.2.weight", "head.2.bias",
    }  # fmt: skip


def charged(method, submodel):
    return profile(
        submodel,
        lambda: method.trainee(submodel, CHAIN),
        spec=CHAIN.spec,
        batch_size=8,
        training=Training(batch_size=8),
    )


def test_teacher_and_student_are_both_charged_and_what_they_share_once():
    method = profl(bn_frozen="eval")
    alone = profile("student", _student, spec=CHAIN.spec, batch_size=8, training=Training(batch_size=8))
    last = charged(method, "distil-3")
    # Its weights, BatchNorm's two vectors of statistics and their counter; the classifier as the teacher's.
    block, classifier = 4 * (4 * 5 * 9 + 5 + 2 * 5) + 4 * (2 * 5) + 8, 4 * (5 * CLASSES + CLASSES)
    assert last.trainable_parameters == 4 * 5 * 9 + 5 * CLASSES + CLASSES
    assert last.memory.parameters == alone.memory.parameters + block + classifier
    assert last.peak_memory_bytes >= alone.peak_memory_bytes + block + classifier
    assert last.flops_per_step > alone.flops_per_step
    sizes = {name: sum(p.numel() for p in method.trainee(name, CHAIN).parameters()) for name in method.submodels}
    assert sizes["shrink-3"] == sizes["grow-3"] == sum(p.numel() for p in CHAIN.build().parameters())
    assert sizes["distil-2"] == sizes["shrink-2"] + 3 * 4 * 9


def _student():
    trainee = SurrogateStage(CHAIN, 2, frozen_batch_norm="eval")
    trainee.blocks.requires_grad_(False)
    return trainee


def test_growing_is_charged_as_the_plain_stages_of_neulite():
    """Without curriculum and tail a stage of NeuLite is the same model, whatever its tensors are called."""
    options = {"curriculum": False, "tail": False, "schedule": "sequential"}
    setting = Setting(num_blocks=3, num_devices=4, max_rounds=16, seed=3)
    neulite = component("method", "neulite")
    other = neulite.build(neulite.options(**options), setting)
    for stage in (1, 2, 3):
        ours, theirs = charged(profl(bn_frozen="eval"), f"grow-{stage}"), charged(other, f"stage-{stage}")
        assert (ours.peak_memory_bytes, ours.bytes_up, ours.bytes_down, ours.flops_per_step) == (
            theirs.peak_memory_bytes, theirs.bytes_up, theirs.bytes_down, theirs.flops_per_step,
        )  # fmt: skip


def test_a_distillation_has_its_own_learning_rate_and_epochs():
    method = profl(distillation_learning_rate=0.5, distillation_epochs=3)
    assert method.own_training("distil-2") == OwnTraining(learning_rate=0.5, epochs=3)
    assert method.own_training("shrink-2") == method.own_training("grow-1") == OwnTraining()
    assert profl().own_training("distil-2") == OwnTraining(learning_rate=1e-5)


def test_devices_count_alike_unless_weighed_by_samples():
    for weighting, expected in (("uniform", 1.5), ("samples", 1.75)):
        method = profl(weighting=weighting)
        state, _ = started(method)
        updates = [moved(method, state, "shrink-3", amount, num_samples=size) for amount, size in ((1.0, 1), (2.0, 3))]
        difference = method.digest(state, updates).tensors["head.2.bias"] - state.tensors["head.2.bias"]
        torch.testing.assert_close(difference, torch.full_like(difference, expected))


def test_a_block_is_frozen_when_it_has_converged():
    """It goes back and forth: movements of 0 in a window of two, flat as soon as there are two of them twice over."""
    rule = {"window": 2, "evaluations": 2, "slope_threshold": 0.01, "max_rounds": 50}
    method = profl(convergence=rule)
    state, _ = started(method)
    seen = []
    for number in range(12):
        seen.append(phase_of(method, state))
        state = method.digest(state, [moved(method, state, seen[-1], (-1.0) ** number)])
    # Three snapshots fill the window, a second value the line, and it must be flat twice: five rounds.
    assert seen == [*["shrink-3"] * 5, "distil-3", *["shrink-2"] * 5, "distil-2"]


def test_a_block_that_moves_on_is_trained_for_max_rounds_at_most():
    method = profl(convergence={"max_rounds": 3}, shrinking=False)
    seen = [phase for phase, _, _ in through(method, started(method)[0], 8)]
    assert seen == [*["grow-1"] * 3, *["grow-2"] * 3, *["grow-3"] * 2]


def test_a_phase_that_fits_nobody_is_left_out():
    method = profl(**dict.fromkeys(TWO_EACH, 1))
    state, _ = started(method, "shrink-2", "grow-1", "grow-3")
    seen = [phase for phase, _, _ in through(method, state, 6)]
    assert seen == ["shrink-3", "distil-3", "distil-2", "grow-2", "grow-2", "grow-2"]


def test_an_update_of_a_phase_that_is_over_is_merged_and_makes_no_round():
    method = profl(shrinking_rounds=1, growing_rounds=1)
    state, _ = started(method)
    after = method.digest(state, [moved(method, state, "shrink-3")])
    late = moved(method, state, "shrink-3", 7.0)
    still = method.digest(after, [late])
    assert (still.version, phase_of(method, still), still.extra.rounds) == (2, "distil-3", 0)
    assert torch.equal(still.tensors["head.2.bias"], late.tensors["head.2.bias"])
    assert torch.equal(still.tensors["teacher_head.2.bias"], after.tensors["teacher_head.2.bias"])
    both = method.digest(after, [late, moved(method, after, "distil-3", 1.0)])
    assert phase_of(method, both) == "shrink-2"


def test_a_replay_follows_what_was_noted_also_of_rounds_of_late_updates():
    method = profl(shrinking_rounds=2, growing_rounds=2)
    state, _ = started(method)
    replayed = state
    for number in range(20):
        phase = "shrink-3" if number % 3 == 2 else phase_of(method, state)
        state = method.digest(state, [moved(method, state, phase)])
        replayed = method.follow(replayed, method.progress(state))
        assert (replayed.version, phase_of(method, replayed)) == (state.version, phase_of(method, state))


def test_a_study_without_updates_goes_through_the_same_phases():
    method = profl(**TWO_EACH)
    state, _ = started(method)
    expected = [phase for phase, _, _ in through(method, state, 16)]
    found = []
    for _ in range(16):
        found.append(phase_of(method, state))
        state = method.follow(state, method.progress(state))
    assert found == expected


def test_the_stage_that_was_trained_last_is_tested_and_of_a_distillation_the_student():
    method = profl(**dict.fromkeys(TWO_EACH, 1))
    state, _ = started(method)
    tested = [method.evaluated(state)]
    for _, _, state in through(method, state, 8):  # noqa: B020
        tested.append(method.evaluated(state))
        model = method.evaluation_model(tested[-1], CHAIN)
        wanted = {name for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
        assert method.evaluation_tensors(state).keys() == wanted
    assert tested == ["full", "full", "distil-3", "shrink-2", "distil-2", "grow-1", "grow-2", "full", "full"]


def test_what_is_tested_as_the_full_model_is_the_model_itself():
    method = profl()
    state, _ = started(method)
    whole, plain = (
        method.evaluation_model("full", CHAIN).eval(),
        SurrogateStage(CHAIN, 3, frozen_batch_norm="eval").eval(),
    )
    load_tensors(whole, method.evaluation_tensors(state))
    load_tensors(plain, method.payload(state, "grow-3"))
    images = torch.randn(2, 2, 8, 8)
    assert torch.equal(whole(images), plain(images))


def test_a_student_is_tested_with_the_surrogate_in_the_place_of_its_block():
    method = profl(shrinking_rounds=1)
    *_, (_, _, state) = through(method, started(method)[0], 2)
    assert method.evaluated(state) == "distil-3"
    model = method.evaluation_model("distil-3", CHAIN).eval()
    load_tensors(model, method.evaluation_tensors(state))
    weights = {name: tensor.double() for name, tensor in state.tensors.items()}
    images = torch.randn(3, 2, 8, 8)
    x = images.double()
    for i in range(2):
        x, _ = twin_block(weights, i, x, collects=False)
    torch.testing.assert_close(model(images).double(), twin_read(weights, x, 2), rtol=1e-4, atol=1e-5)


def test_a_model_of_one_block_is_refused():
    message = (
        r"^method: profl trains block by block, and this model has 1 block; choose a model of 2 blocks or more, or "
        r"method fedavg, which trains all of it$"
    )
    with pytest.raises(ScenarioError, match=message):
        profl(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shrinking": False, "shrinking_rounds": 2}, "acts only with shrinking true, found 2; remove it"),
        ({"shrinking": False, "distillation_rounds": 2}, "acts only with shrinking true, found 2; remove it"),
        ({"shrinking": False, "distillation_epochs": 2}, "acts only with shrinking true, found 2; remove it"),
        ({"distillation_rounds": 0, "distillation_epochs": 2}, "acts only with distillation_rounds 1 or more, found 2"),
        (
            {"distillation_rounds": 0, "distillation_learning_rate": 0.1},
            "with distillation_rounds 1 or more, found 0.1",
        ),
        (
            {"shrinking_rounds": 2, "growing_rounds": 2, "convergence": {"window": 3}},
            "acts only with a phase without a number of rounds; remove it",
        ),
        ({"growing_rounds": 2, "shrinking": False, "convergence": {"window": 3}}, "a phase without a number of rounds"),
    ],
)
def test_options_that_another_one_switches_off_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        ProFLOptions(**options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "shrinking_rounds and growing_rounds: null"),
        ({"shrinking_rounds": 2}, "growing_rounds: null"),
        ({"growing_rounds": 2}, "shrinking_rounds: null"),
        ({"shrinking": False}, "growing_rounds: null"),
        (TWO_EACH, ""),
        ({"shrinking": False, "growing_rounds": 2}, ""),
    ],
)
def test_phases_that_end_by_convergence_decide_by_weights(options, text):
    assert profl(**options).decides_by_weights == text


def test_devices_that_do_not_fit_the_phase_are_denied():
    method = profl()
    ledger = Peaks(dict.fromkeys(method.submodels, 10), [5, 10, 20])
    ledger.fits_somebody = lambda name: True
    proposal = method.offers(method.start(CHAIN, 3, ledger), ledger, np.arange(3))
    assert (proposal.stage, proposal.offers.devices.tolist()) == ("shrink-3", [1, 2])
    assert [(denial.devices.tolist(), denial.shortfall_bytes.tolist()) for denial in proposal.denials] == [([0], [5])]
