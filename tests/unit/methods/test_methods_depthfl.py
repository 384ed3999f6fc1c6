"""DepthFL: sizes, losses, ramp, aggregation per depth, FedDyn and the ensemble, against numbers worked by hand."""

import numpy as np
import pytest
import torch

from neulite_sim.methods.contract import Setting, Update
from neulite_sim.methods.depth import mutual_distillation
from neulite_sim.methods.depthfl import DepthFLOptions, ramp
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.trainee import load_tensors
from neulite_sim.profiling.profile import profile
from neulite_sim.registry import component
from neulite_sim.scenario.schema import Training

SIZES = {"depth-4": 12_283_344, "depth-3": 3_838_316, "depth-2": 1_347_336, "depth-1": 479_652}


def blueprint(kind="resnet18", width=0.0625, shape=(1, 16, 16), classes=10):
    found = component("model", kind)
    return Blueprint(architecture=found.build(found.options()), input_shape=shape, num_classes=classes, width=width)


def depthfl(blocks=4, devices=4, **options):
    setting = Setting(num_blocks=blocks, num_devices=devices, max_rounds=8, seed=3)
    return component("method", "depthfl").build(DepthFLOptions(**options), setting)


def loaded(method, submodel, state=None, device=0):
    """Return a trainee as a worker has it when training begins."""
    state = state or method.start(blueprint(), 0, None)
    trainee = method.trainee(submodel, blueprint())
    load_tensors(trainee, {**method.payload(state, submodel), **method.personal_payload(state, device, submodel)})
    trainee.prepare()
    return trainee


def report(method, state, submodel, amount, device=0, samples=1):
    names = method.trainee(submodel, blueprint()).upload_names()
    payload = method.payload(state, submodel)
    tensors = {name: payload[name] + amount for name in names}
    return Update(device=device, submodel=submodel, num_samples=samples, tensors=tensors, loss=0.0)


def batch():
    return torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])


def test_depths_of_resnet18_have_the_reference_sizes():
    method = depthfl()
    with torch.device("meta"):
        models = {name: method.trainee(name, blueprint("resnet18", 1.0, (3, 32, 32), 100)) for name in method.submodels}
    assert {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()} == SIZES


def test_linear_classifiers_add_one_pooled_layer_per_block():
    method = depthfl(classifier="linear")
    with torch.device("meta"):
        model = method.trainee("depth-3", blueprint("resnet18", 1.0, (3, 32, 32), 100))
    sizes = {name: sum(p.numel() for p in head.parameters()) for name, head in model.classifiers.items()}
    assert sizes == {"1": 64 * 100 + 100, "2": 128 * 100 + 100, "3": 256 * 100 + 100}


def test_the_ramp_rises_to_one():
    seen = [ramp(r, 300) for r in (0, 75, 150, 225, 300, 900)]
    assert seen == pytest.approx([0.006738, 0.060055, 0.286505, 0.731616, 1.0, 1.0], abs=1e-6)
    assert ramp(0, 0) == 1.0


def test_two_heads_have_the_loss_worked_by_hand():
    logits, label = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])], torch.tensor([0])
    cross_entropy = sum(torch.nn.functional.cross_entropy(z, label) for z in logits)
    distillation = mutual_distillation(logits)
    assert distillation.item() == pytest.approx(2 * 0.4621173, abs=1e-6)
    assert (cross_entropy + distillation).item() == pytest.approx(2.5507580, abs=1e-6)
    assert (cross_entropy + ramp(0, 300) * distillation).item() == pytest.approx(1.6327507, abs=1e-6)


def test_teachers_do_not_learn_from_their_students():
    teacher, student = torch.tensor([[1.0, 0.0]], requires_grad=True), torch.tensor([[0.0, 1.0]], requires_grad=True)
    mutual_distillation([teacher, student]).backward()
    # d/dz KL(p || softmax(z)) = softmax(z) - p for the student of each direction, nothing for the teacher.
    gap = torch.softmax(teacher.detach(), 1) - torch.softmax(student.detach(), 1)
    torch.testing.assert_close(teacher.grad, gap, atol=1e-6, rtol=0)
    torch.testing.assert_close(student.grad, -gap, atol=1e-6, rtol=0)


def test_several_targets_of_a_sample_are_distilled_as_so_many_samples():
    logits = [torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(number)) for number in (1, 2)]
    apart = [logits_BKL.movedim(1, 2).flatten(0, 1) for logits_BKL in logits]
    torch.testing.assert_close(mutual_distillation(logits), mutual_distillation(apart))


