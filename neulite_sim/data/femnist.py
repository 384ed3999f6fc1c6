"""FEMNIST: handwritten digits and letters of 28x28 pixels in 62 classes, each with its writer, from LEAF's JSON files.

S. Caldas et al., "LEAF: A Benchmark for Federated Settings", 2018, https://arxiv.org/abs/1812.01097. LEAF's
`preprocess.sh` writes `train/*.json` and `test/*.json`, each an object with `users`, `num_samples` and `user_data`,
in which every user has `x` (rows of 784 values, 0 ink to 1 paper) and `y` (0 to 61: digits, capitals, small letters).
Which writers and images there are depends on how it was called, so mean and deviation are measured, not published.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neulite_sim.bounds import PathText
from neulite_sim.data.contract import Dataset, ImageDatasetOptions
from neulite_sim.data.image_files import channel_statistics
from neulite_sim.data.preparation import prepared
from neulite_sim.errors import DataNotFoundError
from neulite_sim.registry import Component

NUM_CLASSES = 62
SIDE = 28
ADVICE = (
    "data.root must hold train and test with the JSON files that LEAF writes (data/femnist/data of "
    "https://github.com/TalwalkarLab/leaf after ./preprocess.sh -s niid --sf 1.0 -k 0 -t sample)"
)
Pixels = NDArray[np.uint8]
Numbers = NDArray[np.int64]


class FemnistOptions(ImageDatasetOptions):
    """Options of `femnist`."""

    root: PathText = "data/femnist"
    """Folder that holds `train` and `test` with LEAF's JSON files; relative to where the run is started."""


def build(options: FemnistOptions, seed: int) -> Dataset:
    """Return FEMNIST as uint8 images of one channel, `groups` being the writers; `seed` acts only on subsets.

    Writers are numbered in the order of their names; partition `natural` makes each one a device.

    Raises:
        DataNotFoundError: a folder or file is missing or not of LEAF's format.
        ScenarioError: more samples are asked for than there are.
    """
    root = Path(options.root).expanduser().absolute()
    train_images, train_labels, writers = _part(root / "train")
    test_images, test_labels, _ = _part(root / "test")
    mean, std = channel_statistics(train_images)
    native = Dataset(
        name="femnist",
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        num_classes=NUM_CLASSES,
        mean=mean,
        std=std,
        pixel_scale=255.0,
        groups=writers,
    )
    return prepared(native, options, seed)


def _part(folder: Path) -> tuple[Pixels, Numbers, Numbers]:
    """Return images, labels and writers of one part, by name of the writer."""
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not files:
        lack = f"{folder} has no .json file" if folder.is_dir() else f"there is no folder {folder}"
        raise DataNotFoundError(f"femnist: {lack}; {ADVICE}")
    by_writer: dict[str, list[tuple[Pixels, Numbers]]] = {}
    for file in files:
        for writer, images, labels in _users(file):
            by_writer.setdefault(writer, []).append((images, labels))
    ordered = [piece for writer in sorted(by_writer) for piece in by_writer[writer]]
    if not ordered:
        raise DataNotFoundError(f"femnist: the files in {folder} hold no image; {ADVICE}")
    counts = [sum(len(labels) for _, labels in by_writer[writer]) for writer in sorted(by_writer)]
    images = np.concatenate([images for images, _ in ordered])
    labels = np.concatenate([labels for _, labels in ordered])
    return images, labels, np.repeat(np.arange(len(counts)), counts)


def _users(file: Path) -> list[tuple[str, Pixels, Numbers]]:
    """Return the users of one file that have images."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        by_name = content["user_data"]
        data = {user: by_name[user] for user in content["users"]}
        return [(user, *_samples(file, user, data[user])) for user in data if len(data[user]["y"])]
    except (ValueError, KeyError, TypeError) as failure:
        reason = f"no {failure}" if isinstance(failure, KeyError) else str(failure)
        raise DataNotFoundError(f"femnist: {file} is not a file of LEAF's format: {reason}; {ADVICE}") from failure


def _samples(file: Path, user: str, data: Any) -> tuple[Pixels, Numbers]:
    values, labels = np.asarray(data["x"], np.float64), np.asarray(data["y"], np.int64)
    if values.shape != (len(labels), SIDE * SIDE):
        shape = "x".join(map(str, values.shape))
        raise DataNotFoundError(
            f"femnist: {file} has pixels of shape {shape} for the {len(labels)} labels of writer {user}; "
            f"{len(labels)}x{SIDE * SIDE} is needed, so the file is damaged or not FEMNIST's"
        )
    if labels.min() < 0 or labels.max() >= NUM_CLASSES or values.min() < 0 or values.max() > 1:
        raise DataNotFoundError(
            f"femnist: {file} has labels from {labels.min()} to {labels.max()} and pixels from {values.min():g} to "
            f"{values.max():g} for writer {user}; labels are 0 to {NUM_CLASSES - 1} and pixels 0 to 1, so the file is "
            "damaged or not FEMNIST's"
        )
    # LEAF's values are whole grey levels divided by 255: bytes hold them without loss.
    return np.rint(values * 255).astype(np.uint8).reshape(-1, 1, SIDE, SIDE), labels


COMPONENT = Component(
    kind="femnist",
    summary="FEMNIST: handwritten characters of 28x28 pixels in 62 classes with their writers, from LEAF's JSON files",
    source="Caldas et al. (LEAF), 2018, https://arxiv.org/abs/1812.01097",
    options=FemnistOptions,
    build=build,
)
