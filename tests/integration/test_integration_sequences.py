"""A sample may be something else than an image: a dataset and an architecture of tokens, through all of the simulator."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sequence_components import (
    LENGTH,
    SENTENCES,
    TAGS,
    VOCABULARY,
    Places,
    SequenceOptions,
    build_sequences,
    with_sequences,
    words,
)
from tiny_scenarios import TINY
from torch import nn

from neulite_sim import registry
from neulite_sim.data.conformance import check_dataset
from neulite_sim.engine.assembly import assemble
from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import ScenarioError
from neulite_sim.methods.conformance import check_method
from neulite_sim.models.conformance import check_architecture
from neulite_sim.models.contract import BlockModel, Blueprint
from neulite_sim.models.trainee import FullModel
from neulite_sim.profiling.audit import audit
from neulite_sim.profiling.profile import profile
from neulite_sim.registry import component
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.scenario.schema import Training
from neulite_sim.studies.costs import cost_report
from neulite_sim.training.evaluation import evaluate

SPECS = pytest.mark.parametrize("spec", [SENTENCES, TAGS], ids=["a class per sequence", "a class per token"])
BATCH = 5


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setattr(registry, "_entry_points", with_sequences(registry._entry_points))


def scenario(*overrides):
    changed = {
        **TINY,
        "data": {"kind": "sequences", "samples": 60},
        "model": "words",
        "training": {"epochs": 2, "batch_size": 5, "learning_rate": 0.5},
        "population": {**TINY["population"], "available_memory": {"kind": "uniform", "low": "1MB", "high": "2MB"}},
    }
    return parse_scenario(changed, overrides)


def blueprint(spec):
    return Blueprint(architecture=words, spec=spec, name="words")


# What the checks of the contracts say.


@SPECS
def test_the_architecture_passes(spec):
    check_architecture(words, spec=spec, width=0.5)


@pytest.mark.parametrize("per_token", [False, True])
def test_the_dataset_passes(per_token):
    check_dataset(build_sequences(SequenceOptions(per_token=per_token), 0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_inputs": np.full((60, LENGTH), VOCABULARY, np.uint8)}, "train_inputs: must be 0 to 7, the largest is 8"),
        ({"test_inputs": np.zeros((30, LENGTH), np.float32)}, "test_inputs: must be ids of tokens, are float32"),
        ({"test_inputs": np.zeros((30, LENGTH, 1), np.uint8)}, r"test_inputs: samples of \(6,\), found \(30, 6, 1\)"),
        ({"test_inputs": np.zeros((30, 2), np.uint8)}, r"test_inputs: \(2,\) per input, train_inputs \(6,\)"),
        ({"spec": TAGS}, r"train_labels: \(60,\) for 60 inputs"),
        ({"spec": replace(SENTENCES, vocabulary=None)}, "seen: must be float32, is torch.int64"),
        ({"spec": replace(SENTENCES, num_classes=1)}, "num_classes: must be at least 2, is 1"),
    ],
)  # fmt: skip
def test_the_law_that_a_dataset_breaks_is_named(changes, message):
    with pytest.raises(AssertionError, match=message):
        check_dataset(replace(build_sequences(SequenceOptions(), 0), **changes))


def test_an_input_that_changes_its_shape_on_the_way_to_the_network_is_named():
    class Padded(type(build_sequences(SequenceOptions(), 0))):
        def seen(self, inputs):
            return nn.functional.pad(inputs.long(), (0, 1))

    sound = build_sequences(SequenceOptions(), 0)
    padded = Padded(**{name: getattr(sound, name) for name in sound.__dataclass_fields__})
    with pytest.raises(AssertionError, match=r"seen: must be \(4, 6\) of 4 samples, is \(4, 7\)"):
        check_dataset(padded)


def without_basic_layer(spec, width):
    model = words(spec, width)
    return BlockModel(list(model.blocks), model.head, tails=model.tails, block_shapes=model.block_shapes)


def test_an_architecture_of_sequences_without_a_basic_layer_is_named():
    with pytest.raises(AssertionError, match=r"basic_layer: must be given where maps are not \(C, H, W\), as \(8, 6\)"):
        check_architecture(without_basic_layer, spec=SENTENCES, width=0.5)


@pytest.mark.parametrize(
    ("kind", "options", "spec"),
    [
        ("fedavg", {}, TAGS),
        ("neulite", {}, SENTENCES),
        ("neulite", {"surrogate": "none"}, TAGS),
        ("progfed", {}, SENTENCES),
        ("depthfl", {"classifier": "linear"}, TAGS),
        ("heterofl", {}, TAGS),
    ],
)
def test_methods_keep_their_contract(kind, options, spec):
    method = component("method", kind)
    check_method(method, blueprint(spec), method.options(**options))


# Costs.


@SPECS
def test_the_profile_is_that_of_a_real_step(spec):
    training = Training(batch_size=BATCH, checkpointing=True, micro_batch_size=3)
    how = {"spec": spec, "batch_size": BATCH, "training": training}
    found = profile("full", lambda: FullModel(blueprint(spec)), **how)
    measured = audit(lambda: FullModel(blueprint(spec)), **how)
    assert found.memory.total == measured.total
    assert found.memory.inputs == 8 * BATCH * (math.prod(spec.shape) + math.prod(spec.target_shape))


def test_ids_of_the_fake_step_lie_in_the_vocabulary():
    smallest = replace(SENTENCES, vocabulary=2)
    assert audit(lambda: FullModel(blueprint(smallest)), spec=smallest, batch_size=BATCH, training=Training()).total


@pytest.mark.parametrize("method", ["fedavg", "neulite"])
def test_costs_and_audit_of_a_scenario(method):
    report = cost_report(assemble(scenario(f"method={method}", "workload.classes=3")), audits=True)
    for entry in report["submodels"]:
        assert entry["audited_peak_memory_bytes"] == pytest.approx(entry["peak_memory_bytes"], rel=0.01)


# Training and tests.


class Fixed(nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, _inputs):
        return self.logits


def test_each_target_counts_alike_in_a_test():
    logits_BKL = torch.tensor([[[2.0, 0.0], [0.0, 2.0]], [[2.0, 2.0], [0.0, 0.0]]])
    targets_BL = torch.tensor([[0, 1], [0, 1]])
    found = evaluate(Fixed(logits_BKL), [(torch.zeros(2, 2, dtype=torch.int64), targets_BL)])
    right, wrong = math.log1p(math.exp(-2)), 2 + math.log1p(math.exp(-2))
    assert (found.num_samples, found.accuracy) == (2, 0.75)
    assert found.loss == pytest.approx((3 * right + wrong) / 4)


def test_the_squared_loss_of_a_sample_is_that_of_the_mean_over_its_targets():
    trainee = FullModel(blueprint(TAGS))
    trainee.reports_squared_loss = True
    logits_BKL = torch.tensor([[[2.0, 0.0], [0.0, 0.0]]])
    found = trainee.squared_loss(logits_BKL, torch.tensor([[0, 0]]))["squared_loss"]
    assert float(found) == pytest.approx(((math.log1p(math.exp(-2)) + math.log(2)) / 2) ** 2)


@pytest.mark.parametrize("per_token", ["false", "true"])
@pytest.mark.parametrize("method", ["fedavg", "neulite"])
def test_a_run_learns(method, per_token):
    result = simulate(
        scenario(
            f"method={method}",
            f"data.per_token={per_token}",
            "stop.rounds=4",
            "evaluation.diagnostics=[nhsic_plane]",
            "selection=oort",
        )
    )
    losses = [row["test_loss"] for row in result.rounds]
    assert losses[-1] < losses[0]
    assert all(0 <= row["value"] <= 1 for row in result.diagnostics)


# What is refused.


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model=resnet18",),
         "model: resnet18 reads images only, and the samples of data are sequences of 6 out of 8 tokens; choose a model"),
        (("data={kind: synthetic, samples: 20, test_samples: 10}",),
         "model: words reads tokens, and the samples of data are 3x32x32 images"),
        (("workload.input_shape=[3, 32, 32]",),
         "workload.input_shape: is the shape of an image, but the samples of data are sequences of 6 out of 8 tokens; "
         "remove it"),
        (("data.per_token=true", "data.partition=dirichlet"),
         "data.partition: dirichlet deals by the class of a sample, and each of these has targets of shape 6; use iid"),
        (("data.per_token=true", "data.partition=shards"),
         "data.partition: shards deals by the class of a sample, and each of these has targets of shape 6; use iid"),
        (("method=depthfl",),
         "method.classifier: attention looks at maps of images, and the samples of data are sequences of 6 out of 8 "
         "tokens; use linear"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(overrides, message):
    with pytest.raises(ScenarioError) as refusal:
        assemble(scenario(*overrides))
    assert message in str(refusal.value)


def test_a_stage_without_a_basic_layer_is_refused():
    method = component("method", "neulite")
    with pytest.raises(ScenarioError, match=r"maps are no images' but of shape \(16, 6\); choose a model that brings"):
        check_method(method, Blueprint(architecture=without_basic_layer, spec=SENTENCES))


def halved(spec, width):
    """Return blocks of which the first halves the places: no head with a target per token can stand on it."""
    blocks = [nn.Sequential(nn.Embedding(spec.vocabulary, 4), nn.Flatten(), nn.Unflatten(1, (4, LENGTH)),
                            nn.AvgPool1d(2)), nn.Upsample(scale_factor=2)]  # fmt: skip
    return BlockModel(blocks, Places(4, spec.num_classes), tails=((), ()), block_shapes=((4, LENGTH // 2), (4, LENGTH)))


def test_a_head_that_has_no_place_for_each_target_is_refused():
    plan = Blueprint(architecture=halved, spec=TAGS)
    with pytest.raises(
        ScenarioError, match=r"a block puts out maps of shape \(4, 3\): no head can stand on it; choose"
    ):
        check_method(component("method", "progfed"), plan)
