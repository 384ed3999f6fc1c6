"""Predicted peaks, parameters and bytes against numbers that were found independently."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from neulite_sim.errors import ScenarioError
from neulite_sim.methods.contract import Setting
from neulite_sim.models.contract import BlockModel, Blueprint
from neulite_sim.models.trainee import FullModel
from neulite_sim.profiling.audit import audit
from neulite_sim.profiling.profile import profile
from neulite_sim.profiling.tracer import trace_steps
from neulite_sim.registry import component
from neulite_sim.samples import InputSpec
from neulite_sim.scenario.schema import Training

CIFAR = (3, 32, 32)
SETTING = Setting(num_blocks=4, num_devices=10, max_rounds=10, seed=0)


def blueprint(model="resnet18", shape=CIFAR, width=1.0):
    found = component("model", model)
    return Blueprint(architecture=found.build(found.options()), input_shape=shape, num_classes=10, width=width)


def method(kind, **options):
    found = component("method", kind)
    return found.build(found.options(**options), SETTING)


def profiled(chosen, submodel, batch_size=128, model="resnet18"):
    return profile(
        submodel,
        lambda: chosen.trainee(submodel, blueprint(model)),
        input_shape=CIFAR,
        batch_size=batch_size,
        training=Training(batch_size=batch_size),
    )


@pytest.mark.parametrize(("batch_size", "expected_mb"), [(128, 711.8), (64, 417.4)])
def test_full_resnet18_peak_matches_an_independent_live_storage_trace(batch_size, expected_mb):
    found = profiled(method("fedavg"), "full", batch_size)
    assert found.peak_memory_bytes / 1e6 == pytest.approx(expected_mb, rel=0.001)
    assert found.memory.total == found.peak_memory_bytes


def test_full_resnet34_peak_matches_an_independent_live_storage_trace():
    assert profiled(method("fedavg"), "full", model="resnet34").peak_memory_bytes / 1e6 == pytest.approx(
        1214.3, rel=0.001
    )


@pytest.mark.parametrize(("stage", "expected_mb"), [("stage-1", 424.1), ("stage-2", 309.5)])
def test_stages_without_projection_match_the_trace(stage, expected_mb):
    chosen = method("neulite", curriculum=False)
    assert profiled(chosen, stage).peak_memory_bytes / 1e6 == pytest.approx(expected_mb, rel=0.001)


class PlainBlock(nn.Module):
    """A BasicBlock as often written: calls within calls keep the map before until BatchNorm has written its own."""

    def __init__(self, channels_in, channels_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            conv = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(channels_out))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += self.shortcut(x)
        return self.relu(y)


def plain_stage(stage):
    """Stage models of nested `nn.Sequential`s, whose loops keep each block's input while the block runs."""
    channels = (64, 64, 128, 256, 512)
    stem = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True))
    blocks = [
        nn.Sequential(PlainBlock(channels[k], channels[k + 1], 1 if k == 0 else 2),
                      PlainBlock(channels[k + 1], channels[k + 1], 1))
        for k in range(stage)
    ]  # fmt: skip
    surrogates = [nn.Conv2d(channels[k], channels[k + 1], 3, 2, 1, bias=False) for k in range(stage, 4)]
    model = nn.Sequential(stem, *blocks, *surrogates, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
    if stage > 1:
        model[:stage].requires_grad_(False)
        for name in ("conv2", "bn2"):
            blocks[-2][1].get_submodule(name).requires_grad_(True)
    return model


@pytest.mark.parametrize(("stage", "expected_mb"), [(1, 424.1), (2, 309.5), (3, 198.9), (4, 250.0)])
def test_a_plainly_written_stage_gives_the_reference_trace_and_ours_never_needs_more(stage, expected_mb):
    """Stages 3 and 4 peak in the frozen first block: the plain one holds five of its maps there, ours three."""
    with FakeTensorMode():
        model = plain_stage(stage).train()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=0.01, momentum=0.9, weight_decay=5e-4, foreach=False)
        batch = torch.randn(128, *CIFAR), torch.zeros(128, dtype=torch.long)
        traced = trace_steps(model, optimizer, lambda x, y: nn.functional.cross_entropy(model(x), y), batch)
    assert traced.peak.total / 1e6 == pytest.approx(expected_mb, rel=0.0005)
    ours = profiled(method("neulite", curriculum=False), f"stage-{stage}").peak_memory_bytes
    assert ours <= traced.peak.total * 1.0005


