"""Predicted and tracked peaks of every architecture and method submodel, small; the slow one is in verification/."""

import pytest
import torch
from thin_models import blueprint, method

from neulite_sim.errors import SimulationError
from neulite_sim.models import step as step_module
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.trainee import FullModel
from neulite_sim.profiling import audit as audit_module
from neulite_sim.profiling.audit import audit, audited, cuda_peak_bytes
from neulite_sim.profiling.profile import profile
from neulite_sim.registry import component
from neulite_sim.samples import InputSpec
from neulite_sim.scenario.schema import Training

TOLERANCE = 0.03
"""Of the peak; what the ledger promises."""
SHAPES = {"resnet18": (3, 8, 8), "resnet34": (3, 8, 8), "vgg11_bn": (3, 32, 32), "squeezenet": (3, 16, 16),
          "vit": (3, 8, 8), "cnn": (1, 8, 8), "lenet": (1, 8, 8), "logistic": (1, 8, 8)}  # fmt: skip
METHODS = {
    "fedavg": {"proximal_mu": 0.1},
    "heterofl": {"rates": [1, 0.5]},
    "depthfl": {"feddyn_alpha": 0.1},
    "progfed": {"warmup_rounds": 1},
    "profl": {},
    "neulite": {},
}


def narrow(kind):
    """Return a network thin and, where it has one, shallow enough for a test."""
    found = component("model", kind)
    options = {"patch": 4, "dim": 64, "heads": 2, "depth": 3} if kind == "vit" else {}
    architecture = found.build(found.options(**options))
    return Blueprint(architecture=architecture, input_shape=SHAPES[kind], num_classes=10, width=0.125, name=kind)


def relative_error(kind, build, **options):
    training = Training(batch_size=6, **options)
    how = {"spec": InputSpec(shape=SHAPES[kind], num_classes=10), "batch_size": 6, "training": training}
    return abs(audit(build, **how).total / profile("any", build, **how).peak_memory_bytes - 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", ["vit", "lenet"])
def test_predicted_peaks_are_those_of_a_real_step_for_every_submodel(kind, name):
    chosen, small = method(name, **METHODS[name]), narrow(kind)
    for number, submodel in enumerate(chosen.submodels):
        optimizer = {"kind": ("sgd", "adam")[number % 2]}
        assert (
            relative_error(kind, lambda name=submodel: chosen.trainee(name, small), optimizer=optimizer) < TOLERANCE
        ), submodel


PARTS = [
    {"tail": False, "surrogate": "conv"},
    {"tail": 2, "surrogate": "none"},
    {"tail": 99, "surrogate": "conv-bn-relu"},
    {"coadaptation": False},
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in SHAPES if kind not in ("resnet34", "logistic")])
@pytest.mark.parametrize("parts", PARTS, ids=str)
def test_predicted_peaks_follow_each_part_of_coadaptation_on_every_architecture(kind, parts):
    chosen, small = method("neulite", **parts), narrow(kind)
    assert relative_error(kind, lambda: chosen.trainee("stage-2", small)) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize(
    "options",
    [{}, {"precision": "bf16"}, {"micro_batch_size": 4}, {"checkpointing": True}, {"clip_norm": 1.0}],
    ids=lambda options: next(iter(options), "plain"),
)
def test_predicted_peaks_are_those_of_a_real_step_for_every_architecture_and_option(kind, options):
    assert relative_error(kind, lambda: FullModel(narrow(kind)), **options) < TOLERANCE


def test_the_audit_of_fp16_is_that_of_a_step_that_was_taken():
    """An overflowing first step makes no optimizer state; Adam's would be missing from the peak."""
    build = lambda: FullModel(blueprint("lenet"))  # noqa: E731
    assert relative_error("lenet", build, precision="fp16", optimizer={"kind": "adam"}) < TOLERANCE


def test_an_audit_in_a_precision_that_cannot_be_trained_in_is_refused(monkeypatch):
    monkeypatch.setattr(step_module, "_problem", lambda *_: "no such kernel")
    with pytest.raises(SimulationError, match=r"training\.precision is bf16, .* on this cpu \(no such kernel\)"):
        relative_error("lenet", lambda: FullModel(blueprint("lenet")), precision="bf16")


def test_the_third_column_is_absent_without_cuda_and_there_with_it(monkeypatch):
    how = {"spec": InputSpec(shape=(1, 8, 8), num_classes=10), "batch_size": 4, "training": Training(batch_size=4)}
    build = lambda: FullModel(blueprint("lenet"))  # noqa: E731
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert audited(build, **how).cuda_allocated_bytes is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(audit_module, "cuda_peak_bytes", lambda *_, **__: 1234)
    assert audited(build, **how).cuda_allocated_bytes == 1234


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_allocator_holds_the_tensors_and_little_more():
    """Blocks of 512 bytes and workspaces of convolutions come on top; at 32 images of 32x32 both are small."""
    how = {"spec": InputSpec(shape=(3, 32, 32), num_classes=10), "batch_size": 32, "training": Training(batch_size=32)}
    build = lambda: FullModel(blueprint("resnet18", (3, 32, 32)))  # noqa: E731
    predicted = profile("full", build, **how).peak_memory_bytes
    assert 0.97 * predicted < cuda_peak_bytes(build, **how) < 1.6 * predicted
