"""Resizing images by area: every new pixel is the mean of what it covers.

An image is taken as a patchwork of constant squares and each new pixel integrates over its own rectangle, with
fractional overlaps weighted exactly. This keeps the mean of every image and invents no value outside its range.
Shrinking averages, and enlarging by a whole factor repeats pixels (no new detail is pretended). For whole factors it
equals `torch.nn.functional.interpolate(mode="area")`; for others that function (adaptive average pooling) rounds its
windows outwards, so that neighbours overlap and the border counts more, which is why it is not used here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8] | NDArray[np.float32]

_CHUNK_VALUES = 2**22
"""Values in double precision held at once: 32 MiB, however large the dataset is."""


def area_weights(size_in: int, size_out: int) -> NDArray[np.float64]:
    """Return `[size_out, size_in]`: the share of each old pixel in each new one. Rows add up to one."""
    edges = np.arange(size_out + 1) * size_in / size_out
    pixels = np.arange(size_in)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights: NDArray[np.float64] = np.maximum(overlap, 0.0) * size_out / size_in
    return weights


def resample(images_NCHW: Images, size: int) -> Images:
    """Return the images as squares `[N, C, size, size]` of the same dtype; the same array where they already are.

    Images that are not square are stretched. uint8 values are rounded to the nearest integer.
    """
    num_images, channels, height, width = images_NCHW.shape
    if height == width == size:
        return images_NCHW
    dtype = images_NCHW.dtype
    by_rows, by_columns = area_weights(height, size), area_weights(width, size).T
    resized = np.empty((num_images, channels, size, size), dtype)
    step = max(1, _CHUNK_VALUES // (channels * max(height, size) * max(width, size)))
    for start in range(0, num_images, step):
        values = by_rows @ (images_NCHW[start : start + step].astype(np.float64) @ by_columns)
        resized[start : start + step] = np.rint(values) if dtype == np.uint8 else values
    return resized