def test_the_loss_of_a_depth_sums_classifiers_and_ramped_distillation():
    method = depthfl(ramp_rounds=10)
    state = method.start(blueprint(), 0, None)
    for version in (0, 5):
        trainee = loaded(method, "depth-3", type(state)(version=version, tensors=state.tensors, extra=state.extra))
        loss, scalars = trainee.loss(*batch())
        expected = scalars["cross_entropy"] + ramp(version, 10) * scalars["distillation"]
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
        assert scalars["distillation"] > 0


def test_one_block_or_no_distillation_is_cross_entropy_alone():
    for method, submodel in ((depthfl(), "depth-1"), (depthfl(distillation=False), "depth-3")):
        loss, scalars = loaded(method, submodel).loss(*batch())
        assert scalars.keys() == {"cross_entropy"}
        assert loss.item() == scalars["cross_entropy"].item()


def test_the_weight_of_distillation_travels_down_and_not_up():
    trainee = depthfl().trainee("depth-2", blueprint())
    assert "distillation_weight" in dict(trainee.travelling())
    assert "distillation_weight" not in trainee.upload_names()
    assert all(parameter.requires_grad for parameter in trainee.parameters())


@pytest.mark.slow
def test_without_extension_a_depth_has_only_its_last_classifier():
    method = depthfl(extended=False)
    trainee = method.trainee("depth-3", blueprint())
    assert list(trainee.classifiers) == ["3"]
    assert "distillation_weight" not in dict(trainee.travelling())
    assert set(method.payload(method.start(blueprint(), 0, None), "depth-3")) == dict(trainee.travelling()).keys()


def test_every_tensor_is_the_mean_over_those_that_have_it_and_keeps_its_value_without_reporter():
    for weighting, shared in (("uniform", 1.5), ("samples", 1.75)):
        method = depthfl(weighting=weighting)
        state = method.start(blueprint(), 0, None)
        updates = [report(method, state, "depth-1", 1.0, 0, 100), report(method, state, "depth-2", 2.0, 1, 300)]
        after = method.digest(state, updates)
        moved = {name: (after.tensors[name] - tensor).mean().item() for name, tensor in state.tensors.items()}
        assert moved["blocks.0.stem.conv.weight"] == pytest.approx(shared, abs=1e-5)
        assert moved["classifiers.1.head.2.bias"] == pytest.approx(shared, abs=1e-5)
        assert moved["classifiers.2.head.2.bias"] == pytest.approx(2.0, abs=1e-5)
        untouched = ("blocks.2.", "blocks.3.", "classifiers.3.", "head.")
        assert all(moved[name] == 0.0 for name in moved if name.startswith(untouched))


class Fleet:
    """The part of a ledger that `offers` reads: device d has room for `rooms[d]` blocks."""

    def __init__(self, *rooms):
        self.rooms = np.array(rooms)

    def fits(self, submodel):
        return self.rooms >= int(submodel.removeprefix("depth-"))

    def shortfall_bytes_of(self, submodel, devices):
        return self.shortfall_bytes(submodel)[devices]

    def shortfall_bytes(self, submodel):
        return np.full(len(self.rooms), 7)

    def total_s(self, submodel, devices):
        return np.ones(len(devices))


def test_every_device_is_offered_the_deepest_that_fits():
    method = depthfl()
    proposal = method.offers(method.start(blueprint(), 0, None), Fleet(4, 1, 0, 3), np.arange(4))
    offered = [proposal.offers[i] for i in range(len(proposal.offers))]
    assert [(offer.device, offer.submodel) for offer in offered] == [(0, "depth-4"), (1, "depth-1"), (3, "depth-3")]
    assert [(denial.submodel, denial.devices.tolist()) for denial in proposal.denials] == [("depth-1", [2])]


def test_the_ensemble_is_the_mean_of_the_logits_of_what_was_trained():
    method = depthfl()
    state = method.start(blueprint(), 0, None)
    state = method.digest(state, [report(method, state, "depth-2", 0.01)])
    assert method.evaluated(state) == "depth-2"
    model = method.evaluation_model("depth-2", blueprint())
    load_tensors(model, method.evaluation_tensors(state))
    model.eval()
    logits = model.all_logits(batch()[0])
    assert len(logits) == 2
    torch.testing.assert_close(model(batch()[0]), (logits[0] + logits[1]) / 2)
    everything = depthfl(ensemble="all")
    assert everything.evaluated(state) == "depth-4"
    assert "head.fc.weight" in everything.evaluation_tensors(state)


