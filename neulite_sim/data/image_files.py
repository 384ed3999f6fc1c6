"""What is an image, and what was left out: folders with one folder per class, read with Pillow.

An image is a regular file whose name ends in one of `SUFFIXES` and that this machine's Pillow can read; the content
says which format it is. Folders within a class folder belong to the class. Hidden files and folders belong to nothing.
Whatever is not read is counted in `Sentences`, one sentence per kind.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import features

from neulite_sim.errors import DataNotFoundError
from neulite_sim.outside import printable

SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm",
            ".pbm", ".pnm", ".jp2")  # fmt: skip
_NEEDED = {".webp": "webp", ".jp2": "jpg_2000", ".jpg": "jpg", ".jpeg": "jpg", ".jfif": "jpg"}
READABLE = tuple(suffix for suffix in SUFFIXES if suffix not in _NEEDED or features.check(_NEEDED[suffix]))
"""Those of `SUFFIXES` that this machine's Pillow reads."""
NAMED = ", ".join(READABLE)
_MOST_NAMED = 5

Bytes = NDArray[np.uint8]
Floats = tuple[float, ...]


@dataclass(slots=True)
class Sentences:
    """What a dataset's reader left out or took otherwise than it stands there, in the order in which it was found."""

    kind: str
    told: list[str] = field(default_factory=list)

    def say(self, message: str) -> None:
        """Add a sentence, with the dataset's name in front."""
        self.told.append(f"{self.kind}: {printable(message)}")


def class_files(kind: str, folder: Path, advice: str, sentences: Sentences | None = None) -> dict[str, list[Path]]:
    """Return the image files below each class folder of `folder`, classes and files sorted by name.

    A class folder may hold none; that, and what is left out, is told to `sentences`.

    Raises:
        DataNotFoundError: there is no such folder, or no class folder with an image in it.
    """
    places = entries(kind, folder, advice)
    sentences = sentences or Sentences(kind)
    found: dict[str, list[Path]] = {}
    ignored: Counter[str] = Counter()
    hidden: list[str] = []
    for place in places:
        if is_hidden(place.name):
            hidden.append(place.name)
        elif place.is_dir():
            found[place.name] = _images_below(kind, place, ignored, hidden)
        else:
            ignored["outside of a class folder"] += 1
    empty = [name for name, files in found.items() if not files]
    num_read = sum(map(len, found.values()))
    if not num_read:
        left = f"; ignored: {_counted(ignored)}" if ignored else ""
        raise DataNotFoundError(f"{kind}: {folder} has no class folder with an image ({NAMED}){left}", hint=advice)
    if ignored:
        total = num_read + ignored.total()
        sentences.say(f"{ignored.total()} of {total} files in {folder} ignored: {_counted(ignored)}")
    if empty:
        sentences.say(f"{folder} has no image of {listed(empty)}")
    if hidden:
        sentences.say(f"hidden files and folders in {folder} left out: {listed(sorted(set(hidden)))}")
    return found


def entries(kind: str, folder: Path, advice: str) -> list[Path]:
    """Return what lies in a folder, sorted by name.

    Raises:
        DataNotFoundError: there is no such folder, or it cannot be read.
    """
    if not folder.is_dir():
        raise DataNotFoundError(f"{kind}: there is no folder {printable(str(folder))}", hint=advice)
    try:
        return sorted(folder.iterdir())
    except OSError as failure:
        raise _unread(kind, folder, failure) from None


def _unread(kind: str, folder: Path, failure: OSError) -> DataNotFoundError:
    return DataNotFoundError(f"{kind}: {printable(str(folder))} cannot be read ({failure.strerror or failure})")


_TOOLS = {"__MACOSX", "__pycache__", "@eaDir", "lost+found", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN",
          "System Volume Information"}  # fmt: skip


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is somebody's tool's and no data: `.ipynb_checkpoints`, `__MACOSX`."""
    return name.startswith(".") or name in _TOOLS


def listed(names: Iterable[str]) -> str:
    """Return names with commas between, the first five and how many more there are."""
    every = list(names)
    more = len(every) - _MOST_NAMED
    return ", ".join(every[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _images_below(kind: str, folder: Path, ignored: Counter[str], hidden: list[str]) -> list[Path]:
    """Return the image files in a class folder and the folders within; each folder once, wherever links lead."""
    try:
        return _walked(folder, ignored, hidden)
    except OSError as failure:
        raise _unread(kind, folder, failure) from None


def _walked(folder: Path, ignored: Counter[str], hidden: list[str]) -> list[Path]:
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        status = place.stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(place) as entries:
            for entry in entries:
                suffix = os.path.splitext(entry.name)[1].lower()
                if is_hidden(entry.name):
                    hidden.append(entry.name)
                elif entry.is_dir():
                    waiting.append(Path(entry.path))
                elif suffix in READABLE:
                    found.append(Path(entry.path))
                else:
                    ignored[suffix or "without a suffix"] += 1
    return sorted(found)


def _counted(ignored: Counter[str]) -> str:
    """Return what was ignored by suffix, the most frequent first: `.webp`, or `20 .webp, 3 .txt`."""
    if len(ignored) == 1:
        return next(iter(ignored))
    return listed(f"{count} {what}" for what, count in ignored.most_common())


def require_classes(kind: str, folder: Path, classes: Sequence[str]) -> None:
    """Refuse a training part that no classifier can learn from.

    Raises:
        DataNotFoundError: there are fewer than two classes.
    """
    if len(classes) < 2:
        raise DataNotFoundError(
            f"{kind}: {folder} has one class, {printable(', '.join(classes))}",
            hint="a classifier needs two, a folder each",
        )


def flattened(files: Mapping[str, Sequence[Path]], classes: Sequence[str]) -> tuple[list[Path], NDArray[np.int64]]:
    """Return all files in the order of `classes`, and the label of each: its class's place in `classes`."""
    counts = [len(files.get(name, ())) for name in classes]
    return [file for name in classes for file in files.get(name, ())], np.repeat(np.arange(len(classes)), counts)


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