@pytest.mark.parametrize(("stage", "expected_mb"), [("stage-1", 468.6), ("stage-2", 354.0), ("stage-3", 228.7)])
def test_stages_with_projection_lie_within_eight_percent_of_the_trace(stage, expected_mb):
    """Above it by the second gradient of the block's map that nHSIC sends back, which the trace did not run."""
    assert profiled(method("neulite"), stage).peak_memory_bytes / 1e6 == pytest.approx(expected_mb, rel=0.08)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "stage", "trained", "present"),
    [
        ("resnet18", "stage-1", 1_703_242, 1_703_242),
        ("resnet18", "stage-2", 2_042_250, 2_155_082),
        ("resnet18", "stage-3", 3_432_202, 3_959_882),
        ("resnet18", "stage-4", 8_989_194, 11_173_962),
        ("resnet34", "stage-1", 1_777_226, 1_777_226),
        ("resnet34", "stage-2", 2_633_098, 2_819_914),
        ("resnet34", "stage-3", 8_154_890, 9_347_402),
        ("resnet34", "stage-4", 13_709_834, 21_282_122),
    ],
)
def test_parameters_and_bytes_of_each_stage_are_those_of_the_reference_sheet(model, stage, trained, present):
    chosen = method("neulite", curriculum=False)
    found = profiled(chosen, stage, batch_size=2, model=model)
    assert (found.trainable_parameters, found.parameters) == (trained, present)
    trainee = chosen.trainee(stage, blueprint(model))
    buffers = {name: tensor for name, tensor in trainee.travelling() if "running_" in name}
    sent = set(trainee.upload_names())
    assert found.bytes_down == 4 * (present + sum(tensor.numel() for tensor in buffers.values()))
    assert found.bytes_up == 4 * (trained + sum(tensor.numel() for name, tensor in buffers.items() if name in sent))


def test_the_full_model_travels_with_its_9600_running_statistics_and_without_counters():
    found = profiled(method("fedavg"), "full", batch_size=2)
    assert found.parameters == found.trainable_parameters == 11_173_962
    assert found.bytes_down == found.bytes_up == 4 * (11_173_962 + 9_600)


