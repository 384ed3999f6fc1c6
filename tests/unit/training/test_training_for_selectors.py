"""What workers do for learning selectors: squared losses, and tests on the samples of some devices."""

import numpy as np
import pytest
import torch
from made_flights import cost_of
from torch import nn

from neulite_sim.data.contract import Dataset, Partition
from neulite_sim.methods.contract import LocalTask, Setting, State
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.trainee import float_tensors
from neulite_sim.registry import component
from neulite_sim.scenario.schema import Evaluation, Training
from neulite_sim.training.contract import Workplace
from neulite_sim.training.inprocess import InProcess
from neulite_sim.training.worker import Worker

SHAPE = (1, 8, 8)
TASK = LocalTask(flight=1, cost=cost_of(0, peak_memory_bytes=100, available_memory_bytes=100), version=0, seed=5,
                 learning_rate=0.05)  # fmt: skip


def workplace():
    model, method = component("model", "logistic"), component("method", "fedavg")
    labels = np.arange(21) % 3
    noise = np.random.Generator(np.random.PCG64(0)).normal(size=(21, *SHAPE))
    images = (noise + labels[:, None, None, None]).astype(np.float32)
    return Workplace(
        dataset=Dataset(name="toy", train_images=images, train_labels=labels, test_images=images, test_labels=labels,
                        num_classes=3, mean=(1.0,), std=(1.0,)),
        partition=Partition(samples=np.arange(21), offsets=np.array([0, 9, 21])),
        method=method.build(method.options(), Setting(num_blocks=1, num_devices=2, max_rounds=4, seed=0)),
        blueprint=Blueprint(architecture=model.build(model.options()), input_shape=SHAPE, num_classes=3),
        training=Training(epochs=1, batch_size=64, learning_rate=0.05),
        evaluation=Evaluation(batch_size=8),
        seed=5,
        threads=1,
    )  # fmt: skip


def start(place):
    return State(version=0, tensors=float_tensors(place.blueprint.build_seeded(1)))


def test_an_update_reports_the_mean_square_of_its_losses_over_the_last_epoch():
    """One step on all nine samples of the device: the losses are those of the weights that it was sent."""
    place = workplace()
    state = start(place)
    update = Worker(place).train(TASK, state.tensors)
    numbers = place.partition.of(0)
    images = torch.from_numpy(place.dataset.train_images[numbers]) - 1.0
    weight = next(name for name in state.tensors if name.endswith("weight"))
    logits = images.flatten(1) @ state.tensors[weight].T + state.tensors[weight.replace("weight", "bias")]
    labels = torch.from_numpy(place.dataset.train_labels[numbers])
    losses = nn.functional.cross_entropy(logits, labels, reduction="none")
    assert update.metrics["squared_loss"] == pytest.approx(losses.square().mean().item(), rel=1e-5)


def test_a_model_can_be_tested_on_the_samples_of_some_devices():
    """The toy test samples are its training samples, so both devices together give the usual test."""
    place = workplace()
    tensors, worker = start(place).tensors, Worker(place)
    first, second = (worker.evaluate("full", tensors, np.array([device])) for device in (0, 1))
    both, usual = worker.evaluate("full", tensors, np.array([0, 1])), worker.evaluate("full", tensors)
    assert (first.num_samples, second.num_samples) == (9, 12)
    assert both.loss == pytest.approx((9 * first.loss + 12 * second.loss) / 21)
    assert (both.accuracy, both.num_samples) == (usual.accuracy, usual.num_samples)


def test_a_backend_tests_on_the_samples_of_some_devices():
    place = workplace()
    tensors, backend = start(place).tensors, InProcess()
    backend.equip(place)
    tickets = [backend.submit_evaluation("full", tensors, np.array([0])), backend.submit_evaluation("full", tensors)]
    assert [backend.collect_evaluation(ticket).num_samples for ticket in tickets] == [9, 21]
