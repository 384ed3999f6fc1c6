"""What holds for every partition, batch and resampling, whatever the numbers."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from neulite_sim.data.batches import batch_slices, largest_batch, num_batches
from neulite_sim.data.partition import DIRICHLET, IID, SHARDS
from neulite_sim.data.resampling import area_weights, resample
from neulite_sim.seeding import stream

labels_of_any_kind = arrays(np.int64, st.integers(0, 200), elements=st.integers(0, 12))
seeds = st.integers(0, 2**32)


def deal(chosen, labels, num_devices, seed, **options):
    return chosen.build(chosen.options(**options))(labels, num_devices, stream(seed, "law"))


def assert_nothing_lost_or_doubled(dealt, labels, num_devices):
    assert dealt.num_devices == num_devices
    assert (dealt.offsets[0], dealt.offsets[-1]) == (0, len(labels))
    assert (dealt.sizes >= 0).all()
    np.testing.assert_array_equal(np.sort(dealt.samples), np.arange(len(labels)))
    for device in range(num_devices):
        assert (np.diff(dealt.of(device)) > 0).all()


@given(labels_of_any_kind, st.integers(1, 60), seeds)
def test_iid_never_loses_or_doubles_a_sample_and_sizes_are_even(labels, num_devices, seed):
    dealt = deal(IID, labels, num_devices, seed)
    assert_nothing_lost_or_doubled(dealt, labels, num_devices)
    assert dealt.sizes.max() - dealt.sizes.min() <= 1


@given(labels_of_any_kind, st.integers(1, 60), seeds, st.floats(1e-4, 1e4))
def test_dirichlet_never_loses_or_doubles_a_sample(labels, num_devices, seed, alpha):
    assert_nothing_lost_or_doubled(deal(DIRICHLET, labels, num_devices, seed, alpha=alpha), labels, num_devices)


@given(labels_of_any_kind, st.integers(1, 60), seeds, st.integers(1, 8))
def test_shards_never_lose_or_double_a_sample_and_limit_the_classes(labels, num_devices, seed, shards):
    dealt = deal(SHARDS, labels, num_devices, seed, shards_per_device=shards)
    assert_nothing_lost_or_doubled(dealt, labels, num_devices)
    longest = -(-len(labels) // (num_devices * shards))
    assert dealt.sizes.max() <= shards * longest


@given(st.integers(0, 500), st.integers(1, 64), seeds)
def test_an_epoch_sees_every_sample_once(num_samples, batch_size, seed):
    batches = batch_slices(num_samples, batch_size, stream(seed, "law"))
    assert sorted(position for batch in batches for position in batch.tolist()) == list(range(num_samples))
    assert len(batches) == num_batches(num_samples, batch_size)
    assert max(map(len, batches), default=0) == largest_batch(num_samples, batch_size) <= batch_size + 1


@given(st.integers(2, 500), st.integers(2, 64), seeds)
def test_no_batch_has_one_sample_unless_there_is_only_one(num_samples, batch_size, seed):
    assert min(len(batch) for batch in batch_slices(num_samples, batch_size, stream(seed, "law"))) >= 2


@given(st.integers(1, 40), st.integers(1, 40))
def test_area_weights_share_every_pixel_out_completely(size_in, size_out):
    weights = area_weights(size_in, size_out)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights.sum(axis=0), size_out / size_in)
    assert (weights >= 0).all()


@settings(max_examples=40)
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 3), st.just(1), st.integers(1, 9), st.integers(1, 9))), st.integers(1, 20)
)
def test_resampled_images_stay_within_their_range(images, size):
    resized = resample(images, size)
    assert resized.dtype == np.uint8
    assert resized.min() >= images.min()
    assert resized.max() <= images.max()
