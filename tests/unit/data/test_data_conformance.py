"""`check_dataset` passes for what keeps the contract and names the law that is broken."""

from dataclasses import replace

import numpy as np
import pytest

from neulite_sim.data import digits, synthetic
from neulite_sim.data.conformance import check_dataset


@pytest.fixture(scope="module")
def good():
    return digits.build(digits.COMPONENT.options(train_samples=50, test_samples=20), 0)


@pytest.mark.parametrize("module", [digits, synthetic], ids=["digits", "synthetic"])
def test_built_in_datasets_without_files_pass(module):
    check_dataset(module.COMPONENT.build(module.COMPONENT.options(), 0))


BROKEN = {
    "name: is empty": {"name": ""},
    "num_classes: must be at least 2, is 1": {"num_classes": 1},
    "train_images: must be .N, C, H, W., have shape .50, 8, 8.": {"train_images": np.zeros((50, 8, 8), np.float32)},
    "test_images: shape .0, 1, 8, 8. holds nothing": {"test_images": np.zeros((0, 1, 8, 8), np.float32)},
    "train_images: must be uint8 or float32, are float64": {"train_images": np.zeros((50, 1, 8, 8))},
    "train_labels: must be int64, are int32": {"train_labels": np.zeros(50, np.int32)},
    "test_labels: .3,. for 20 images": {"test_labels": np.zeros(3, np.int64)},
    "train_labels: must be 0 to 9, the smallest is -1": {"train_labels": np.full(50, -1)},
    "test_labels: must be 0 to 9, the largest is 10": {"test_labels": np.full(20, 10)},
    "train_images: hold values that are not finite": {"train_images": np.full((50, 1, 8, 8), np.nan, np.float32)},
    "test_images: .1, 4, 4. per image, train_images .1, 8, 8.": {"test_images": np.ones((20, 1, 4, 4), np.float32)},
    "test_images: are uint8, train_images float32": {"test_images": np.ones((20, 1, 8, 8), np.uint8)},
    "mean: 3 values for 1 channels": {"mean": (0.0, 0.0, 0.0)},
    "mean: must be finite": {"mean": (float("nan"),)},
    "std: must be positive": {"std": (0.0,)},
    "pixel_scale: must be positive, is 0": {"pixel_scale": 0.0},
    "mean: .4.9,. lies outside the pixels, which reach 1 in units of pixel_scale 16": {"mean": (4.9,)},
    "groups: must be int64, are int32": {"groups": np.zeros(50, np.int32)},
    "groups: one per training sample is .50,., found .49,.": {"groups": np.zeros(49, np.int64)},
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_law_is_named_with_what_was_found(good, message):
    check_dataset(good)
    with pytest.raises(AssertionError, match=message):
        check_dataset(replace(good, **BROKEN[message]))
