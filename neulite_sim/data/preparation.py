"""What every image dataset does alike with the common options: choose samples, then resample them."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from neulite_sim.data.contract import Dataset, ImageDatasetOptions
from neulite_sim.data.resampling import resample
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.room import require_room
from neulite_sim.seeding import stream


class Subsets(Protocol):
    """Options that may ask for so many samples of each part."""

    @property
    def train_samples(self) -> int | None:
        """Training samples to take; all where it is None."""

    @property
    def test_samples(self) -> int | None:
        """Test samples to take; all where it is None."""


def prepared(native: Dataset, options: ImageDatasetOptions, seed: int) -> Dataset:
    """Return a dataset as the common options ask for it: a seeded subset, image size, augmentation.

    Subsets of one seed are nested: 100 training samples are among the 200 of another run.

    Raises:
        ScenarioError: more samples are asked for than there are; all such problems at once.
    """
    wanted = {"train": options.train_samples, "test": options.test_samples}
    available = {"train": len(native.train_labels), "test": len(native.test_labels)}
    require_samples(native.name, options, **available)
    train = chosen_samples(available["train"], options.train_samples, seed, "train-samples")
    test = chosen_samples(available["test"], options.test_samples, seed, "test-samples")
    size = options.image_size
    if size:
        _require_room(native, size, (wanted["train"] or available["train"]) + (wanted["test"] or available["test"]))
    train_images, test_images = native.train_images[train], native.test_images[test]
    return replace(
        native,
        train_images=resample(train_images, size) if size else train_images,
        train_labels=native.train_labels[train],
        test_images=resample(test_images, size) if size else test_images,
        test_labels=native.test_labels[test],
        augmentation=options.augmentation,
        groups=None if native.groups is None else native.groups[train],
        given=None if native.given is None else native.given.chosen(train),
    )


def require_samples(name: str, options: Subsets, *, train: int, test: int) -> None:
    """Refuse to take more samples than there are.

    Raises:
        ScenarioError: all such problems at once.
    """
    parts = (("train", options.train_samples, train), ("test", options.test_samples, test))
    problems = [
        _too_many(name, part, wanted, available)
        for part, wanted, available in parts
        if wanted is not None and wanted > available
    ]
    if problems:
        raise ScenarioError(problems)


def _require_room(native: Dataset, size: int, images: int) -> None:
    channels = native.input_shape[0]
    require_room(
        images * channels * size**2 * native.train_images.itemsize,
        f"{images} images of {native.name}, {size} x {size} pixels each",
        key="data.image_size",
        advice="lower it, data.train_samples or proxy.image_size",
    )


def _too_many(name: str, part: str, wanted: int, available: int) -> Problem:
    message = f"{wanted} is more than the {available} {part}ing samples of {name}; use at most {available}"
    return Problem(key=f"data.{part}_samples", message=message.replace("testing", "test"))


def chosen_samples(available: int, wanted: int | None, seed: int, purpose: str) -> NDArray[np.int64] | slice:
    """Return the ascending numbers of the chosen samples; a slice (no copy) where all are wanted."""
    if wanted is None or wanted == available:
        return slice(None)
    return np.sort(stream(seed, purpose).permutation(available)[:wanted])
