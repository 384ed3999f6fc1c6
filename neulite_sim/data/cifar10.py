"""CIFAR-10: 50000 training and 10000 test images of 3x32x32 pixels in 10 classes, read by torchvision.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. The files are pickles; torchvision
checks the MD5 sum of every one against the published value before it opens it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neulite_sim.data.contract import Dataset, ImageDatasetOptions
from neulite_sim.data.preparation import prepared
from neulite_sim.data.torchvision_compat import torchvision_module
from neulite_sim.errors import DataNotFoundError
from neulite_sim.registry import Component

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
"""Per channel over all pixels of the 50000 training images, each divided by 255."""

FOLDER = "cifar-10-batches-py"
ADVICE = (
    f"data.root must be the folder that holds {FOLDER} (data_batch_1 to data_batch_5, test_batch and batches.meta of "
    "the python version of CIFAR-10); data.download: true fetches it (170 MB)"
)


class Cifar10Options(ImageDatasetOptions):
    """Options of `cifar10`."""

    root: str = "data"
    """Folder that holds `cifar-10-batches-py`; relative to where the run is started."""
    download: bool = False
    """Fetch the files into `root` where they are not there yet (170 MB from cs.toronto.edu)."""


def build(options: Cifar10Options, seed: int) -> Dataset:
    """Return CIFAR-10 as uint8 images; `seed` acts only on subsets.

    Raises:
        DataNotFoundError: the files are missing or damaged, or could not be downloaded.
        ScenarioError: more samples are asked for than there are.
    """
    datasets = torchvision_module("datasets")
    root = Path(options.root).expanduser().absolute()
    damage = _damage(datasets, root) if options.download else ""
    if damage:
        _download(datasets, root)
    try:
        train, test = (datasets.CIFAR10(root, train=part) for part in (True, False))
    except RuntimeError:
        raise DataNotFoundError(f"cifar10: {_damage(datasets, root)}; {ADVICE}") from None
    native = Dataset(
        name="cifar10",
        train_images=_channels_first(train),
        train_labels=np.asarray(train.targets, np.int64),
        test_images=_channels_first(test),
        test_labels=np.asarray(test.targets, np.int64),
        num_classes=10,
        mean=MEAN,
        std=STD,
        pixel_scale=255.0,
    )
    return prepared(native, options, seed)


def _channels_first(part: Any) -> NDArray[np.uint8]:
    return np.ascontiguousarray(part.data.transpose(0, 3, 1, 2))


def _damage(datasets: ModuleType, root: Path) -> str:
    """Return what is wrong with the files below `root`, in words; an empty string where nothing is."""
    folder = root / FOLDER
    if not folder.is_dir():
        return f"there is no folder {folder}"
    cifar = datasets.CIFAR10
    expected = [*cifar.train_list, *cifar.test_list, (cifar.meta["filename"], cifar.meta["md5"])]
    wrong = [f"{name} ({'wrong checksum' if (folder / name).exists() else 'missing'})" for name, checksum in expected
             if not datasets.utils.check_integrity(folder / name, checksum)]  # fmt: skip
    return f"{folder} is incomplete or damaged: {', '.join(wrong)}" if wrong else ""


def _download(datasets: ModuleType, root: Path) -> None:
    """Fetch into a folder beside the target and move whole files, so that a broken download leaves nothing behind."""
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".cifar10-", dir=existing) as scratch:
            with contextlib.redirect_stdout(sys.stderr):
                datasets.CIFAR10(scratch, download=True)
            (root / FOLDER).mkdir(parents=True, exist_ok=True)
            for file in sorted((Path(scratch) / FOLDER).iterdir()):
                os.replace(file, root / FOLDER / file.name)
    except (OSError, RuntimeError) as failure:
        raise DataNotFoundError(
            f"cifar10: could not be downloaded from {datasets.CIFAR10.url} to {root}: {failure}; check the connection "
            f"and that {root} can be written, or copy the files there yourself: {ADVICE.split(';')[0]}"
        ) from failure


COMPONENT = Component(
    kind="cifar10",
    summary="CIFAR-10: 60000 photographs of 3x32x32 pixels in 10 classes, from a local folder",
    source="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009, "
    "https://www.cs.toronto.edu/~kriz/cifar.html",
    options=Cifar10Options,
    build=build,
)
