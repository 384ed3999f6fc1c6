"""What the datasets read by torchvision have in common: where the files lie, whether they are whole, how to fetch them.

torchvision compares every CIFAR file with its published MD5 sum before it opens it (the files are pickles). Of the
unpacked MNIST family no sums are published; their files are plain arrays with a header that must fit.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from neulite_sim.bounds import PathText
from neulite_sim.data.contract import Dataset, ImageDatasetOptions
from neulite_sim.data.preparation import prepared, require_samples
from neulite_sim.errors import DataNotFoundError
from neulite_sim.outside import user_path
from neulite_sim.scenario.inputs import input_folder
from neulite_sim.torchvision_compat import torchvision_module

ALLOWED = (RuntimeError, ValueError, AssertionError, OSError, EOFError)
"""What torchvision raises for files that are missing, cut off or of another format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A dataset of torchvision: its class there, its folder below the root, and what belongs into the folder."""

    kind: str
    name: str
    folder: str
    contents: str
    size: str
    files: tuple[str, ...]
    """Names of all files in the folder."""
    num_train: int
    num_test: int
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def advice(self) -> str:
        """What to do where the files are not there."""
        return (
            f"data.root must be the folder that holds {self.folder} ({self.contents}); data.download: true fetches it "
            f"({self.size})"
        )


class TorchvisionOptions(ImageDatasetOptions):
    """Options that every dataset of torchvision has."""

    root: Annotated[PathText, input_folder()] = "data"
    """Folder that holds the dataset's own folder; beside the scenario's file or in the current folder."""
    download: bool = False
    """Fetch the files into `root` where they are not there yet."""


def load(source: Source, options: TorchvisionOptions, seed: int) -> Dataset:
    """Return the dataset as uint8 images; `seed` acts only on subsets.

    Raises:
        DataNotFoundError: the files are missing or damaged, or could not be downloaded.
        ScenarioError: more samples are asked for than there are.
    """
    datasets = torchvision_module("datasets")
    root = user_path(options.root).absolute()
    if options.download and _damage(source, datasets, root):
        _download(source, datasets, root)
    try:
        train, test = (getattr(datasets, source.name)(root, train=part) for part in (True, False))
    except ALLOWED as failure:
        wrong = _damage(source, datasets, root) or f"{root / source.folder} cannot be read: {failure}"
        raise DataNotFoundError(f"{source.kind}: {wrong}", hint=source.advice) from None
    (train_images, train_labels), (test_images, test_labels) = (_checked(source, root, part) for part in (train, test))
    if train_images.shape[1:] != test_images.shape[1:]:
        shapes = " and ".join("x".join(map(str, images.shape[1:])) for images in (train_images, test_images))
        raise _damaged(source, root, f"its training and test images differ in size: {shapes}")
    native = Dataset(
        name=source.kind,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        num_classes=source.num_classes,
        mean=source.mean,
        std=source.std,
        pixel_scale=255.0,
    )
    return prepared(native, options, seed)


def survey(source: Source, options: TorchvisionOptions) -> tuple[str, ...]:
    """Return that the files will be downloaded where they are not there; none of them is read.

    Raises:
        DataNotFoundError: files are missing, and are not to be downloaded.
        ScenarioError: more samples are asked for than there are.
    """
    require_samples(source.kind, options, train=source.num_train, test=source.num_test)
    folder = user_path(options.root).absolute() / source.folder
    missing = [f"{name} (missing)" for name in source.files if not (folder / name).exists()]
    if not missing:
        return ()
    if options.download:
        return (f"{source.kind} is not in {folder} and will be downloaded ({source.size})",)
    wrong = f"{folder} is incomplete or damaged: {', '.join(missing)}"
    wrong = wrong if folder.is_dir() else f"there is no folder {folder}"
    raise DataNotFoundError(f"{source.kind}: {wrong}", hint=source.advice)


def _checked(source: Source, root: Path, part: Any) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images and labels of one part; of the MNIST family nothing but their header was compared so far."""
    images, labels = _channels_first(part), np.asarray(part.targets, np.int64)
    if not len(images) or len(labels) != len(images):
        raise _damaged(source, root, f"it holds {len(images)} images and {len(labels)} labels in one part")
    wrong = np.flatnonzero((labels < 0) | (labels >= source.num_classes))
    if len(wrong):
        what = f"label {labels[wrong[0]]} of image {wrong[0]}; labels are 0 to {source.num_classes - 1}"
        raise _damaged(source, root, f"it holds {what}")
    return images, labels


def _damaged(source: Source, root: Path, why: str) -> DataNotFoundError:
    return DataNotFoundError(f"{source.kind}: {root / source.folder} is damaged: {why}", hint=source.advice)


def _channels_first(part: Any) -> NDArray[np.uint8]:
    images = np.asarray(part.data)
    if images.ndim == 3:
        return np.ascontiguousarray(images[:, None])
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _expected(source: Source, datasets: ModuleType) -> list[tuple[str, str | None]]:
    """Return the names of the files that belong into the folder, with their sums where some are published."""
    loader = getattr(datasets, source.name)
    if hasattr(loader, "train_list"):
        return [*loader.train_list, *loader.test_list, (loader.meta["filename"], loader.meta["md5"])]
    return [(name.removesuffix(".gz"), None) for name, _ in loader.resources]


def _damage(source: Source, datasets: ModuleType, root: Path) -> str:
    """Return what is wrong with the files below `root`, in words; an empty string where nothing is."""
    folder = root / source.folder
    if not folder.is_dir():
        return f"there is no folder {folder}"
    wrong = [f"{name} ({'wrong checksum' if (folder / name).exists() else 'missing'})"
             for name, checksum in _expected(source, datasets)
             if not datasets.utils.check_integrity(folder / name, checksum)]  # fmt: skip
    return f"{folder} is incomplete or damaged: {', '.join(wrong)}" if wrong else ""


def _download(source: Source, datasets: ModuleType, root: Path) -> None:
    """Fetch into a folder beside the target and move whole files, so that a broken download leaves nothing behind."""
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    loader = getattr(datasets, source.name)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{source.kind}-", dir=existing) as scratch:
            with contextlib.redirect_stdout(sys.stderr):
                loader(scratch, download=True)
            (root / source.folder).mkdir(parents=True, exist_ok=True)
            for name, _ in _expected(source, datasets):
                os.replace(Path(scratch) / source.folder / name, root / source.folder / name)
    except (OSError, RuntimeError) as failure:
        address = loader.url if hasattr(loader, "url") else loader.mirrors[0]
        raise DataNotFoundError(
            f"{source.kind}: could not be downloaded from {address} to {root}: {failure}",
            hint=f"check the connection and that {root} can be written, or copy the files there yourself: "
            f"{source.advice.split(';')[0]}",
        ) from failure
