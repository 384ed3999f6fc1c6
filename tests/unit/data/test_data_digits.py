"""`digits`: the real images, the fixed split, the stated statistics."""

import re

import numpy as np
import pytest

from neulite_sim.data import digits as home
from neulite_sim.data.digits import COMPONENT, build
from neulite_sim.errors import ScenarioError
from neulite_sim.registry import component


def digits(seed=0, **options):
    return build(COMPONENT.options(**options), seed)


def nearest_mean_accuracy(dataset):
    means = np.stack([dataset.train_images[dataset.train_labels == k].mean(0) for k in range(dataset.num_classes)])
    distances = ((dataset.test_images[:, None].astype(float) - means) ** 2).sum((2, 3, 4))
    return (distances.argmin(1) == dataset.test_labels).mean()


def test_it_is_registered_under_its_name():
    assert component("data", "digits") is COMPONENT


def test_it_holds_1797_images_of_8x8_split_into_1437_and_360():
    dataset = digits()
    assert dataset.train_images.shape == (1437, 1, 8, 8)
    assert dataset.test_images.shape == (360, 1, 8, 8)
    assert dataset.input_shape == (1, 8, 8)
    assert dataset.train_images.dtype == np.float32
    assert dataset.train_labels.dtype == np.int64
    assert (dataset.train_images.min(), dataset.train_images.max()) == (0, 16)


def test_classes_are_spread_alike_over_both_parts():
    dataset = digits()
    train, test = np.bincount(dataset.train_labels), np.bincount(dataset.test_labels)
    np.testing.assert_allclose(test, 0.2 * (train + test), atol=1)


def test_the_split_is_the_same_for_every_seed():
    np.testing.assert_array_equal(digits(seed=1).test_images, digits(seed=2).test_images)


def test_training_and_test_part_together_are_the_dataset():
    from sklearn.datasets import load_digits

    dataset = digits()
    both = np.concatenate([dataset.train_images, dataset.test_images]).reshape(-1, 64)
    whole = load_digits(return_X_y=True)[0]
    np.testing.assert_array_equal(both[np.lexsort(both.T)], whole[np.lexsort(whole.T)])


def test_the_stated_statistics_are_those_of_the_training_part():
    dataset = digits()
    scaled = dataset.train_images.astype(np.float64) / dataset.pixel_scale
    assert dataset.mean == (pytest.approx(scaled.mean(), abs=5e-5),)
    assert dataset.std == (pytest.approx(scaled.std(), abs=5e-5),)


def test_labels_belong_to_their_images():
    assert nearest_mean_accuracy(digits()) > 0.85


def test_images_are_resampled_to_the_size_asked_for():
    dataset = digits(image_size=16, train_samples=20, test_samples=5)
    assert dataset.train_images.shape == (20, 1, 16, 16)
    assert dataset.test_images.shape == (5, 1, 16, 16)


def test_more_samples_than_there_are_is_refused_with_both_numbers():
    with pytest.raises(ScenarioError) as refused:
        digits(train_samples=1438, test_samples=361)
    assert [problem.key for problem in refused.value.problems] == ["data.train_samples", "data.test_samples"]
    assert re.search(r"1438 is more than the 1437 training samples of digits; use at most 1437", str(refused.value))
    assert re.search(r"361 is more than the 360 test samples of digits; use at most 360", str(refused.value))


def test_the_split_is_that_of_scikit_learn():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    parts = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=1797)
    train, test = map(np.sort, parts)
    dataset = digits()
    np.testing.assert_array_equal(dataset.train_images.reshape(-1, 64), pixels[train].astype(np.float32))
    np.testing.assert_array_equal(dataset.test_images.reshape(-1, 64), pixels[test].astype(np.float32))
    np.testing.assert_array_equal(dataset.train_labels, labels[train])
    np.testing.assert_array_equal(dataset.test_labels, labels[test])


def test_a_table_that_lies_elsewhere_or_is_another_is_asked_of_scikit_learn(monkeypatch):
    plain = digits()
    monkeypatch.setattr(home, "TABLE_SHA256", "")
    monkeypatch.setattr(home, "_table", home._table.__wrapped__)
    found = digits()
    np.testing.assert_array_equal(found.train_images, plain.train_images)
    np.testing.assert_array_equal(found.test_labels, plain.test_labels)
    assert (found.train_labels.dtype, found.train_images.dtype) == (plain.train_labels.dtype, plain.train_images.dtype)


def test_what_one_does_to_its_images_nobody_else_sees():
    first = digits()
    plain = first.train_images.copy(), first.train_labels.copy()
    first.train_images[:] = -1
    first.train_labels[:] = 0
    second = digits()
    np.testing.assert_array_equal(second.train_images, plain[0])
    np.testing.assert_array_equal(second.train_labels, plain[1])
