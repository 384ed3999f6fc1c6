"""Any labelled images in folders: `root/train/CLASS/*.png` and `root/test/CLASS/*.png`.

Classes are those of which `train` has an image, numbered in the order of their folders' names. Mean and deviation are
measured over the training images. `neulite_sim.data.image_files` says what counts as an image, `pictures` how it is
read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from neulite_sim.bounds import PathText
from neulite_sim.data.contract import Dataset, ImageDatasetOptions
from neulite_sim.data.image_files import (
    NAMED,
    Sentences,
    channel_statistics,
    class_files,
    entries,
    flattened,
    is_hidden,
    listed,
    require_classes,
)
from neulite_sim.data.pictures import PictureReader
from neulite_sim.data.preparation import prepared
from neulite_sim.errors import DataNotFoundError
from neulite_sim.outside import printable, user_path
from neulite_sim.registry import Component
from neulite_sim.scenario.inputs import input_folder

KIND = "image-folder"
ADVICE = f"data.root must hold train/CLASS/ and test/CLASS/ with images ({NAMED}), one folder per class"


PARTS = ("train", "test")
Files = Mapping[str, Sequence[Path]]


class ImageFolderOptions(ImageDatasetOptions):
    """Options of `image-folder`."""

    root: Annotated[PathText, input_folder("train", "test")]
    """Folder that holds `train` and `test`; beside the scenario's file or in the current folder."""
    channels: Literal[1, 3] = 3
    """3 reads images in colour, 1 in shades of grey, whatever the files hold."""


def build(options: ImageFolderOptions, seed: int) -> Dataset:
    """Return the images as uint8; `seed` acts only on subsets.

    Raises:
        DataNotFoundError: a folder is missing or empty, a file is no image, train and test have other classes, or
            there is only one.
        ScenarioError: images differ in size without `image_size`, or more samples are asked for than there are.
    """
    sentences = Sentences(KIND)
    train, test, classes = _found(options, sentences)
    reader = PictureReader(KIND, channels=options.channels, side=options.image_size)
    train_files, train_labels = flattened(train, classes)
    test_files, test_labels = flattened(test, classes)
    train_images, test_images = reader.read(train_files), reader.read(test_files)
    reader.tell(sentences)
    mean, std = channel_statistics(train_images)
    native = Dataset(
        name=KIND,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        num_classes=len(classes),
        mean=mean,
        std=std,
        pixel_scale=255.0,
        left_out=tuple(sentences.told),
    )
    return prepared(native, options, seed)


def _found(options: ImageFolderOptions, sentences: Sentences) -> tuple[Files, Files, list[str]]:
    """Return the image files of both parts by class, and the classes; what is left out is told to `sentences`."""
    root = user_path(options.root).absolute()
    train = class_files(KIND, root / "train", ADVICE, sentences)
    test = class_files(KIND, root / "test", ADVICE, sentences)
    _require_same(root, train, test)
    classes = [name for name, files in train.items() if files]
    require_classes(KIND, root / "train", classes)
    if len(classes) < len(train):
        sentences.say(f"classes are numbered without the empty ones: {listed(classes)} are 0 to {len(classes) - 1}")
    others = [
        place.name for place in entries(KIND, root, ADVICE) if place.name not in PARTS and not is_hidden(place.name)
    ]
    if others:
        sentences.say(f"{root} holds more than train and test, which is not looked at: {listed(others)}")
    return train, test, classes


def survey(options: ImageFolderOptions) -> tuple[str, ...]:
    """Return what the names of the files show. Raises what `build` raises of them."""
    sentences = Sentences(KIND)
    _found(options, sentences)
    return tuple(sentences.told)


def _require_same(root: Path, train: Files, test: Files) -> None:
    """Refuse parts whose classes differ: a class that is never tested, or one that nobody can learn."""
    parts = {"train": train, "test": test}
    for part, other in (("test", "train"), ("train", "test")):
        unknown = [name for name, files in parts[part].items() if name not in parts[other]]
        unknown += [name for name, files in test.items() if files and train.get(name) == [] and part == "test"]
        if unknown:
            raise DataNotFoundError(
                f"{KIND}: {root / part} has classes that {root / other} has no images of: "
                f"{printable(', '.join(unknown))}",
                hint=f"remove them or add images to {other}",
            )


COMPONENT = Component(
    kind=KIND,
    summary="your own images: root/train/CLASS/*.png and root/test/CLASS/*.png",
    source="this project; the folder layout is that of torchvision's ImageFolder",
    options=ImageFolderOptions,
    build=build,
    survey=survey,
)
