"""What a sample is: the one value in which datasets, architectures, profiles and tests agree on it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from neulite_sim.errors import Problem, ScenarioError

Shape = tuple[int, ...]
"""Of a sample, or of a map between two blocks, without the batch."""
ImageShape = tuple[int, int, int]
"""Channels, height and width."""

DType = Literal["float32", "int64"]
_ITEM_BYTES: dict[DType, int] = {"float32": 4, "int64": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """One sample as a network reads it, and what it is classified as.

    A batch of B samples is inputs `[B, *shape]` and int64 targets `[B, *target_shape]`, and a network answers with
    logits `[B, num_classes, *target_shape]`:

    >>> image = InputSpec(shape=(3, 32, 32), num_classes=10)
    >>> text = InputSpec(shape=(80,), vocabulary=90, num_classes=90, target_shape=(80,))
    >>> f"{image}; {text}"
    '3x32x32 images; sequences of 80 out of 90 tokens, each with a target'
    """

    shape: Shape
    num_classes: int
    """Targets are 0 to `num_classes` - 1."""
    vocabulary: int | None = None
    """Inputs are ids of 0 to `vocabulary` - 1; float32 numbers where it is None."""
    target_shape: Shape = ()
    """One target per sample where it is `()`, one per token where it is `(length,)`."""

    @property
    def dtype(self) -> DType:
        """Type of the numbers that a network reads, by the name that NumPy and PyTorch share."""
        return "float32" if self.vocabulary is None else "int64"

    @property
    def num_bytes(self) -> int:
        """Bytes of one sample as a network reads it."""
        return math.prod(self.shape) * _ITEM_BYTES[self.dtype]

    @property
    def is_image(self) -> bool:
        """Whether a sample is channels, height and width of float32 pixels with one target."""
        return len(self.shape) == 3 and self.vocabulary is None and not self.target_shape

    def __str__(self) -> str:
        """Return what a user calls such samples."""
        shape = "x".join(map(str, self.shape))
        if self.is_image:
            return f"{shape} images"
        if len(self.shape) == 1 and self.vocabulary is None and not self.target_shape:
            return f"rows of {shape} numbers"
        what = "numbers" if self.vocabulary is None else f"out of {self.vocabulary} tokens"
        return f"sequences of {shape} {what}{', each with a target' if self.target_shape else ''}"

    def charged_as(self, image_shape: ImageShape | None, num_classes: int | None) -> InputSpec:
        """Return the spec of the workload that `workload.input_shape` and `workload.classes` make of this one.

        Raises:
            ScenarioError: an image's shape is given, and the samples are no images.
        """
        if image_shape is not None and not self.is_image:
            message = f"is the shape of an image, but the samples of data are {self}; remove it"
            raise ScenarioError([Problem(key="workload.input_shape", message=message)])
        return spec_of(self, image_shape, num_classes)


def spec_of(spec: InputSpec | None, input_shape: Shape | None, num_classes: int | None) -> InputSpec:
    """Return a spec from the two ways to say it: as a whole, or by shape and classes of images. The latter go first.

    Raises:
        TypeError: neither says what a sample is.
    """
    if spec is None:
        if input_shape is None or num_classes is None:
            raise TypeError("what a sample is must be given: spec, or input_shape and num_classes")
        return InputSpec(shape=tuple(input_shape), num_classes=num_classes)
    return replace(
        spec,
        shape=spec.shape if input_shape is None else tuple(input_shape),
        num_classes=spec.num_classes if num_classes is None else num_classes,
    )
