"""Any labelled images in folders: `root/train/CLASS/*.png` and `root/test/CLASS/*.png`.

Classes are numbered in the order of their folders' names. Mean and deviation are measured over the training images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from neulite_sim.bounds import PathText
from neulite_sim.data.contract import Dataset, ImageDatasetOptions
from neulite_sim.data.image_files import Reader, channel_statistics, class_files, flattened
from neulite_sim.data.preparation import prepared
from neulite_sim.errors import DataNotFoundError
from neulite_sim.registry import Component

ADVICE = "data.root must hold train/CLASS/ and test/CLASS/ with images (.png, .jpg, .jpeg, .bmp), one folder per class"


class ImageFolderOptions(ImageDatasetOptions):
    """Options of `image-folder`."""

    root: PathText
    """Folder that holds `train` and `test`; relative to where the run is started."""
    channels: Literal[1, 3] = 3
    """3 reads images in colour, 1 in shades of grey, whatever the files hold."""


def build(options: ImageFolderOptions, seed: int) -> Dataset:
    """Return the images as uint8; `seed` acts only on subsets.

    Raises:
        DataNotFoundError: a folder is missing or empty, a file is no image, or only the test part has a class.
        ScenarioError: images differ in size without `image_size`, or more samples are asked for than there are.
    """
    root = Path(options.root).expanduser().absolute()
    train = class_files("image-folder", root / "train", ADVICE)
    test = class_files("image-folder", root / "test", ADVICE)
    unknown = sorted(test.keys() - train.keys())
    if unknown:
        raise DataNotFoundError(
            f"image-folder: {root / 'test'} has classes that {root / 'train'} has no images of: {', '.join(unknown)}; "
            "remove them or add training images"
        )
    classes = sorted(train)
    reader = Reader("image-folder", channels=options.channels, side=options.image_size)
    train_files, train_labels = flattened(train, classes)
    test_files, test_labels = flattened(test, classes)
    train_images, test_images = reader.read(train_files), reader.read(test_files)
    mean, std = channel_statistics(train_images)
    native = Dataset(
        name="image-folder",
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        num_classes=len(classes),
        mean=mean,
        std=std,
        pixel_scale=255.0,
    )
    return prepared(native, options, seed)


COMPONENT = Component(
    kind="image-folder",
    summary="your own images: root/train/CLASS/*.png and root/test/CLASS/*.png",
    source="this project; the folder layout is that of torchvision's ImageFolder",
    options=ImageFolderOptions,
    build=build,
)
