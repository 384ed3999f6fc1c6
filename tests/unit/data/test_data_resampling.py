"""Area resampling against hand-worked images and PyTorch's own for whole factors."""

import numpy as np
import pytest
import torch

from neulite_sim.data import resampling
from neulite_sim.data.resampling import area_weights, resample


@pytest.fixture
def images(numpy_rng):
    return numpy_rng.integers(0, 256, (5, 3, 12, 12)).astype(np.float32)


@pytest.fixture
def numpy_rng():
    from neulite_sim.seeding import stream

    return stream(0, "test-resampling")


def test_three_pixels_become_two_with_exact_overlaps():
    np.testing.assert_allclose(area_weights(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]])


def test_two_pixels_become_three_with_exact_overlaps():
    np.testing.assert_allclose(area_weights(2, 3), [[1, 0], [0.5, 0.5], [0, 1]])


def test_shrinking_to_half_averages_squares_of_four():
    image = np.array([[1, 3, 5, 5], [5, 7, 5, 5], [0, 0, 8, 0], [0, 0, 0, 0]], np.float32)
    np.testing.assert_allclose(resample(image[None, None], 2)[0, 0], [[4, 5], [0, 2]])


def test_enlarging_by_a_whole_factor_repeats_pixels(images):
    np.testing.assert_array_equal(resample(images, 36), images.repeat(3, axis=2).repeat(3, axis=3))


@pytest.mark.parametrize("size", [3, 4, 6, 24])
def test_whole_factors_agree_with_pytorch(images, size):
    expected = torch.nn.functional.interpolate(torch.from_numpy(images), size=(size, size), mode="area")
    np.testing.assert_allclose(resample(images, size), expected.numpy(), rtol=1e-6)


@pytest.mark.parametrize("size", [5, 7, 8, 17, 28])
def test_every_image_keeps_its_mean_and_its_range(images, size):
    resized = resample(images, size)
    assert resized.shape == (5, 3, size, size)
    np.testing.assert_allclose(resized.mean((2, 3)), images.mean((2, 3)), rtol=1e-5)
    assert resized.min() >= images.min()
    assert resized.max() <= images.max()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_dtype_is_kept(images, dtype):
    assert resample(images.astype(dtype), 5).dtype == dtype


def test_uint8_is_rounded_and_not_cut_off():
    image = np.array([[254, 255], [255, 255]], np.uint8)
    assert resample(image[None, None], 1).item() == 255


def test_images_of_the_right_size_are_returned_as_they_are(images):
    assert resample(images, 12) is images


def test_images_that_are_not_square_are_stretched():
    image = np.array([[1, 2, 3, 4]], np.float32)[None, None]
    np.testing.assert_allclose(resample(image, 2)[0, 0], [[1.5, 3.5], [1.5, 3.5]])


def test_chunks_do_not_change_the_result(images, monkeypatch):
    whole = resample(images, 7)
    monkeypatch.setattr(resampling, "_CHUNK_VALUES", 1)
    np.testing.assert_array_equal(resample(images, 7), whole)
