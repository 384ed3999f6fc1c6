"""FEMNIST: handwritten digits and letters of 28x28 pixels in 62 classes, each with its writer, from LEAF's JSON files.

S. Caldas et al., "LEAF: A Benchmark for Federated Settings", 2018, https://arxiv.org/abs/1812.01097. LEAF's
`preprocess.sh` writes `train/*.json` and `test/*.json`, each an object with `users`, `num_samples` and `user_data`,
in which every user has `x` (rows of 784 values, 0 ink to 1 paper) and `y` (0 to 61: digits, capitals, small letters).
Which writers and images there are depends on how it was called, so mean and deviation are measured, not published.

LEAF's files say what they hold twice (`users` beside the keys of `user_data`, `num_samples` beside the lists), and a
label or pixel is a JSON number. What contradicts itself or is anything else is refused with its file, writer and place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from neulite_sim.bounds import PathText
from neulite_sim.data.contract import Dataset, ImageDatasetOptions
from neulite_sim.data.image_files import Sentences, channel_statistics, entries, is_hidden, listed
from neulite_sim.data.leaf import lists_of, users_of
from neulite_sim.data.preparation import prepared
from neulite_sim.errors import DataNotFoundError
from neulite_sim.outside import TABLE_BYTES, plain_json, printable, read_regular, user_path
from neulite_sim.registry import Component
from neulite_sim.scenario.inputs import input_folder

NUM_CLASSES = 62
SIDE = 28
ADVICE = (
    "data.root must hold train and test with the JSON files that LEAF writes (data/femnist/data of "
    "https://github.com/TalwalkarLab/leaf after ./preprocess.sh -s niid --sf 1.0 -k 0 -t sample)"
)
GREY_LEVELS = 255
_ON_A_LEVEL = 0.05
"""How far from a whole grey level a pixel may lie: files with four decimals are up to 0.013 away."""
Pixels = NDArray[np.uint8]
Numbers = NDArray[np.int64]


class FemnistOptions(ImageDatasetOptions):
    """Options of `femnist`."""

    root: Annotated[PathText, input_folder("train", "test")] = "data/femnist"
    """Folder of `train` and `test` with LEAF's JSON files; beside the scenario's file or in the current folder."""


def build(options: FemnistOptions, seed: int) -> Dataset:
    """Return FEMNIST as uint8 images of one channel, `groups` being the writers; `seed` acts only on subsets.

    Writers are numbered in the order of their names; partition `natural` makes each one a device.

    Raises:
        DataNotFoundError: a folder or file is missing or not of LEAF's format.
        ScenarioError: more samples are asked for than there are.
    """
    root = user_path(options.root).absolute()
    sentences = Sentences("femnist")
    train_images, train_labels, writers = _part(root / "train", sentences)
    test_images, test_labels, _ = _part(root / "test", sentences)
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
        left_out=tuple(sentences.told),
    )
    return prepared(native, options, seed)


def survey(options: FemnistOptions) -> tuple[str, ...]:
    """Return what the names of the files show. Raises what `build` raises of them."""
    sentences = Sentences("femnist")
    for part in ("train", "test"):
        _files(user_path(options.root).absolute() / part, sentences)
    return tuple(sentences.told)


def _files(folder: Path, sentences: Sentences) -> list[Path]:
    """Return the files of one part; what else lies there is told to `sentences`."""
    places = entries("femnist", folder, ADVICE)
    files = [place for place in places if place.suffix == ".json" and not is_hidden(place.name)]
    if not files:
        raise DataNotFoundError(f"femnist: {folder} has no .json file", hint=ADVICE)
    if others := [place.name for place in places if place not in files and not is_hidden(place.name)]:
        sentences.say(f"{folder} holds more than .json files, which is not looked at: {listed(others)}")
    return files


def _part(folder: Path, sentences: Sentences) -> tuple[Pixels, Numbers, Numbers]:
    """Return images, labels and writers of one part, by name of the writer."""
    files = _files(folder, sentences)
    by_writer: dict[str, list[tuple[Pixels, Numbers]]] = {}
    num_empty = num_between = 0
    for file in files:
        for writer, images, labels, between in _users(file):
            num_empty += not len(labels)
            num_between += between
            if len(labels):
                by_writer.setdefault(writer, []).append((images, labels))
    ordered = [piece for writer in sorted(by_writer) for piece in by_writer[writer]]
    if not ordered:
        raise DataNotFoundError(f"femnist: the files in {folder} hold no image", hint=ADVICE)
    counts = [sum(len(labels) for _, labels in by_writer[writer]) for writer in sorted(by_writer)]
    if num_empty:
        sentences.say(f"{num_empty} of {num_empty + len(counts)} writers in {folder} have no image and are left out")
    if num_between:
        sentences.say(f"{num_between} of {sum(counts)} images in {folder} have pixels between grey levels, now rounded")
    images = np.concatenate([images for images, _ in ordered])
    labels = np.concatenate([labels for _, labels in ordered])
    return images, labels, np.repeat(np.arange(len(counts)), counts)


def _users(file: Path) -> Iterator[tuple[str, Pixels, Numbers, int]]:
    """Yield the users of one file with their images and labels, and how many images are not of whole grey levels."""
    try:
        content = plain_json(read_regular(file, most_bytes=TABLE_BYTES))
        pieces = [(user, *lists_of(by_name), count) for user, by_name, count in users_of(content)]
    except OSError as failure:
        raise DataNotFoundError(
            f"femnist: {file} cannot be read ({failure.strerror or failure})", hint=ADVICE
        ) from None
    except ValueError as failure:
        reason = printable(str(failure))
        raise DataNotFoundError(f"femnist: {file} is not a file of LEAF's format: {reason}", hint=ADVICE) from None
    for user, rows, labels, count in pieces:
        writer = f"{file} of writer {printable(user)}"
        if count not in (None, len(labels)):
            raise _damaged(writer, f"num_samples {count!r:.40} for {len(labels)} labels")
        yield user, *_samples(writer, rows, labels)


def _samples(writer: str, rows: Sequence[Any], labels: Sequence[Any]) -> tuple[Pixels, Numbers, int]:
    """Return images and labels of one writer, and how many images have pixels between grey levels."""
    for place, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < NUM_CLASSES:
            raise _damaged(writer, f"label {label!r:.40} of image {place}; labels are whole, 0 to {NUM_CLASSES - 1}")
    is_whole = all(isinstance(row, list) for row in rows)
    widths = {len(row) for row in rows} if is_whole else set()
    if not is_whole or len(rows) != len(labels) or not widths <= {SIDE * SIDE}:
        shape = f"{len(rows)}x{' or '.join(map(str, sorted(widths))) or '?'}"
        wish = f"{len(labels)}x{SIDE * SIDE} is needed"
        raise _damaged(writer, f"pixels of shape {shape} for {len(labels)} labels; {wish}")
    for place, row in enumerate(rows):
        if not {int, float}.issuperset(map(type, row)) or not 0 <= min(row) <= max(row) <= 1 or math.isnan(sum(row)):
            raise _wrong_pixel(writer, place, row)
    values = np.array(rows, np.float64).reshape(-1, SIDE * SIDE) * GREY_LEVELS
    # LEAF's values are whole grey levels divided by 255: bytes hold them without loss.
    levels = np.rint(values)
    num_between = int(np.count_nonzero((np.abs(values - levels) > _ON_A_LEVEL).any(axis=1)))
    return levels.astype(np.uint8).reshape(-1, 1, SIDE, SIDE), np.array(labels, np.int64), num_between


def _wrong_pixel(writer: str, image: int, row: Sequence[Any]) -> DataNotFoundError:
    place, value = next(
        (place, value) for place, value in enumerate(row) if type(value) not in (int, float) or not 0 <= value <= 1
    )
    return _damaged(writer, f"pixel {place} of image {image} {value!r:.40}; pixels are numbers from 0 to 1")


def _damaged(writer: str, what: str) -> DataNotFoundError:
    return DataNotFoundError(f"femnist: {writer} has {what}, so the file is damaged or not FEMNIST's")


COMPONENT = Component(
    kind="femnist",
    summary="FEMNIST: handwritten characters of 28x28 pixels in 62 classes with their writers, from LEAF's JSON files",
    source="Caldas et al. (LEAF), 2018, https://arxiv.org/abs/1812.01097",
    options=FemnistOptions,
    build=build,
    survey=survey,
)
