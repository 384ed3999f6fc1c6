"""The common options of image datasets: seeded subsets, image size, augmentation."""

import numpy as np
import pytest

from neulite_sim.data.contract import Dataset, ImageDatasetOptions
from neulite_sim.data.preparation import prepared


@pytest.fixture
def native():
    """Every image is filled with its own number, which is also its label."""
    numbers = np.arange(40)
    images = np.broadcast_to(numbers[:, None, None, None], (40, 1, 4, 4)).astype(np.float32)
    return Dataset(
        name="numbers",
        train_images=images[:30],
        train_labels=numbers[:30],
        test_images=images[30:],
        test_labels=numbers[30:],
        num_classes=40,
        mean=(0.0,),
        std=(1.0,),
        groups=numbers[:30] // 10,
    )


def test_without_options_the_arrays_are_not_even_copied(native):
    dataset = prepared(native, ImageDatasetOptions(), seed=0)
    assert np.shares_memory(dataset.train_images, native.train_images)
    np.testing.assert_array_equal(dataset.train_images, native.train_images)
    assert dataset.augmentation == "none"


def test_images_labels_and_groups_of_a_subset_stay_together(native):
    dataset = prepared(native, ImageDatasetOptions(train_samples=7, test_samples=3, image_size=8), seed=0)
    assert dataset.train_images.shape == (7, 1, 8, 8)
    np.testing.assert_array_equal(dataset.train_images[:, 0, 0, 0], dataset.train_labels)
    np.testing.assert_array_equal(dataset.test_images[:, 0, 7, 7], dataset.test_labels)
    np.testing.assert_array_equal(dataset.groups, dataset.train_labels // 10)
    assert len(set(dataset.train_labels.tolist())) == 7


def test_a_subset_depends_on_the_seed_alone(native):
    options = ImageDatasetOptions(train_samples=10, test_samples=5)
    first, again, other = (prepared(native, options, seed) for seed in (1, 1, 2))
    for part in ("train_labels", "test_labels"):
        np.testing.assert_array_equal(getattr(first, part), getattr(again, part))
        assert not np.array_equal(getattr(first, part), getattr(other, part))


def test_a_smaller_subset_lies_within_a_larger_one(native):
    small, large = (prepared(native, ImageDatasetOptions(train_samples=n), 3).train_labels for n in (12, 15))
    assert set(small) < set(large)


def test_augmentation_is_handed_on(native):
    assert prepared(native, ImageDatasetOptions(augmentation="crop-flip"), seed=0).augmentation == "crop-flip"
