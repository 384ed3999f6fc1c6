"""Handwritten digits: 1797 real images of 8x8 pixels that come with scikit-learn, so that nothing is downloaded.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998
(its test part); every pixel counts the ink in a 4x4 patch, 0 to 16.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neulite_sim.data.contract import Dataset, ImageDatasetOptions
from neulite_sim.data.preparation import prepared, require_samples
from neulite_sim.outside import open_unpacked
from neulite_sim.registry import Component

MEAN, STD = 0.3052, 0.3762
"""Over all pixels of the training part, in units of full ink. Area resampling keeps the mean."""

TEST_PART = bytes.fromhex(
    "2090020082201884002221000010d0004000080120080081210004400203092408931002402002088c230c4001140a13205a0240446002"
    "5610115e322420221210091133200100d802040288583200b8104043000014c4000000000e101019400000025008a19409002001820184"
    "002b168ab40822008201622200822835002324240028808c5488000b20080400888a030000400400070130301308208408004c80241220"
    "80c802610100220835b112602019a0400207085d6101c000810a40000201a9810888020002a910a10003110a008442280c01080a800000"
    "1024d48048"
)
"""A bit per image, 1 where it is one of the 360 test images: the same in every run, whatever its seed.

What scikit-learn's `train_test_split` gives with a test size of 0.2, stratified by class, and a random state of 1797.
"""

NUM_TRAIN, NUM_TEST = 1437, 360
TABLE_SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
"""Of scikit-learn's table, unpacked: a line per image, 64 pixels and the class."""

_MOST_BYTES = 10**6


def build(options: ImageDatasetOptions, seed: int) -> Dataset:
    """Return 1437 training and 360 test images, float32 in 0 to 16, the classes spread alike over both parts.

    `seed` acts only on subsets.

    Raises:
        ScenarioError: more samples are asked for than there are.
    """
    pixels, labels = _table()
    images = pixels.reshape(-1, 1, 8, 8).astype(np.float32)
    is_test = np.unpackbits(np.frombuffer(TEST_PART, np.uint8), count=len(labels)).astype(np.bool_)
    train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    native = Dataset(
        name="digits",
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        num_classes=10,
        mean=(MEAN,),
        std=(STD,),
        pixel_scale=16.0,
    )
    return prepared(native, options, seed)


def survey(options: ImageDatasetOptions) -> tuple[str, ...]:
    """Return nothing; raises what `build` raises."""
    require_samples("digits", options, train=NUM_TRAIN, test=NUM_TEST)
    return ()


@functools.cache
def _table() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pixels `[1797, 64]` and the classes; the same arrays for whoever asks, so that nobody may change them.

    The table is read where it lies: to import scikit-learn takes as long as to import PyTorch.
    """
    package = importlib.util.find_spec("sklearn")
    for folder in (package.submodule_search_locations or ()) if package else ():
        try:
            with open_unpacked(Path(folder, "datasets", "data", "digits.csv.gz"), most_bytes=_MOST_BYTES) as file:
                content = file.read()
        except (OSError, EOFError, zlib.error):
            continue
        if hashlib.sha256(content).hexdigest() == TABLE_SHA256:
            table = np.loadtxt(io.BytesIO(content), np.int64, delimiter=",")
            return table[:, :-1], table[:, -1]
    # It lies elsewhere in another version.
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return pixels.astype(np.int64), labels.astype(np.int64)


COMPONENT = Component(
    kind="digits",
    summary="1797 real handwritten digits of 8x8 pixels in 10 classes, embedded in scikit-learn",
    source="Alpaydin and Kaynak, UCI Machine Learning Repository, 1998, https://doi.org/10.24432/C50P49",
    options=ImageDatasetOptions,
    build=build,
    survey=survey,
)
