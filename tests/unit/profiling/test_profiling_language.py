"""The ledger of language models: predicted to the byte, and the same however its optimizer steps are traced."""

import numpy as np
import pytest

from neulite_sim.models.bert import COMPONENT as BERT
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.gpt import COMPONENT as GPT
from neulite_sim.models.trainee import FullModel
from neulite_sim.profiling import alike
from neulite_sim.profiling.audit import audit
from neulite_sim.profiling.profile import profile
from neulite_sim.samples import InputSpec
from neulite_sim.scenario.schema import Training

PLANS = [
    {},
    {"optimizer": "adam"},
    {"checkpointing": True},
    {"precision": "bf16"},
    {"micro_batch_size": 2, "checkpointing": True, "precision": "bf16", "optimizer": "adam"},
]
SIZES = {
    "small": {"dim": 32, "heads": 2, "depth": 2},
    "math": {"dim": 64, "heads": 4, "depth": 3, "attention": "math"},
    "llama": {"preset": "qwen2.5-0.5b", "dim": 64, "heads": 4, "kv_heads": 2, "depth": 3, "vocabulary": 500},
}


def next_tokens(vocabulary, length=24):
    return InputSpec(
        shape=(length,), vocabulary=vocabulary, num_classes=vocabulary, target_shape=(length,), predicts_tokens=True
    )


def blueprint(options, vocabulary=500):
    return Blueprint(architecture=GPT.build(GPT.options(**options)), spec=next_tokens(vocabulary))


def profiled(model, training):
    return profile("full", lambda: FullModel(model), spec=model.spec, batch_size=4, training=training)


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: "+".join(plan) or "plain")
@pytest.mark.parametrize("size", SIZES)
def test_peaks_of_decoders_are_predicted_to_the_byte(size, plan):
    model, training = blueprint(SIZES[size]), Training(batch_size=4, epochs=1, **plan)
    tracked = audit(lambda: FullModel(model), spec=model.spec, batch_size=4, training=training)
    assert profiled(model, training).tensor_bytes == tracked.total


def test_peaks_of_encoders_are_predicted_to_the_byte():
    spec = InputSpec(shape=(24,), vocabulary=100, num_classes=3)
    model = Blueprint(architecture=BERT.build(BERT.options(dim=32, heads=2)), spec=spec)
    training = Training(batch_size=4, epochs=1)
    tracked = audit(lambda: FullModel(model), spec=spec, batch_size=4, training=training)
    assert profiled(model, training).tensor_bytes == tracked.total


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", [{"optimizer": "adam", "weight_decay": 0.1}, {"momentum": 0.9}, {"momentum": 0.0}]
)
def test_alike_steps_of_the_optimizer_are_traced_once_to_the_same_figures(monkeypatch, optimizer):
    model, training = blueprint(SIZES["llama"]), Training(batch_size=4, epochs=1, **optimizer)
    whole = profiled(model, training)
    monkeypatch.setattr(alike, "FEWEST_PARAMETERS", 0)
    taken = []
    monkeypatch.setattr(alike, "take_step", lambda *given, plain=alike.take_step: (taken.append(1), plain(*given)))
    once = profiled(model, training)
    assert 0 < len(taken) < 40
    assert whole.memory == once.memory
    for column in ("operator_flops", "operator_bytes", "operator_kinds"):
        assert np.array_equal(getattr(whole, column), getattr(once, column))


def test_logits_and_their_gradient_are_what_a_large_vocabulary_costs():
    training = Training(batch_size=4, epochs=1)
    small, large = (profiled(blueprint(SIZES["small"], vocabulary), training) for vocabulary in (2000, 12000))
    # Log-probabilities, their gradient and that of the logits; the tied embedding and its momentum.
    per_token = 3 * 4 * 4 * 24 + 2 * 4 * 32
    assert large.tensor_bytes - small.tensor_bytes == pytest.approx(10_000 * per_token, rel=0.02)


def test_fused_attention_keeps_no_scores():
    training = Training(batch_size=4, epochs=1)
    held = {}
    for kernel in ("fused", "math"):
        for length in (32, 64):
            options = SIZES["small"] | {"attention": kernel}
            model = Blueprint(architecture=GPT.build(GPT.options(**options)), spec=next_tokens(50, length))
            held[kernel, length] = profiled(model, training).memory.activations
    assert held["fused", 64] / held["fused", 32] == pytest.approx(2, rel=0.02)
    # Scores of 2 layers of 2 heads, before and after the softmax at most, and a mask.
    more = held["math", 64] - 2 * held["math", 32]
    assert more >= 2 * 2 * 4 * 4 * (64 * 64 - 2 * 32 * 32)
