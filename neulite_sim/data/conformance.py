"""The laws of datasets and partitions as assertions, for tests of any of them, in this package or in another.

In a test of yours, with a dataset small enough for it:

    from neulite_sim.data.conformance import check_dataset, check_partition
    check_dataset(COMPONENT.build(COMPONENT.options(root="small"), 0))
    check_partition(PARTITION.build(PARTITION.options()))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neulite_sim.arrays import Integers
from neulite_sim.contracts import array_of, held_to
from neulite_sim.data.contract import AnyDataset, Dataset
from neulite_sim.data.dealt import broken_law
from neulite_sim.data.partition import Deal
from neulite_sim.errors import ScenarioError
from neulite_sim.seeding import stream

ANY_VALUES = 2**22
"""Values that are looked at, evenly spread over the inputs: enough to see NaN, cheap for a large set."""
A_FEW = 4
"""Samples that are looked at as a network reads them."""


@held_to("neulite_sim.data.contract.Dataset")
def check_dataset(dataset: AnyDataset) -> None:
    """Pass where `dataset` keeps the contract of `neulite_sim.data.contract`: `Dataset` of images, or any other.

    Raises:
        AssertionError: the first law that is broken, with what was found.
    """
    assert dataset.name, "name: is empty"
    for part in ("train", "test"):
        if isinstance(dataset, Dataset):
            _check_images(dataset, part)
    spec = dataset.spec
    assert spec.num_classes >= 2, f"num_classes: must be at least 2, is {spec.num_classes}"
    for part in ("train", "test"):
        _check_part(dataset, part)
    kept = _kept(dataset)
    train, test = dataset.train_inputs, dataset.test_inputs
    assert train.shape[1:] == test.shape[1:], (
        f"test_{kept}: {test.shape[1:]} per {kept[:-1]}, train_{kept} {train.shape[1:]}"
    )
    assert train.dtype == test.dtype, f"test_{kept}: are {test.dtype}, train_{kept} {train.dtype}"
    if isinstance(dataset, Dataset):
        _check_normalisation(dataset)
    _check_seen(dataset)
    groups = dataset.groups
    if groups is not None:
        array_of(groups, "groups", "whole numbers")
        assert groups.dtype == np.int64, f"groups: must be int64, are {groups.dtype}"
        count = len(dataset.train_labels)
        assert groups.shape == (count,), f"groups: one per training sample is {(count,)}, found {groups.shape}"


def _kept(dataset: AnyDataset) -> str:
    """Return by which word the fields that hold its inputs are named."""
    return "images" if isinstance(dataset, Dataset) else "inputs"


def _check_images(dataset: Dataset, part: str) -> None:
    images = array_of(getattr(dataset, f"{part}_images"), f"{part}_images", "numbers")
    assert images.ndim == 4, f"{part}_images: must be [N, C, H, W], have shape {images.shape}"
    assert images.size > 0, f"{part}_images: shape {images.shape} holds nothing"
    assert images.dtype in (np.uint8, np.float32), f"{part}_images: must be uint8 or float32, are {images.dtype}"


def _check_part(dataset: AnyDataset, part: str) -> None:
    kept, spec = _kept(dataset), dataset.spec
    inputs = array_of(getattr(dataset, f"{part}_inputs"), f"{part}_{kept}", "numbers")
    labels = array_of(getattr(dataset, f"{part}_labels"), f"{part}_labels", "whole numbers")
    assert inputs.ndim == 1 + len(spec.shape), f"{part}_{kept}: samples of {spec.shape}, found {inputs.shape}"
    assert inputs.size > 0, f"{part}_{kept}: shape {inputs.shape} holds nothing"
    is_right = labels.dtype.kind in "iu" if spec.predicts_tokens else labels.dtype == np.int64
    assert is_right, f"{part}_labels: must be int64, are {labels.dtype}"
    assert labels.shape == (len(inputs), *spec.target_shape), f"{part}_labels: {labels.shape} for {len(inputs)} {kept}"
    _check_range(f"{part}_labels", labels, spec.num_classes)
    step = max(1, inputs.size // ANY_VALUES)
    assert np.isfinite(inputs[::step]).all(), f"{part}_{kept}: hold values that are not finite"
    if spec.vocabulary is not None:
        assert np.issubdtype(inputs.dtype, np.integer), f"{part}_{kept}: must be ids of tokens, are {inputs.dtype}"
        _check_range(f"{part}_{kept}", inputs, spec.vocabulary)


def _check_range(name: str, numbers: NDArray[Any], count: int) -> None:
    low, high = int(numbers.min()), int(numbers.max())
    assert low >= 0, f"{name}: must be 0 to {count - 1}, the smallest is {low}"
    assert high < count, f"{name}: must be 0 to {count - 1}, the largest is {high}"


def _check_seen(dataset: AnyDataset) -> None:
    """Check what networks are given."""
    spec, inputs = dataset.spec, torch.from_numpy(dataset.train_inputs[:A_FEW])
    if dataset.augments:
        inputs = dataset.augmented(inputs, torch.Generator().manual_seed(0))
    seen = dataset.seen(inputs)
    wanted = (len(inputs), *spec.shape)
    assert tuple(seen.shape) == wanted, f"seen: must be {wanted} of {len(inputs)} samples, is {tuple(seen.shape)}"
    assert seen.dtype == getattr(torch, spec.dtype), f"seen: must be {spec.dtype}, is {seen.dtype}"


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


@held_to("neulite_sim.data.partition.Deal")
def check_partition(deal: Deal, *, num_devices: int = 12, num_samples: int = 600, num_classes: int = 5) -> None:
    """Pass where `deal` keeps the contract of `neulite_sim.data.partition.Deal`.

    It deals samples of random labels twice: without natural owners, and with twice as many owners as devices. One of
    the two it may refuse with a `ScenarioError`.

    Raises:
        AssertionError: the first law that is broken, with what was found.
    """
    rng = stream(0, "conformance")
    labels = rng.integers(0, num_classes, num_samples).astype(np.int64)
    groups = rng.permutation(num_samples).astype(np.int64) % (2 * num_devices)
    refusals = []
    for owners in ({}, {"groups": groups}):
        try:
            _check_deal(deal, labels, num_devices, owners)
        except ScenarioError as refused:
            refusals.append(str(refused))
    assert len(refusals) < 2, f"deal: refuses {num_samples} samples for {num_devices} devices: {refusals[0]}"


def _check_deal(deal: Deal, labels: Integers, num_devices: int, owners: Mapping[str, Integers]) -> None:
    given = labels.copy()
    dealt = [deal(given, num_devices, stream(0, "conformance", seed), **owners) for seed in (1, 2, 1)]
    assert np.array_equal(given, labels), "deal: changed the labels that it was given"
    for each in dealt:
        broken = broken_law(each, len(labels), num_devices)
        assert not broken, broken
    first, _, again = dealt
    same = np.array_equal(first.samples, again.samples) and np.array_equal(first.offsets, again.offsets)
    assert same, "deal: equal generators dealt otherwise; `rng` must be the only randomness"
