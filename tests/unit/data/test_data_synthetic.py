"""`synthetic`: shapes, statistics, learnability, repeatability."""

import numpy as np
import pytest
from pydantic import ValidationError

from neulite_sim.data import synthetic
from neulite_sim.data.synthetic import COMPONENT, SyntheticOptions, build
from neulite_sim.registry import component


def test_it_is_registered_under_its_name():
    assert component("data", "synthetic") is COMPONENT


@pytest.mark.parametrize("shape", [(1, 1, 1), (20, 1, 1), (1, 28, 28), (3, 9, 17)])
def test_any_shape_can_be_asked_for(shape):
    dataset = build(SyntheticOptions(shape=shape, classes=3, samples=12, test_samples=6), seed=0)
    assert dataset.train_images.shape == (12, *shape)
    assert dataset.test_images.shape == (6, *shape)
    assert dataset.train_images.dtype == np.uint8
    assert len(dataset.mean) == len(dataset.std) == shape[0]


def test_classes_are_balanced_in_both_parts():
    dataset = build(SyntheticOptions(shape=(1, 4, 4), classes=5, samples=50, test_samples=11), seed=0)
    assert np.bincount(dataset.train_labels).tolist() == [10] * 5
    assert sorted(np.bincount(dataset.test_labels)) == [2, 2, 2, 2, 3]


@pytest.mark.parametrize("noise", [0.0, 1.0, 5.0])
def test_pixels_have_the_stated_mean_and_deviation(noise):
    dataset = build(SyntheticOptions(classes=20, samples=400, noise=noise), seed=0)
    pixels = dataset.train_images / dataset.pixel_scale
    # 20 classes x 3 channels x 16 grid points are about a thousand independent values: a few per cent.
    assert pixels.mean() == pytest.approx(dataset.mean[0], abs=0.005)
    assert pixels.std() == pytest.approx(dataset.std[0], rel=0.05)


def test_a_nearest_mean_classifier_learns_it():
    dataset = build(SyntheticOptions(shape=(1, 8, 8), samples=500, test_samples=200), seed=0)
    means = np.stack([dataset.train_images[dataset.train_labels == k].mean(0) for k in range(10)])
    distances = ((dataset.test_images[:, None] - means) ** 2).sum((2, 3, 4))
    assert (distances.argmin(1) == dataset.test_labels).mean() > 0.95


def test_without_noise_images_of_a_class_are_equal_and_those_of_two_are_not():
    dataset = build(SyntheticOptions(shape=(1, 8, 8), classes=2, samples=10, noise=0), seed=0)
    zeros, ones = (dataset.train_images[dataset.train_labels == k] for k in (0, 1))
    assert (zeros == zeros[0]).all()
    assert (ones == ones[0]).all()
    assert (zeros[0] != ones[0]).any()


def test_prototypes_are_smooth():
    """Neighbouring pixels differ far less than distant ones."""
    image = build(SyntheticOptions(shape=(1, 32, 32), samples=2, noise=0), seed=0).train_images[0, 0].astype(float)
    assert np.abs(np.diff(image)).mean() < 0.25 * np.abs(image[:, 16:] - image[:, :16]).mean()


def test_the_noise_has_mean_zero_and_variance_one_like_a_normal_variable():
    quantiles = synthetic._normal_quantiles()
    assert quantiles.mean() == pytest.approx(0, abs=1e-12)
    assert quantiles.var() == pytest.approx(1)
    assert (np.abs(quantiles) < 1).mean() == pytest.approx(0.6827, abs=0.005)


def test_the_same_seed_repeats_it_and_another_does_not():
    first, again, other = (build(SyntheticOptions(samples=20), seed).train_images for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.9


def test_neither_test_samples_nor_chunks_move_the_training_part(monkeypatch):
    first = build(SyntheticOptions(samples=50, test_samples=10), seed=0).train_images
    monkeypatch.setattr(synthetic, "_CHUNK_VALUES", 7 * 3072)
    second = build(SyntheticOptions(samples=50, test_samples=20), seed=0).train_images
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "wrong", [{"shape": (3, 0, 8)}, {"shape": (3, 8)}, {"classes": 1}, {"noise": -1}, {"samples": 0}]
)
def test_impossible_options_are_refused(wrong):
    with pytest.raises(ValidationError, match=r"greater than|Field required"):
        SyntheticOptions(**wrong)


def test_chunks_of_a_shape_that_is_no_multiple_of_four_values_do_not_move_it(monkeypatch):
    """Bytes come four at a time: a chunk of 25 values would throw three of them away."""
    options = SyntheticOptions(shape=(1, 5, 5), samples=40, test_samples=10)
    whole = build(options, seed=2)
    monkeypatch.setattr(synthetic, "_CHUNK_VALUES", 25)
    assert np.array_equal(build(options, seed=2).train_images, whole.train_images)
