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
    predicts_tokens: bool = False
    """Whether the target of each token is the token after it, so that the classes are the vocabulary."""

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
        target = "the next as its target" if self.predicts_tokens else "a target"
        return f"sequences of {shape} {what}{f', each with {target}' if self.target_shape else ''}"

    @property
    def is_text(self) -> bool:
        """Whether a sample is a sequence of ids of tokens."""
        return self.vocabulary is not None and len(self.shape) == 1

    def charged_as(
        self,
        image_shape: ImageShape | None,
        num_classes: int | None,
        *,
        sequence_length: int | None = None,
        vocabulary: int | None = None,
    ) -> InputSpec:
        """Return the spec of the workload that the options of the same names in `workload` make of this one.

        Raises:
            ScenarioError: an option is given that does not go with samples of this kind.
        """
        if image_shape is not None and not self.is_image:
            message = f"is the shape of an image, but the samples of data are {self}; remove it"
            raise ScenarioError([Problem(key="workload.input_shape", message=message)])
        for name, given in (("sequence_length", sequence_length), ("vocabulary", vocabulary)):
            if given is not None and not self.is_text:
                message = f"is of sequences of tokens, but the samples of data are {self}; remove it"
                raise ScenarioError([Problem(key=f"workload.{name}", message=message)])
        if num_classes is not None and self.predicts_tokens:
            message = f"the samples of data are {self}: their classes are the tokens; set workload.vocabulary"
            raise ScenarioError([Problem(key="workload.classes", message=message)])
        spec = self if vocabulary is None else self.of_vocabulary(vocabulary)
        if sequence_length is not None:
            spec = spec.of_length(sequence_length)
        return spec_of(spec, image_shape, num_classes)

    def of_length(self, sequence_length: int) -> InputSpec:
        """Return the spec of longer or shorter sequences of the same tokens."""
        assert self.is_text, f"no sequences of tokens: {self}"
        target_shape = (sequence_length,) if self.target_shape else ()
        return replace(self, shape=(sequence_length,), target_shape=target_shape)

    def of_vocabulary(self, vocabulary: int) -> InputSpec:
        """Return the spec of the same sequences out of so many tokens."""
        num_classes = vocabulary if self.predicts_tokens else self.num_classes
        return replace(self, vocabulary=vocabulary, num_classes=num_classes)


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
