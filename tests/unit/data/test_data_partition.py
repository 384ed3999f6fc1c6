"""Partitions: hand-worked splits, the shape of each rule, refused options."""

import time

import numpy as np
import pytest
from pydantic import ValidationError

from neulite_sim.data import partition
from neulite_sim.data.partition import DIRICHLET, IID, SHARDS, partition_by_owner
from neulite_sim.errors import ScenarioError
from neulite_sim.registry import component
from neulite_sim.seeding import stream


def deal(chosen, labels, num_devices, seed=0, **options):
    rng = stream(seed, "test-partition")
    return chosen.build(chosen.options(**options))(np.asarray(labels, np.int64), num_devices, rng)


def class_counts(dealt, labels):
    return np.stack([np.bincount(labels[dealt.of(d)], minlength=labels.max() + 1) for d in range(dealt.num_devices)])


LABELS = np.repeat(np.arange(10), 100)


def test_the_three_kinds_are_registered_under_their_names():
    assert [component("partition", kind) for kind in ("iid", "dirichlet", "shards")] == [IID, DIRICHLET, SHARDS]


def test_owners_become_offsets_and_ascending_samples():
    dealt = partition_by_owner(np.array([2, 0, 2, 0, 3]), num_devices=5)
    assert dealt.samples.tolist() == [1, 3, 0, 2, 4]
    assert dealt.offsets.tolist() == [0, 2, 2, 4, 5, 5]
    assert dealt.sizes.tolist() == [2, 0, 2, 1, 0]
    assert dealt.of(2).tolist() == [0, 2]


def test_iid_sizes_differ_by_at_most_one():
    sizes = deal(IID, LABELS, 7).sizes
    assert sorted(sizes) == [142] * 1 + [143] * 6


def test_iid_mixes_classes_as_chance_would():
    counts = class_counts(deal(IID, LABELS, 10), LABELS)
    # Hypergeometric: mean 10, standard deviation 2.85; beyond 5 deviations is not chance.
    assert np.abs(counts - 10).max() < 15


def test_iid_leaves_some_of_too_many_devices_without_data_and_chance_says_which():
    first, other = (deal(IID, LABELS[:20], 50, seed=seed).sizes for seed in (0, 1))
    assert sorted(first) == sorted(other) == [0] * 30 + [1] * 20
    assert first.tolist() != other.tolist()


def test_iid_deals_to_a_million_devices_in_no_time():
    started = time.perf_counter()
    dealt = deal(IID, np.zeros(2_000_000, np.int64), 1_000_000)
    assert (dealt.sizes == 2).all()
    assert time.perf_counter() - started < 5


def test_a_large_alpha_approaches_equal_shares():
    counts = class_counts(deal(DIRICHLET, LABELS, 10, alpha=1e6), LABELS)
    assert np.abs(counts - 10).max() <= 1


def test_a_small_alpha_gives_nearly_every_class_to_one_device():
    counts = class_counts(deal(DIRICHLET, LABELS, 10, alpha=1e-3), LABELS)
    assert (counts.max(axis=0) >= 95).mean() >= 0.9


def test_dirichlet_shares_have_the_mean_and_variance_of_the_distribution():
    """Symmetric Dirichlet over D devices: mean 1/D, variance (1/D)(1 - 1/D) / (D alpha + 1)."""
    labels = np.repeat(np.arange(400), 1000)
    shares = class_counts(deal(DIRICHLET, labels, 4, alpha=0.5), labels) / 1000
    assert shares.mean() == pytest.approx(0.25)
    # 400 independent classes: the estimate's own error is about 4 per cent.
    assert shares.var() == pytest.approx(0.25 * 0.75 / 3, rel=0.12)


def test_counts_are_rounded_by_largest_remainder():
    shares = np.array([0.41, 0.33, 0.26])
    # 10 samples: 4.1, 3.3, 2.6 -> 4, 3, 2 and the one left over to the largest remainder.
    assert partition.largest_remainder(shares, 10).tolist() == [4, 3, 3]
    assert partition.largest_remainder(np.array([0.25] * 4), 2).tolist() == [1, 1, 0, 0]


def test_dirichlet_draws_again_until_every_device_has_enough():
    loose = deal(DIRICHLET, LABELS, 10, alpha=0.2, seed=4)
    strict = deal(DIRICHLET, LABELS, 10, alpha=0.2, seed=4, min_samples=30)
    assert loose.sizes.min() < 30 <= strict.sizes.min()


def test_more_min_samples_than_there_are_is_refused_with_the_numbers():
    with pytest.raises(
        ScenarioError, match="101 for each of 10 devices needs 1010 samples, there are 1000; use at most 100"
    ):
        deal(DIRICHLET, LABELS, 10, min_samples=101)


def test_min_samples_out_of_reach_is_refused_after_so_many_draws():
    with pytest.raises(
        ScenarioError, match=r"90 was not reached in 200 draws of alpha 0.01 over 10 devices \(best: \d+\)"
    ) as refused:
        deal(DIRICHLET, LABELS, 10, alpha=0.01, min_samples=90)
    assert refused.value.problems[0].key == "data.partition.min_samples"


def test_shards_give_each_device_few_classes_and_equal_sizes():
    dealt = deal(SHARDS, LABELS, 50, shards_per_device=2)
    assert (dealt.sizes == 20).all()
    assert (class_counts(dealt, LABELS) > 0).sum(axis=1).max() <= 2


def test_one_shard_for_each_of_ten_devices_is_one_class_each():
    labels = stream(0, "shuffle").permutation(LABELS)
    counts = class_counts(deal(SHARDS, labels, 10, shards_per_device=1), labels)
    assert sorted(counts.argmax(axis=1)) == list(range(10))
    assert (counts.max(axis=1) == 100).all()


@pytest.mark.parametrize("chosen", [IID, DIRICHLET, SHARDS], ids=lambda chosen: chosen.kind)
def test_the_same_stream_deals_alike_and_another_does_not(chosen):
    first, again, other = (deal(chosen, LABELS, 10, seed=seed).samples for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("chosen", "options"),
    [(DIRICHLET, {"alpha": 0}), (DIRICHLET, {"min_samples": -1}), (SHARDS, {"shards_per_device": 0})],
)
def test_impossible_options_are_refused(chosen, options):
    with pytest.raises(ValidationError, match="greater than"):
        chosen.options(**options)
