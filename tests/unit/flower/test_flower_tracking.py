"""The tracker of a call: peaks beside the ledger's, what is stored, and seconds from operators."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neulite_sim.engine.assembly import assemble
from neulite_sim.flower.tracking import Work, tracked
from neulite_sim.models.names import FULL
from neulite_sim.population.hardware.catalogue import device_class
from neulite_sim.scenario.loading import parse_scenario

BATCH = 16
Batches = Callable[[Tensor, Tensor], Iterable[tuple[Tensor, Tensor]]]


def by_loader(images: Tensor, labels: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    data = torch.utils.data.TensorDataset(images, labels)
    return torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True)


def by_slices(images: Tensor, labels: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    return ((images[i : i + BATCH], labels[i : i + BATCH]) for i in range(0, len(images), BATCH))


def by_number(images: Tensor, labels: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    return ((images[rows], labels[rows]) for rows in torch.randperm(len(images)).split(BATCH))


def scenario(optimizer: str) -> dict:
    adam = {"optimizer": {"kind": "adam"}, "weight_decay": 0.0}
    sgd = {"momentum": 0.9, "weight_decay": 0.0}
    return {
        "name": "tracked",
        "data": {"kind": "digits", "partition": "iid"},
        "model": "cnn",
        "training": {"batch_size": BATCH, **(adam if optimizer == "adam" else sgd)},
        "population": {
            "devices": 4,
            "groups": [{"device": "jetson-nano-4gb", "share": 1}],
            "available_memory": {"kind": "uniform", "low": "100MB", "high": "900MB"},
        },
        "method": "fedavg",
        "stop": {"rounds": 1},
    }


@pytest.mark.parametrize("batches", [by_loader, by_slices, by_number])
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_a_training_of_ones_own_is_charged_what_the_ledger_charges(optimizer: str, batches: Batches) -> None:
    costing = assemble(parse_scenario(scenario(optimizer)))
    predicted = int(costing.ledger.profiles[FULL].memory_bytes(np.array([64]))[0])
    with tracked() as tracer:
        images = torch.tensor(np.random.default_rng(0).random((64, 1, 8, 8)), dtype=torch.float32)
        labels = torch.arange(64) % 10
        model = costing.charged.build_meta().to_empty(device="cpu")
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.01)
        chosen = (
            torch.optim.Adam(model.parameters())
            if optimizer == "adam"
            else torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        )
        for inputs, targets in batches(images, labels):
            chosen.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            chosen.step()
    assert tracer.work().peak_bytes == pytest.approx(predicted, rel=0.03)


def test_samples_that_are_stored_are_not_charged() -> None:
    def peak(stored: int) -> int:
        with tracked() as tracer:
            data, model = torch.ones(stored, 8) * 2, nn.Linear(8, 4)
            model(data[:BATCH]).sum().backward()
        return tracer.work().peak_bytes

    assert peak(100_000) == peak(1_000)


def test_what_is_tracked_computes_the_same_bits() -> None:
    def trained() -> Tensor:
        torch.manual_seed(0)
        model = nn.Linear(8, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(BATCH, 8)).square().mean().backward()
            optimizer.step()
        return model.weight.detach()

    with tracked() as tracer:
        inside = trained()
    assert torch.equal(inside, trained())
    assert tracer.work().is_seen


def test_seconds_are_the_roofline_of_all_operators_in_any_order() -> None:
    device = device_class("jetson-nano-4gb")
    operators = {(0, 10**9, 10**6): 3, (1, 10**8, 10**7): 2}
    work = Work(operators=operators)
    backwards = Work(operators=dict(reversed(operators.items())))
    assert work.seconds_on(device) == backwards.seconds_on(device) > 5 * device.operator_overhead_s
    assert work.flops == 3 * 10**9 + 2 * 10**8
    assert Work().seconds_on(device) == 0.0
