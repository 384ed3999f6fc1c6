"""`quantity`: unequal sizes by the stated shares, the same mix of classes."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neulite_sim.data import quantity
from neulite_sim.data.conformance import check_partition
from neulite_sim.errors import ScenarioError
from neulite_sim.seeding import stream


def dealt(labels, num_devices, seed=0, **options):
    deal = quantity.COMPONENT.build(quantity.QuantityOptions(**options))
    return deal(labels, num_devices, stream(seed, "tests"))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.integers(1, 6),
    count=st.integers(10, 300),
    devices=st.integers(1, 9),
    law=st.sampled_from([{"alpha": 0.1}, {"alpha": 10}, {"law": "power", "exponent": 1.5}]),
)
def test_every_sample_is_dealt_once_and_classes_are_mixed_as_they_are(seed, classes, count, devices, law):
    labels = stream(seed, "labels").integers(0, classes, count)
    found = dealt(labels, devices, seed, **law)
    assert np.sort(found.samples).tolist() == list(range(count))
    whole = np.bincount(labels, minlength=classes) / count
    for device in range(devices):
        own = np.bincount(labels[found.of(device)], minlength=classes)
        # A run of an order in which a class has every k-th place holds its share of it, one more or one less.
        assert (np.abs(own - whole * own.sum()) <= classes + 1).all()


def test_power_law_sizes_are_those_of_zipf():
    found = dealt(np.zeros(1100, np.int64), 3, law="power", exponent=1)
    assert np.sort(found.sizes).tolist() == [200, 300, 600]


def test_an_exponent_of_zero_makes_all_equal():
    assert dealt(np.zeros(90, np.int64), 9, law="power", exponent=0).sizes.tolist() == [10] * 9


def test_dirichlet_shares_have_the_variance_of_theory():
    """Each share is Beta(alpha, (N - 1) alpha): mean 1/N, variance (N - 1) / (N^2 (N alpha + 1))."""
    labels = np.zeros(10_000, np.int64)
    shares = np.concatenate([dealt(labels, 5, seed, alpha=2).sizes / 10_000 for seed in range(200)])
    assert shares.mean() == pytest.approx(0.2)
    assert shares.var() == pytest.approx(4 / (25 * 11), rel=0.2)


def test_every_device_has_the_least_that_is_asked_for():
    found = dealt(np.arange(100) % 3, 10, alpha=0.01, min_samples=4)
    assert found.sizes.min() >= 4
    with pytest.raises(
        ScenarioError, match=re.escape("11 for each of 10 devices needs 110 samples, there are 100; use at most 10")
    ):
        dealt(np.arange(100) % 3, 10, min_samples=11)


def test_samples_with_several_targets_are_dealt_too():
    assert dealt(np.zeros((50, 4), np.int64), 5).sizes.sum() == 50


def test_the_power_law_keeps_the_contract():
    check_partition(quantity.COMPONENT.build(quantity.QuantityOptions(law="power", exponent=2)))
