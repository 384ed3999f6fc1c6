"""The laws of the dataset contract as assertions, for tests of any dataset, in this package or in another.

In a test of yours, with a dataset small enough for it:

    from neulite_sim.data.conformance import check_dataset
    check_dataset(COMPONENT.build(COMPONENT.options(root="small"), 0))
"""

from __future__ import annotations

import numpy as np

from neulite_sim.data.contract import Dataset

ANY_VALUES = 2**22
"""Values that are looked at, evenly spread over the images: enough to see NaN, cheap for a large set."""


def check_dataset(dataset: Dataset) -> None:
    """Pass where `dataset` keeps the contract of `neulite_sim.data.contract.Dataset`.

    Raises:
        AssertionError: the first law that is broken, with what was found.
    """
    assert dataset.name, "name: is empty"
    assert dataset.num_classes >= 2, f"num_classes: must be at least 2, is {dataset.num_classes}"
    for part in ("train", "test"):
        _check_part(dataset, part)
    train, test = dataset.train_images, dataset.test_images
    assert train.shape[1:] == test.shape[1:], f"test_images: {test.shape[1:]} per image, train_images {train.shape[1:]}"
    assert train.dtype == test.dtype, f"test_images: are {test.dtype}, train_images {train.dtype}"
    _check_normalisation(dataset)
    groups = dataset.groups
    if groups is not None:
        assert groups.dtype == np.int64, f"groups: must be int64, are {groups.dtype}"
        assert groups.shape == dataset.train_labels.shape, (
            f"groups: one per training sample is {dataset.train_labels.shape}, found {groups.shape}"
        )


def _check_part(dataset: Dataset, part: str) -> None:
    images, labels = getattr(dataset, f"{part}_images"), getattr(dataset, f"{part}_labels")
    assert images.ndim == 4, f"{part}_images: must be [N, C, H, W], have shape {images.shape}"
    assert images.size > 0, f"{part}_images: shape {images.shape} holds nothing"
    assert images.dtype in (np.uint8, np.float32), f"{part}_images: must be uint8 or float32, are {images.dtype}"
    assert labels.dtype == np.int64, f"{part}_labels: must be int64, are {labels.dtype}"
    assert labels.shape == (len(images),), f"{part}_labels: {labels.shape} for {len(images)} images"
    low, high = int(labels.min()), int(labels.max())
    assert low >= 0, f"{part}_labels: must be 0 to {dataset.num_classes - 1}, the smallest is {low}"
    assert high < dataset.num_classes, f"{part}_labels: must be 0 to {dataset.num_classes - 1}, the largest is {high}"
    step = max(1, images.size // ANY_VALUES)
    assert np.isfinite(images[::step]).all(), f"{part}_images: hold values that are not finite"


def _check_normalisation(dataset: Dataset) -> None:
    channels = dataset.train_images.shape[1]
    for name in ("mean", "std"):
        found = getattr(dataset, name)
        assert len(found) == channels, f"{name}: {len(found)} values for {channels} channels"
        assert np.isfinite(found).all(), f"{name}: must be finite, is {found}"
    assert min(dataset.std) > 0, f"std: must be positive, is {dataset.std}"
    assert dataset.pixel_scale > 0, f"pixel_scale: must be positive, is {dataset.pixel_scale}"
    images = dataset.train_images
    largest = 255.0 if images.dtype == np.uint8 else max(abs(float(images.min())), abs(float(images.max())))
    largest /= dataset.pixel_scale
    assert max(map(abs, dataset.mean)) <= largest, (
        f"mean: {dataset.mean} lies outside the pixels, which reach {largest:g} in units of pixel_scale "
        f"{dataset.pixel_scale:g}; mean and std must be given in these units"
    )
