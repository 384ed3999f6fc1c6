"""From an image file to bytes `[C, H, W]`: what each of Pillow's modes means, and which are refused.

| mode | becomes |
| --- | --- |
| L, RGB, 1, P, YCbCr | their grey levels or colours, 8 bits each |
| 16-bit grey | the upper 8 bits, as 16-bit colours are read |
| with transparency | laid over white, as a page would show it |
| CMYK | colours without the file's profile |
| I, F, LAB and others | refused by name: what their values mean is not said in the file |

Of an animation or a file of several pages the first picture is taken, and one whose EXIF says that it lies on its side
is turned upright. Grey from colours is Pillow's: 0.299 R + 0.587 G + 0.114 B.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from neulite_sim.data.image_files import Bytes, Sentences
from neulite_sim.data.resampling import resample
from neulite_sim.errors import DataNotFoundError, Problem, ScenarioError
from neulite_sim.outside import open_regular, printable
from neulite_sim.room import require_room

FORMATS = ("PNG", "JPEG", "BMP", "DIB", "WEBP", "TIFF", "GIF", "PPM", "JPEG2000")
"""What the content of a file may be, whatever its name says."""
MOST_PIXELS = 2**25
"""The most that an image may have: 33.5 million, a little more than 7680x4320."""
MOST_FILE_BYTES = 2**28
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_PLAIN = ("1", "L", "P", "RGB", "RGBX", "YCbCr")
_UPRIGHT = 1
_EXIF_ORIENTATION = 0x0112
_TIFF_BITS, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0

TRANSPARENT = "with transparency laid over white"
FIRST_PICTURE = "with several pictures: the first was taken"
TURNED = "turned upright as their EXIF orientation says"
WITHOUT_PROFILE = "in CMYK read without their colour profile"


class PictureReader:
    """Reads images as bytes `[N, C, H, W]`, all of one size: `side` where it is given, else that of the first image."""

    def __init__(self, kind: str, *, channels: int, side: int | None) -> None:
        self._kind = kind
        self._mode = "L" if channels == 1 else "RGB"
        self._channels = channels
        self._side = side
        self._first: tuple[Path, int, int] | None = None
        self._treated: Counter[str] = Counter()
        self._num_read = 0
        Image.init()
        self._formats = [name for name in FORMATS if name in Image.OPEN]

    def read(self, files: Sequence[Path]) -> Bytes:
        """Return the images of `files`, in their order.

        Raises:
            DataNotFoundError: a file is no image, one of a mode that is not read, or too large.
            ScenarioError: images differ in size and `side` is not given.
        """
        images: Bytes | None = None
        for position, file in enumerate(files):
            image = self._one(file)
            if images is None:
                images = self._room(len(files), image)
            images[position] = image
        assert images is not None, "a class folder holds at least one image"
        self._num_read += len(files)
        return images

    def tell(self, sentences: Sentences) -> None:
        """Say how many images were taken otherwise than they stand there."""
        for how, count in self._treated.items():
            sentences.say(f"{count} of {self._num_read} images {how}")

    def _room(self, count: int, image: Bytes) -> Bytes:
        height, width = image.shape[1:]
        what, advice = f"{count} images of {width}x{height}", "set data.image_size to a smaller side"
        require_room(count * image.nbytes, what, key="data.image_size", advice=advice)
        return np.empty((count, *image.shape), np.uint8)

    def _one(self, file: Path) -> Bytes:
        pixels = self._pixels(file)
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
                    Problem.advising(
                        key="data.image_size",
                        found=f"is not given, but the images of {self._kind} differ in size: {first} is "
                        f"{first_width}x{first_height}, {file} is {width}x{height}",
                        hint="give a side to resample them to",
                    )
                ]
            )
        return image

    def _pixels(self, file: Path) -> Bytes:
        """Return one image as `[H, W]` or `[H, W, 3]`.

        Whatever damaged bytes make Pillow's readers raise, they are the file's fault.
        """
        try:
            with open_regular(file, most_bytes=MOST_FILE_BYTES) as content, warnings.catch_warnings():
                # Pillow warns of what it reads all the same; sizes are judged below.
                warnings.simplefilter("ignore")
                with Image.open(content, formats=self._formats) as picture:
                    self._require_size(file, picture)
                    return np.asarray(self._converted(file, picture), np.uint8)
        except DataNotFoundError:
            raise
        except Exception as failure:
            why = getattr(failure, "strerror", None) or str(failure) or type(failure).__name__
            raise self._unreadable(file, why) from failure

    def _require_size(self, file: Path, picture: Image.Image) -> None:
        width, height = picture.size
        if width * height > MOST_PIXELS:
            raise self._unreadable(file, f"it has {width}x{height} pixels; at most {MOST_PIXELS:,} are read")

    def _converted(self, file: Path, picture: Image.Image) -> Image.Image:
        """Return a picture in the wanted mode, and count what was done to it."""
        if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
            self._treated[FIRST_PICTURE] += 1
        is_deep = picture.mode in _SIXTEEN_BITS or (picture.mode == "I" and picture.format in ("PNG", "PPM"))
        bits = self._depth(file, picture) if is_deep else 8
        if picture.getexif().get(_EXIF_ORIENTATION, _UPRIGHT) in range(2, 9):
            self._treated[TURNED] += 1
            picture = ImageOps.exif_transpose(picture)
        if is_deep:
            # Pillow's convert() would cut off at 255 what is a share of 65535.
            upper = np.asarray(picture).astype(np.int64) >> (bits - 8)
            return Image.fromarray(upper.astype(np.uint8)).convert(self._mode)
        if picture.mode in _WITH_ALPHA or "transparency" in picture.info:
            return self._over_white(picture)
        if picture.mode == "CMYK":
            self._treated[WITHOUT_PROFILE] += 1
        elif picture.mode not in _PLAIN:
            raise self._unreadable(file, f"its mode {picture.mode} is not read, only 8 or 16 bits per channel")
        return picture.convert(self._mode)

    def _depth(self, file: Path, picture: Image.Image) -> int:
        """Return how many bits the grey levels of a picture have, where they have more than 8."""
        if "transparency" in picture.info:
            raise self._unreadable(file, "16-bit grey with a transparent level is not read")
        tags: Mapping[int, Any] = getattr(picture, "tag_v2", {})
        if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
            raise self._unreadable(file, "16-bit grey in which 0 is white is not read")
        bits: tuple[int, ...] = tags.get(_TIFF_BITS, (16,))
        return int(bits[0])

    def _over_white(self, picture: Image.Image) -> Image.Image:
        layers = picture.convert("RGBA")
        if layers.getchannel("A").getextrema() == (255, 255):
            return picture.convert(self._mode) if picture.mode in _PLAIN else layers.convert("RGB").convert(self._mode)
        self._treated[TRANSPARENT] += 1
        return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB").convert(self._mode)

    def _unreadable(self, file: Path, why: str) -> DataNotFoundError:
        return DataNotFoundError(
            f"{self._kind}: {printable(str(file))} cannot be read as an image ({printable(why)})",
            hint="replace or remove it",
        )
