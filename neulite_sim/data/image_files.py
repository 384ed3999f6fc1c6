"""Reading images from folders, one folder per class, with Pillow (which comes with torchvision)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neulite_sim.data.resampling import resample
from neulite_sim.errors import DataNotFoundError, Problem, ScenarioError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
Bytes = NDArray[np.uint8]
Floats = tuple[float, ...]


def class_files(kind: str, folder: Path, advice: str) -> dict[str, list[Path]]:
    """Return the image files below each class folder of `folder`, classes and files sorted by name.

    Raises:
        DataNotFoundError: there is no such folder, or no class folder with an image in it.
    """
    if not folder.is_dir():
        raise DataNotFoundError(f"{kind}: there is no folder {folder}; {advice}")
    found = {
        place.name: sorted(file for file in place.iterdir() if file.suffix.lower() in SUFFIXES)
        for place in sorted(folder.iterdir()) if place.is_dir()
    }  # fmt: skip
    found = {name: files for name, files in found.items() if files}
    if not found:
        raise DataNotFoundError(f"{kind}: {folder} has no class folder with an image ({', '.join(SUFFIXES)}); {advice}")
    return found


def flattened(files: Mapping[str, Sequence[Path]], classes: Sequence[str]) -> tuple[list[Path], NDArray[np.int64]]:
    """Return all files in the order of `classes`, and the label of each: its class's place in `classes`."""
    counts = [len(files.get(name, ())) for name in classes]
    return [file for name in classes for file in files.get(name, ())], np.repeat(np.arange(len(classes)), counts)


class Reader:
    """Reads images as bytes `[N, C, H, W]`, all of one size: `side` where it is given, else that of the first image."""

    def __init__(self, kind: str, *, channels: int, side: int | None) -> None:
        self._kind = kind
        self._mode = "L" if channels == 1 else "RGB"
        self._channels = channels
        self._side = side
        self._first: tuple[Path, int, int] | None = None

    def read(self, files: Sequence[Path]) -> Bytes:
        """Return the images of `files`, in their order.

        Raises:
            DataNotFoundError: a file is no image.
            ScenarioError: images differ in size and `side` is not given.
        """
        images: Bytes | None = None
        for position, file in enumerate(files):
            image = self._one(file)
            if images is None:
                images = np.empty((len(files), *image.shape), np.uint8)
            images[position] = image
        assert images is not None, "a class folder holds at least one image"
        return images

    def _one(self, file: Path) -> Bytes:
        try:
            with Image.open(file) as picture:
                pixels = np.asarray(picture.convert(self._mode), np.uint8)
        except (OSError, SyntaxError, Image.DecompressionBombError) as failure:
            raise DataNotFoundError(
                f"{self._kind}: {file} cannot be read as an image ({failure}); replace or remove it"
            ) from failure
        height, width = pixels.shape[:2]
        image: Bytes = pixels.reshape(height, width, self._channels).transpose(2, 0, 1)
        if self._side is not None:
            resized: Bytes = resample(image[None], self._side)[0].astype(np.uint8, copy=False)
            return resized
        if self._first is None:
            self._first = (file, height, width)
        first, first_height, first_width = self._first
        if (height, width) != (first_height, first_width):
            raise ScenarioError(
                [
                    Problem(
                        key="data.image_size",
                        message=f"is not given, but the images of {self._kind} differ in size: {first} is "
                        f"{first_width}x{first_height}, {file} is {width}x{height}; give a side to resample them to",
                    )
                ]
            )
        return image


def channel_statistics(images_NCHW: Bytes) -> tuple[Floats, Floats]:
    """Return mean and deviation per channel over all pixels, in units of 255. A constant channel has deviation 1."""
    values = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images_NCHW.shape[1]):
        counts = np.zeros(256, np.int64)
        for chunk in np.array_split(images_NCHW[:, channel], -(-len(images_NCHW) // 4096)):
            counts += np.bincount(chunk.ravel(), minlength=256)
        shares = counts / counts.sum()
        mean = float(shares @ values)
        variance = float(shares @ (values - mean) ** 2)
        means.append(mean)
        deviations.append(variance**0.5 if variance > 0 else 1.0)
    return tuple(means), tuple(deviations)
