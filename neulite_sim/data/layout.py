"""What arrays of inputs are: images with channels first, rows of numbers, or tokens; and how they are standardised.

| per sample | auto takes it for |
| --- | --- |
| nothing, or one dimension | numbers |
| two dimensions | grey images where they are bytes or square, else it has to be said |
| three dimensions | images; the channels are the side of 1 to 4, first or last, else it has to be said |
| more | it has to be said |
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from neulite_sim.bounds import MOST_CHANNELS, MOST_SIDE
from neulite_sim.data.handing import Array, Place, refusal
from neulite_sim.data.image_files import Sentences, channel_statistics
from neulite_sim.data.resampling import Images

Meaning = Literal["images", "numbers", "tokens"]
MOST_LIKELY_CHANNELS = 4
_CHUNK_VALUES = 2**22
"""Values looked at or converted at once."""
_FLOAT32_MOST = float(np.finfo(np.float32).max)


def meaning_of(name: str, inputs: Array, wished: str) -> Meaning:
    """Return what inputs are, as wished or by the table above.

    Raises:
        ScenarioError: it cannot be told from the arrays, or the wish does not go with them.
    """
    shape = inputs.shape[1:]
    if wished == "images" and len(shape) not in (2, 3):
        raise refusal(name, f"samples of shape {shape} are no images", "give [N, H, W], [N, C, H, W] or [N, H, W, C]")
    if wished == "tokens" and (len(shape) != 1 or inputs.dtype.kind not in "iu"):
        raise refusal(
            name, f"samples of shape {shape} and type {inputs.dtype} are no tokens", "give whole numbers [N, length]"
        )
    if wished == "numbers" and len(shape) == 3:
        raise refusal(
            name,
            f"samples of shape {shape} are read as images by every network",
            "flatten two of their dimensions, or leave out inputs: numbers",
        )
    if wished != "auto":
        return wished  # type: ignore[return-value]
    if len(shape) <= 1:
        return "numbers"
    if len(shape) == 3 or (len(shape) == 2 and (inputs.dtype == np.uint8 or shape[0] == shape[1])):
        return "images"
    raise refusal(
        name,
        f"samples of shape {shape} may be grey images or rows of numbers" if len(shape) == 2 else
        f"samples of shape {shape} are no images, and nothing says what they are",
        "set data.inputs to images or numbers" if len(shape) == 2 else "set data.inputs to numbers",
    )  # fmt: skip


def channels_first(name: str, images: Array, wished: str, sentences: Sentences | None = None) -> Array:
    """Return images `[N, C, H, W]`, C-contiguous; a notice says which layout was found.

    Raises:
        ScenarioError: where the channels are cannot be told, or an image is too large.
    """
    shape = images.shape[1:]
    if len(shape) == 2:
        if wished != "auto":
            raise refusal(name, f"images of shape {shape} have no channels to be {wished}", "leave out channels")
        found, said = images[:, None], "grey images [N, H, W]"
    else:
        where = _where(name, shape) if wished == "auto" else wished
        found = images if where == "first" else np.moveaxis(images, 3, 1)
        said = f"images with channels {where}"
    channels, height, width = found.shape[1:]
    if not (1 <= channels <= MOST_CHANNELS and 1 <= height <= MOST_SIDE and 1 <= width <= MOST_SIDE):
        limit = f"use 1 to {MOST_CHANNELS} channels and sides of 1 to {MOST_SIDE}"
        raise refusal(name, f"images have {channels} channels and {height}x{width} pixels", limit)
    if sentences is not None:
        sentences.say(f"read as {said}: {channels}x{height}x{width}")
    return np.ascontiguousarray(found)


def _where(name: str, shape: tuple[int, ...]) -> str:
    is_first, is_last = (1 <= side <= MOST_LIKELY_CHANNELS for side in (shape[0], shape[2]))
    if is_first == is_last:
        what = "the first or the last side" if is_first else "neither the first nor the last side"
        hint = "set data.channels to first or last"
        raise refusal(name, f"in images of shape {shape} {what} may be channels (1 to {MOST_LIKELY_CHANNELS})", hint)
    return "first" if is_first else "last"


def _chunks(inputs: Array) -> Iterator[slice]:
    step = max(1, _CHUNK_VALUES // max(1, inputs[:1].size))
    return (slice(start, start + step) for start in range(0, len(inputs), step))


def require_numbers(name: str, part: str, inputs: Array, place: Place) -> None:
    """Refuse inputs that are no numbers, or that float32 does not hold.

    Raises:
        ScenarioError: the first such sample, and where in it.
    """
    if inputs.dtype.kind not in "biuf":
        hint = "give numbers; texts must be made numbers first, as categories or tokens"
        raise refusal(name, f"{part} inputs are {'texts' if inputs.dtype.kind in 'US' else inputs.dtype}", hint)
    if inputs.dtype.kind != "f":
        return
    for chunk in _chunks(inputs):
        values = inputs[chunk]
        is_right = np.isfinite(values)
        if values.dtype.itemsize > np.dtype(np.float32).itemsize:
            is_right &= np.abs(values) <= _FLOAT32_MOST
        if not is_right.all():
            at = np.unravel_index(int(np.argmin(is_right)), values.shape)
            where = f" at {', '.join(map(str, at[1:]))}" if len(at) > 1 else ""
            value = values[at]
            hint = "remove it or fill in a number" if not np.isfinite(value) else "float32 cannot hold it; scale it"
            raise refusal(name, f"{place(part, chunk.start + int(at[0]))} holds {value:g}{where}", hint)


def as_pixels(train: Array, test: Array) -> tuple[Images, Images]:
    """Return images of both parts as they are kept, bytes or float32.

    They are bytes where all are whole numbers from 0 to 255, or all are such numbers divided by 255, as torchvision's
    ToTensor makes them: a network sees the same of both.
    """
    parts = (train, test)
    if all(part.dtype == np.uint8 or (part.dtype.kind in "iu" and _lies_within(part, 255)) for part in parts):
        return train.astype(np.uint8, copy=False), test.astype(np.uint8, copy=False)
    if all(part.dtype.kind == "f" and _lies_within(part, 1) and _are_levels(part) for part in parts):
        return _levels(train), _levels(test)
    return train.astype(np.float32, copy=False), test.astype(np.float32, copy=False)


def _lies_within(images: Array, most: int) -> bool:
    return bool(images.min() >= 0 and images.max() <= most)


def _are_levels(images: Array) -> bool:
    # A byte and its quotient by 255 are a pair in any precision.
    return all(
        (np.rint(images[chunk] * 255).astype(images.dtype) / images.dtype.type(255) == images[chunk]).all()
        for chunk in _chunks(images)
    )


def _levels(images: Array) -> NDArray[np.uint8]:
    levels = np.empty(images.shape, np.uint8)
    for chunk in _chunks(images):
        levels[chunk] = np.rint(images[chunk] * 255)
    return levels


def image_scale(images_NCHW: Images, *, normalises: bool) -> tuple[tuple[float, ...], tuple[float, ...], float]:
    """Return mean and deviation per channel and the pixel scale, 255 of bytes and 1 of floats.

    Without normalising a network sees bytes as 0 to 1, and floats as they are.
    """
    is_byte = images_NCHW.dtype == np.uint8
    scale, channels = 255.0 if is_byte else 1.0, images_NCHW.shape[1]
    if not normalises:
        return (0.0,) * channels, (1.0,) * channels, scale
    if is_byte:
        return (*channel_statistics(images_NCHW.astype(np.uint8, copy=False)), scale)
    mean, std = moments(np.moveaxis(images_NCHW, 1, 3))
    return tuple(mean.tolist()), tuple(std.tolist()), scale


def moments(values: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and deviation over all but the last dimension, in double precision; a constant has deviation 1."""
    count = values[..., 0].size
    mean = np.zeros(values.shape[-1])
    for chunk in _chunks(values):
        mean += _sums(values[chunk].astype(np.float64)) / count
    squares = np.zeros_like(mean)
    for chunk in _chunks(values):
        squares += _sums((values[chunk].astype(np.float64) - mean) ** 2) / count
    # What is left of a constant is rounding of its mean.
    is_constant = squares <= (np.abs(mean) * 1e-12) ** 2
    return mean, np.where(is_constant, 1.0, np.sqrt(squares))


def _sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    sums: NDArray[np.float64] = np.ascontiguousarray(values).reshape(-1, values.shape[-1]).sum(axis=0)
    return sums


def scaled_numbers(inputs: Array, mean: NDArray[np.float64], std: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return `(inputs - mean) / std` as float32, worked out in double precision, along the last dimension."""
    scaled = np.empty(inputs.shape, np.float32)
    for chunk in _chunks(inputs):
        scaled[chunk] = (inputs[chunk].astype(np.float64) - mean) / std
    return scaled
