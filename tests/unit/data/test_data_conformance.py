"""`check_dataset` passes for what keeps the contract and names the law that is broken."""

from dataclasses import replace

import numpy as np
import pytest
from opened_files import opened_below
from test_data_cifar10 import root as cifar10_root
from test_data_femnist import root as femnist_root
from test_data_image_folder import cinic_root, mini_root
from test_data_image_folder import root as image_folder_root
from test_data_torchvision_dataset import cifar_root as cifar100_root
from test_data_torchvision_dataset import fashion_root

from neulite_sim.data import digits
from neulite_sim.data.conformance import check_dataset
from neulite_sim.registry import Choice, component, names
from neulite_sim.scenario.inputs import input_records

# Fixtures of the datasets' own tests: pytest finds them here by these names.
__all__ = [
    "cifar10_root",
    "cifar100_root",
    "cinic_root",
    "fashion_root",
    "femnist_root",
    "image_folder_root",
    "mini_root",
]

FIXTURES = {
    "cifar10": "cifar10_root",
    "cifar100": "cifar100_root",
    "cinic10": "cinic_root",
    "fashion-mnist": "fashion_root",
    "femnist": "femnist_root",
    "image-folder": "image_folder_root",
    "mini-imagenet": "mini_root",
}
"""Fixtures that write small files of the real format; a dataset without one must need no files."""

OWN = ("array", "csv", "huggingface", "shakespeare", "text")
"""Read what the user has: tested in files of their own, whatever form it has."""


@pytest.fixture(scope="module")
def good():
    return digits.build(digits.COMPONENT.options(train_samples=50, test_samples=20), 0)


@pytest.mark.parametrize("kind", [kind for kind in names("data") if kind not in OWN])
def test_every_registered_dataset_keeps_the_contract(kind, request):
    found = component("data", kind)
    written = FIXTURES.get(kind)
    options = {} if written is None else {"root": str(request.getfixturevalue(written)), "image_size": 4}
    check_dataset(found.build(found.options(**options), 0))


@pytest.mark.parametrize("kind", sorted(FIXTURES))
def test_all_that_a_dataset_reads_is_hashed_into_the_provenance(kind, request):
    root = request.getfixturevalue(FIXTURES[kind])
    found = component("data", kind)
    options = found.options(root=str(root), image_size=4)
    with opened_below(root) as opened:
        found.build(options, 0)
    assert opened
    (record,) = input_records(Choice(kind, options)).values()
    assert opened <= set(record["parts"])


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