@pytest.mark.slow
@pytest.mark.parametrize("submodel", ["stage-1", "stage-2", "stage-3", "stage-4"])
def test_the_audit_on_real_tensors_agrees_with_the_prediction_for_each_stage(submodel):
    chosen, training = method("neulite"), Training(batch_size=8)
    build = lambda: chosen.trainee(submodel, blueprint())  # noqa: E731
    predicted = profile(submodel, build, input_shape=CIFAR, batch_size=8, training=training)
    measured = audit(build, spec=InputSpec(shape=CIFAR, num_classes=10), batch_size=8, training=training)
    assert measured.total == pytest.approx(predicted.peak_memory_bytes, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_audit_agrees_for_the_full_model_under_each_optimizer(optimizer):
    chosen = method("fedavg")
    training = Training(batch_size=8, optimizer={"kind": optimizer})
    build = lambda: chosen.trainee("full", blueprint())  # noqa: E731
    predicted = profile("full", build, input_shape=CIFAR, batch_size=8, training=training)
    measured = audit(build, spec=InputSpec(shape=CIFAR, num_classes=10), batch_size=8, training=training)
    assert measured.total == pytest.approx(predicted.peak_memory_bytes, rel=0.03)


def test_frozen_blocks_cost_no_gradient_and_no_optimizer_state():
    found = profiled(method("neulite", curriculum=False), "stage-4", batch_size=2)
    assert found.memory.optimizer == pytest.approx(4 * found.trainable_parameters, rel=1e-3)
    assert found.memory.gradients <= 4 * found.trainable_parameters


def test_adam_keeps_two_values_per_parameter_and_sgd_without_momentum_none():
    chosen = method("fedavg")
    build = lambda: chosen.trainee("full", blueprint("lenet"))  # noqa: E731
    adam, plain = (
        profile("full", build, input_shape=CIFAR, batch_size=4, training=training)
        for training in (Training(optimizer={"kind": "adam"}), Training(momentum=0.0))
    )
    counters = 4 * sum(1 for _ in build().parameters())
    assert adam.memory.optimizer == 2 * 4 * adam.parameters + counters
    assert plain.memory.optimizer == 0


def test_flops_are_three_times_those_of_the_forward_pass_but_for_the_input_gradient():
    """Forward and both gradients of each convolution and of the linear layer; images need no gradient."""
    found = profiled(method("fedavg"), "full", batch_size=1)
    stem = 64 * 32 * 32 * 3 * 9
    maps = {64: 32, 128: 16, 256: 8, 512: 4}
    layers = 4 * 64 * 64 * 9 * 32 * 32
    for inner, outer in ((64, 128), (128, 256), (256, 512)):
        layers += maps[outer] ** 2 * outer * (inner * 9 + 3 * outer * 9 + inner)
    macs = stem * 2 + 3 * (layers + 512 * 10)
    assert found.flops_per_step == 2 * macs
    assert macs / 1e6 == pytest.approx(1664.5, abs=0.5)


def test_peak_is_linear_in_the_batch_once_activations_lead():
    peaks = [profiled(method("fedavg"), "full", batch_size).peak_memory_bytes for batch_size in (32, 64, 96)]
    assert peaks[2] - peaks[1] == pytest.approx(peaks[1] - peaks[0], rel=0.01)


def test_a_submodel_that_trains_nothing_is_refused_by_its_name():
    def frozen():
        trainee = method("fedavg", memory_limit=False).trainee("full", blueprint("logistic"))
        return trainee.requires_grad_(False)

    with pytest.raises(ScenarioError, match="method: submodel half has no parameter to train on this model; choose"):
        profile("half", frozen, input_shape=CIFAR, batch_size=2, training=Training(batch_size=2))


class SparseRows(nn.Module):
    """Looks its rows up so that their gradient is a sparse tensor."""

    def __init__(self, looks_up):
        super().__init__()
        self.table, self.last, self.looks_up = nn.Embedding(7, 4), nn.Linear(4, 3), [looks_up]

    def forward(self, rows):
        numbers = rows.flatten(1).long().clamp(0, 6)
        return self.last(self.looks_up[0](numbers, self.table))


@pytest.mark.parametrize("looks_up", [
    lambda numbers, table: F.embedding(numbers, table.weight, sparse=True).mean(1),
    lambda numbers, table: F.embedding_bag(numbers, table.weight, sparse=True),
    lambda numbers, table: torch.sparse.mm(torch.eye(len(numbers)).to_sparse(), table(numbers).mean(1)),
])  # fmt: skip
def test_a_step_with_sparse_tensors_is_refused_in_words(looks_up):
    def built(input_shape, num_classes, width):
        del input_shape, num_classes, width
        return BlockModel([SparseRows(looks_up)], nn.Identity(), tails=((),), block_shapes=((3,),))

    model = Blueprint(architecture=built, input_shape=(1, 2, 2), num_classes=3)
    told = (
        r"model: a training step makes a sparse_coo tensor of \d+x\d+, and what a device needs is known of dense ones "
        r"only; build embeddings with sparse=False, which learn the same, and keep to dense tensors in forward"
    )
    with pytest.raises(ScenarioError, match=told):
        profile("full", lambda: FullModel(model), batch_size=5, training=Training(batch_size=5), spec=model.spec)
