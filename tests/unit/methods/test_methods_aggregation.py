"""Weighted means of updates."""

import pytest
import torch

from neulite_sim.methods.aggregation import merged, weighted_mean
from neulite_sim.methods.contract import Update


def update(device, samples, **tensors):
    return Update(device=device, submodel="full", num_samples=samples, tensors=tensors, loss=0.0)


def test_equation_one_weighs_by_samples():
    updates = [update(0, 100, w=torch.tensor([1.0])), update(1, 300, w=torch.tensor([2.0]))]
    assert weighted_mean(updates, "samples")["w"].item() == pytest.approx(1.75)
    assert weighted_mean(updates, "uniform")["w"].item() == pytest.approx(1.5)


def test_a_tensor_that_only_some_carry_is_the_mean_over_those():
    updates = [update(0, 1, w=torch.tensor([1.0]), v=torch.tensor([4.0])), update(1, 3, w=torch.tensor([5.0]))]
    mean = weighted_mean(updates, "samples")
    assert mean["w"].item() == pytest.approx(4.0)
    assert mean["v"].item() == pytest.approx(4.0)


def test_sums_are_taken_in_double_precision():
    updates = [update(i, 1, w=torch.tensor([1e8 if i == 0 else 1.0])) for i in range(101)]
    assert weighted_mean(updates, "uniform")["w"].item() == pytest.approx((1e8 + 100) / 101, rel=1e-7)
    assert weighted_mean(updates, "uniform")["w"].dtype == torch.float32


def test_no_updates_change_nothing():
    assert weighted_mean([], "samples") == {}
    assert merged({"w": torch.zeros(1)}, {}).keys() == {"w"}


def test_updates_are_read_one_at_a_time():
    alive = []

    def stream():
        for i in range(3):
            alive.append(i)
            yield update(i, 1, w=torch.ones(2) * i)

    assert torch.equal(weighted_mean(stream(), "uniform")["w"], torch.ones(2))
    assert alive == [0, 1, 2]