def test_feddyn_takes_the_steps_worked_by_hand():
    method = depthfl(devices=100, feddyn_alpha=0.1)
    start = method.start(blueprint(), 0, None)
    ones = {name: torch.ones_like(tensor) for name, tensor in start.tensors.items()}
    state = type(start)(version=0, tensors=ones, extra=start.extra)
    after = method.digest(state, [report(method, state, "depth-1", 0.2, 7), report(method, state, "depth-1", 0.4, 9)])
    weight, statistic = "blocks.0.stem.conv.weight", "blocks.0.stem.bn.running_mean"
    assert after.extra.server[weight].flatten()[0].item() == pytest.approx(-0.0006, abs=1e-7)
    assert after.tensors[weight].flatten()[0].item() == pytest.approx(1.306, abs=1e-6)
    assert after.tensors[statistic][0].item() == pytest.approx(1.3, abs=1e-6)
    assert after.extra.devices[7][weight].flatten()[0].item() == pytest.approx(-0.02, abs=1e-7)
    assert "head.fc.weight" not in after.extra.server
    assert torch.equal(after.tensors["head.fc.weight"], ones["head.fc.weight"])
    # A second participation goes on from there: g = -0.02 - 0.1 * 0.1.
    later = method.digest(after, [report(method, after, "depth-1", 0.1, 7)])
    assert later.extra.devices[7][weight].flatten()[0].item() == pytest.approx(-0.03, abs=1e-6)
    assert later.extra.devices[9] == after.extra.devices[9]


def test_feddyn_sends_a_device_its_own_drift_and_charges_no_bytes_for_it():
    method = depthfl(feddyn_alpha=0.1)
    state = method.start(blueprint(), 0, None)
    state = method.digest(state, [report(method, state, "depth-1", 0.5, device=1)])
    name = "drift.blocks/0/stem/conv/weight"
    assert method.personal_payload(state, 0, "depth-1")[name].abs().max() == 0
    personal = method.personal_payload(state, 1, "depth-1")[name]
    torch.testing.assert_close(personal, torch.full_like(personal, -0.05))
    trainee = loaded(method, "depth-1", state, device=1)
    assert not any(name.startswith("drift.") for name, _ in trainee.travelling())
    assert set(trainee.upload_names()) == set(depthfl().trainee("depth-1", blueprint()).upload_names())
    assert depthfl().personal_payload(state, 1, "depth-1") == {}


def test_feddyn_adds_its_gradient_to_that_of_the_loss():
    method = depthfl(feddyn_alpha=0.1)
    state = method.start(blueprint(), 0, None)
    state = method.digest(state, [report(method, state, "depth-1", 0.5, device=1)])
    tied, free = loaded(method, "depth-1", state, device=1), loaded(depthfl(), "depth-1", state)
    for model in (tied, free):
        with torch.no_grad():
            model.classifiers["1"].head[2].bias.add_(0.3)
        model.loss(*batch())[0].backward()
    # - g + alpha (theta - theta_t) = 0.05 + 0.1 * 0.3 where the weight has moved, 0.05 elsewhere.
    gap = tied.classifiers["1"].head[2].bias.grad - free.classifiers["1"].head[2].bias.grad
    torch.testing.assert_close(gap, torch.full_like(gap, 0.08), atol=1e-5, rtol=0)
    gap = tied.classifiers["1"].head[2].weight.grad - free.classifiers["1"].head[2].weight.grad
    torch.testing.assert_close(gap, torch.full_like(gap, 0.05), atol=1e-5, rtol=0)


def test_feddyn_costs_two_more_copies_of_the_weights():
    given, small = {"input_shape": (1, 16, 16), "batch_size": 4, "training": Training()}, blueprint("cnn")
    free, tied = (
        profile("depth-2", lambda chosen=chosen: chosen.trainee("depth-2", small), **given)
        for chosen in (depthfl(2), depthfl(2, feddyn_alpha=0.1))
    )
    assert tied.memory.parameters - free.memory.parameters == 2 * 4 * free.parameters
    assert (tied.bytes_down, tied.bytes_up) == (free.bytes_down, free.bytes_up)


@pytest.mark.parametrize(("kind", "blocks"), [("cnn", 2), ("lenet", 2), ("logistic", 1)])
def test_other_architectures_train_too(kind, blocks):
    method = depthfl(blocks=blocks)
    for submodel in method.submodels:
        trainee = method.trainee(submodel, blueprint(kind))
        trainee.prepare()
        trainee.loss(*batch())[0].backward()
        assert all(parameter.grad is not None for parameter in trainee.parameters())


def test_shallow_devices_of_a_deep_fleet_cost_less_memory():
    given = {"input_shape": (1, 16, 16), "batch_size": 8, "training": Training()}
    method = depthfl(blocks=2)
    deep, shallow = (profile(name, lambda name=name: method.trainee(name, blueprint("cnn")), **given)
                     for name in method.submodels)  # fmt: skip
    assert shallow.peak_memory_bytes < deep.peak_memory_bytes
