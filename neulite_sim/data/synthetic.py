"""Images made up from a seed: each class has one smooth random prototype, and every sample is its prototype in noise.

Learnable by any classifier, of any shape, and free of downloads. Prototypes are drawn on a coarse grid and linearly
interpolated, so that neighbouring pixels go together as in photographs; all prototypes together have mean zero and
variance one, and `noise` is the standard deviation of the noise in those units.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from neulite_sim.bounds import ChannelCount, ClassCount, SampleCount, Side
from neulite_sim.data.contract import Dataset, DatasetOptions
from neulite_sim.registry import Component
from neulite_sim.room import require_room
from neulite_sim.seeding import stream

GRID = 4
"""Grid points along a side of a prototype."""

PIXEL_MEAN, PIXEL_STD = 128.0, 40.0
"""Where uint8 pixels lie; values beyond 3.2 standard deviations are clipped."""

_PROTOTYPE_BYTES = 28
"""Of a pixel of a prototype, at its peak: three times in double precision, once in single."""

_CHUNK_VALUES = 2**18
"""Values worked on at once, as many as a processor's cache holds; the result does not depend on it."""


class SyntheticOptions(DatasetOptions):
    """Options of `synthetic`."""

    shape: tuple[ChannelCount, Side, Side] = (3, 32, 32)
    """Channels, height and width of an image."""
    classes: ClassCount = 10
    """Number of classes."""
    samples: SampleCount = 5000
    """Number of training samples, spread evenly over the classes."""
    test_samples: SampleCount = 1000
    """Number of test samples, spread evenly over the classes."""
    noise: float = Field(1.0, ge=0, le=1000)
    """Standard deviation of the noise, where the prototypes have one."""

    def require_room(self) -> None:
        """Refuse images that this machine does not hold.

        Raises:
            ScenarioError: with the bytes needed and those that are free.
        """
        pixels = math.prod(self.shape)
        require_room(
            pixels * (self.samples + self.test_samples + _PROTOTYPE_BYTES * self.classes),
            f"{self.samples + self.test_samples} synthetic images of {self.classes} classes, {pixels} pixels each",
            key="data",
            advice="lower data.samples, data.classes or data.shape",
        )


def build(options: SyntheticOptions, seed: int) -> Dataset:
    """Return uint8 images made from `seed`; the training samples do not depend on the number of test samples."""
    options.require_room()
    prototypes = _prototypes(options, seed)
    parts = [_samples(prototypes, num_samples, options.noise, stream(seed, purpose)) for num_samples, purpose in
             ((options.samples, "synthetic-train"), (options.test_samples, "synthetic-test"))]  # fmt: skip
    (train_images, train_labels), (test_images, test_labels) = parts
    channels = options.shape[0]
    return Dataset(
        name="synthetic",
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        num_classes=options.classes,
        mean=(PIXEL_MEAN / 255,) * channels,
        std=(PIXEL_STD / 255,) * channels,
        pixel_scale=255.0,
    )


def _prototypes(options: SyntheticOptions, seed: int) -> NDArray[np.float64]:
    """Return `[classes, C, H, W]` of mean zero and variance one over all of it."""
    channels, height, width = options.shape
    rows, columns = min(GRID, height), min(GRID, width)
    coarse = stream(seed, "synthetic-prototypes").standard_normal((options.classes, channels, rows, columns))
    smooth = _interpolation(rows, height) @ coarse @ _interpolation(columns, width).T
    prototypes: NDArray[np.float64] = (smooth - smooth.mean()) / smooth.std()
    return prototypes


def _interpolation(points: int, size: int) -> NDArray[np.float64]:
    """Return `[size, points]`: the weights of `points` equidistant values in `size` linearly interpolated ones."""
    positions = np.linspace(0, points - 1, size)
    return np.stack([np.interp(positions, np.arange(points), unit) for unit in np.eye(points)], axis=1)


def _samples(
    prototypes: NDArray[np.float64], num_samples: int, noise: float, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    scale = PIXEL_STD / math.hypot(1.0, noise)
    centres = (PIXEL_MEAN + scale * prototypes).astype(np.float32)
    quantiles = (scale * noise * _normal_quantiles()).astype(np.float32)
    labels = rng.permutation(np.arange(num_samples, dtype=np.int64) % len(prototypes))
    images = np.empty((num_samples, *prototypes.shape[1:]), np.uint8)
    # Four bytes at a time come from the generator; a chunk that ends between them would throw the rest away.
    step = max(4, _CHUNK_VALUES // prototypes[0].size // 4 * 4)
    for start in range(0, num_samples, step):
        part = images[start : start + step]
        values = quantiles[rng.integers(0, 256, part.shape, dtype=np.uint8)]
        values += centres[labels[start : start + step]]
        part[:] = np.clip(np.rint(values, out=values), 0, 255, out=values)
    return images, labels


def _normal_quantiles() -> NDArray[np.float64]:
    """Return 256 equally likely values with the distribution of a standard normal variable.

    Picking one per pixel is several times as fast as drawing normal numbers, and pixels have 256 values anyway.
    """
    values = np.array([NormalDist().inv_cdf((step + 0.5) / 256) for step in range(256)])
    quantiles: NDArray[np.float64] = values / values.std()
    return quantiles


COMPONENT = Component(
    kind="synthetic",
    summary="class-conditional random images of any shape: smooth prototypes in noise",
    source="this project",
    options=SyntheticOptions,
    build=build,
)
