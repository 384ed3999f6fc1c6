"""Handwritten digits: 1797 real images of 8x8 pixels that come with scikit-learn, so that nothing is downloaded.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998
(its test part); every pixel counts the ink in a 4x4 patch, 0 to 16.
"""

from __future__ import annotations

import numpy as np

from neulite_sim.data.contract import Dataset, ImageDatasetOptions
from neulite_sim.data.preparation import prepared
from neulite_sim.registry import Component

MEAN, STD = 0.3052, 0.3762
"""Over all pixels of the training part, in units of full ink. Area resampling keeps the mean."""

TEST_SHARE = 0.2
SPLIT_SEED = 1797
"""The split is part of the dataset: the same 1437 + 360 images in every run, whatever its seed."""


def build(options: ImageDatasetOptions, seed: int) -> Dataset:
    """Return 1437 training and 360 test images, float32 in 0 to 16, the classes spread alike over both parts.

    `seed` acts only on subsets.

    Raises:
        ScenarioError: more samples are asked for than there are.
    """
    # Takes a second to import, and checking a scenario does not need it.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    images = pixels.reshape(-1, 1, 8, 8).astype(np.float32)
    numbers = np.arange(len(labels))
    train, test = train_test_split(numbers, test_size=TEST_SHARE, stratify=labels, random_state=SPLIT_SEED)
    train, test = np.sort(train), np.sort(test)
    native = Dataset(
        name="digits",
        train_images=images[train],
        train_labels=labels[train].astype(np.int64),
        test_images=images[test],
        test_labels=labels[test].astype(np.int64),
        num_classes=10,
        mean=(MEAN,),
        std=(STD,),
        pixel_scale=16.0,
    )
    return prepared(native, options, seed)


COMPONENT = Component(
    kind="digits",
    summary="1797 real handwritten digits of 8x8 pixels in 10 classes, embedded in scikit-learn",
    source="Alpaydin and Kaynak, UCI Machine Learning Repository, 1998, https://doi.org/10.24432/C50P49",
    options=ImageDatasetOptions,
    build=build,
)
