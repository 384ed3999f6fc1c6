"""Precision, micro-batches and checkpointing in a real local training."""

import numpy as np
import pytest
import torch
from test_training_local import start, task, workplace

from neulite_sim.errors import SimulationError
from neulite_sim.models import step
from neulite_sim.scenario.schema import Training
from neulite_sim.training.worker import Worker


def update(model, **options):
    place = workplace(model=model, training=Training(epochs=2, batch_size=4, learning_rate=0.05, **options))
    return Worker(place).train(task(), start(place).tensors)


def test_checkpointing_changes_no_bit_of_an_update():
    plain, again = update("resnet18"), update("resnet18", checkpointing=True)
    assert again.loss == plain.loss
    assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in plain.tensors.items())


def test_micro_batches_learn_what_whole_batches_learn_without_batch_norm():
    plain, parts = update("lenet"), update("lenet", micro_batch_size=2)
    assert parts.loss == pytest.approx(plain.loss, rel=1e-4)
    for name, tensor in plain.tensors.items():
        torch.testing.assert_close(parts.tensors[name], tensor, rtol=1e-3, atol=1e-5)


def test_fp16_says_how_many_steps_it_left_out_and_returns_fp32():
    found = update("lenet", precision="fp16")
    assert 0 <= found.metrics["num_skipped_steps"] <= 6
    assert {tensor.dtype for tensor in found.tensors.values()} == {torch.float32}
    assert np.isfinite(found.loss)
    assert "num_skipped_steps" not in update("lenet", precision="bf16").metrics


def test_a_precision_that_a_worker_cannot_train_in_is_refused(monkeypatch):
    monkeypatch.setattr(step, "_problem", lambda *_: "no such kernel")
    with pytest.raises(SimulationError, match=r"training\.precision is bf16, .* on this cpu \(no such kernel\)"):
        update("lenet", precision="bf16")
