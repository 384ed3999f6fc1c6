"""The contract of a dataset: two arrays of inputs and two of labels, held in memory.

Who calls it: the engine's assembly calls `Component.build(options, seed)` of a registered dataset once per run and
gets an `AnyDataset`, that of images being `Dataset`; the workers index its `train_inputs` by the partition's sample
numbers and turn them into what a network reads with `seen`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from neulite_sim.bounds import ResampledSide, SampleCount
from neulite_sim.data.batches import augment_crop_flip, normalise
from neulite_sim.data.feature_skew import FeatureSkew, View
from neulite_sim.later import Tensor, torch
from neulite_sim.registry import Choice, Options
from neulite_sim.room import require_room
from neulite_sim.samples import ImageShape, InputSpec
from neulite_sim.scenario.component_fields import ComponentField


class DatasetOptions(Options):
    """Options that every dataset has."""

    partition: Annotated[Choice, ComponentField("partition")] = Field("iid", validate_default=True)
    """How the training samples are dealt to devices."""
    feature_skew: FeatureSkew | None = None
    """How each device sees its samples in a way of its own; all see them as they are where it is not given."""


class ImageDatasetOptions(DatasetOptions):
    """Options that every image dataset has."""

    image_size: ResampledSide | None = None
    """Side of the square images after area resampling; the dataset's own size where it is not given."""
    train_samples: SampleCount | None = None
    """A seeded subset of this many training samples; all where it is not given."""
    test_samples: SampleCount | None = None
    """A seeded subset of this many test samples; all where it is not given."""
    augmentation: Literal["none", "crop-flip"] = "none"
    """`crop-flip`: padding of an eighth of the side with random crop, and horizontal flip, on training batches."""

    def require_room(self) -> None:
        """Refuse images that this machine does not hold, where their number and size are given.

        Raises:
            ScenarioError: with the bytes needed and those that are free.
        """
        images = (self.train_samples or 0) + (self.test_samples or 0)
        side = self.image_size or 0
        require_room(
            images * side**2,
            f"{images} images of {side} x {side}",
            key="data.image_size",
            advice="lower it, data.train_samples or proxy.image_size",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Which of the `count` samples that somebody gave the training samples are: `numbers`, in their order."""

    numbers: NDArray[np.int64]
    count: int

    def chosen(self, places: NDArray[np.int64] | slice) -> Given:
        """Return the same of some of the training samples."""
        return Given(numbers=self.numbers[places], count=self.count)


class AnyDataset(Protocol):
    """What the engine and its workers ask of a dataset of any kind; it travels to worker processes."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def spec(self) -> InputSpec:
        """What a sample is for a network."""

    @property
    def train_inputs(self) -> NDArray[Any]:
        """Training inputs as they are kept, `[N, *spec.shape]`."""

    @property
    def train_labels(self) -> NDArray[Any]:
        """Their targets, `[N, *spec.target_shape]`; int64, or any whole numbers where they are tokens."""

    @property
    def test_inputs(self) -> NDArray[Any]:
        """Inputs of the test samples, like those for training."""

    @property
    def test_labels(self) -> NDArray[Any]:
        """Their targets."""

    @property
    def groups(self) -> NDArray[np.int64] | None:
        """The natural owner of each training sample; None where none is known."""

    @property
    def left_out(self) -> tuple[str, ...]:
        """What of its files was left out or taken otherwise than it stands there, a sentence each."""

    @property
    def augments(self) -> bool:
        """Whether training batches are `augmented` each time anew before they are `seen`."""

    def augmented(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return a batch of kept inputs, each altered at random."""

    def seen(self, inputs: Tensor) -> Tensor:
        """Return what a network reads of kept inputs, of `spec.dtype`, on their device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Images `[N, C, H, W]`, uint8 or float32, and int64 labels `[N]`; training and test part.

    `mean` and `std` have one value per channel, in units of `pixel_scale`: a network sees
    `(image / pixel_scale - mean) / std`. `groups` is the natural owner of each training sample (a writer, for
    example), or None where the dataset knows none.
    """

    name: str
    train_images: NDArray[np.uint8] | NDArray[np.float32]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8] | NDArray[np.float32]
    test_labels: NDArray[np.int64]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixel_scale: float = 1.0
    augmentation: Literal["none", "crop-flip"] = "none"
    groups: NDArray[np.int64] | None = None
    left_out: tuple[str, ...] = ()
    """What of its files was left out or taken otherwise than it stands there, a sentence each."""
    given: Given | None = None
    """Which samples of those given as training part these are; None where they are all."""

    @property
    def input_shape(self) -> ImageShape:
        """Channels, height and width of an image."""
        _, channels, height, width = self.train_images.shape
        return channels, height, width

    @property
    def spec(self) -> InputSpec:
        """An image and its class."""
        return InputSpec(shape=self.input_shape, num_classes=self.num_classes)

    @property
    def train_inputs(self) -> NDArray[np.uint8] | NDArray[np.float32]:
        """The training images."""
        return self.train_images

    @property
    def test_inputs(self) -> NDArray[np.uint8] | NDArray[np.float32]:
        """The test images."""
        return self.test_images

    @property
    def augments(self) -> bool:
        """Whether training images are cropped and mirrored."""
        return self.augmentation == "crop-flip"

    def augmented(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return images cropped, where black is zero, and mirrored at random."""
        return augment_crop_flip(inputs, generator)

    def seen(self, inputs: Tensor) -> Tensor:
        """Return normalised images."""
        return normalise(inputs, mean=self.mean, std=self.std, pixel_scale=self.pixel_scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """Which training samples each device owns: `samples[offsets[d]:offsets[d + 1]]`, ascending within a device.

    A training sample belongs to one device at most (to exactly one, unless the partition leaves samples out, as
    `natural` does with fewer devices than groups); a device may own none.
    """

    samples: NDArray[np.int64]
    offsets: NDArray[np.int64]
    left_out: tuple[str, ...] = ()
    """Which samples belong to nobody, a sentence each."""
    view: View | None = None
    """How each device sees what it owns; as it is where this is None."""
    sizes: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    """Number of samples of each device; one column for all who ask."""

    def __post_init__(self) -> None:
        sizes = np.diff(self.offsets)
        sizes.flags.writeable = False
        object.__setattr__(self, "sizes", sizes)

    @property
    def num_devices(self) -> int:
        """Number of devices, those without samples included."""
        return len(self.offsets) - 1

    def of(self, device: int) -> NDArray[np.int64]:
        """Return the sample numbers of one device."""
        return self.samples[self.offsets[device] : self.offsets[device + 1]]
