"""The sections of a scenario about its two ledgers: what devices are charged for, and what is really trained."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from neulite_sim.bounds import (
    BatchSize,
    ChannelCount,
    ClassCount,
    EpochCount,
    ResampledSide,
    SampleCount,
    SequenceLength,
    Share,
    Side,
    VocabularySize,
)
from neulite_sim.registry import Choice, Options
from neulite_sim.scenario.component_fields import ComponentField
from neulite_sim.scenario.local_training import Precision
from neulite_sim.units import Bytes


class NoAllocator(Options):
    """Tensor bytes alone are compared with the memory of devices."""

    compared_with_memory: ClassVar[str] = "tensor_bytes"
    """The name of the peak that decides who can train."""

    kind: Literal["none"] = "none"


class CachingAllocator(Options):
    """Blocks are rounded up and the framework has a context; both count when devices are compared with a peak.

    512 bytes is the rounding of PyTorch's CUDA allocator. Blocks that an allocator keeps for later are not modelled.
    """

    compared_with_memory: ClassVar[str] = "allocator_bytes"
    """The name of the peak that decides who can train."""

    kind: Literal["caching"] = "caching"
    round_bytes: Annotated[int, Field(ge=1, le=2**40)] = 512
    """Each block takes a multiple of as many bytes."""
    context: Bytes = 0
    """What the framework holds beside tensors, such as 300MB for a CUDA context."""


class GlibcAllocator(Options):
    """The whole process on a processor is compared with the memory of devices: its runtime and glibc's heap.

    The heap is replayed allocation by allocation, with the holes that are left between blocks.
    """

    compared_with_memory: ClassVar[str] = "process_bytes"
    """The name of the peak that decides who can train."""

    kind: Literal["glibc"] = "glibc"
    base: Bytes = 359_000_000
    """Resident bytes of the process before the model is built: Python, PyTorch, what it imports and its kernels."""
    mmap_threshold: Annotated[Bytes, Field(ge=4096, le=2**30)] | None = None
    """Blocks as large are mapped by themselves (MALLOC_MMAP_THRESHOLD_); none: as glibc moves it."""


class Workload(Options):
    """What devices are charged for, where it differs from what is studied."""

    model: Annotated[Choice, ComponentField("model")] | None = None
    """Architecture that devices are charged for."""
    input_shape: tuple[ChannelCount, Side, Side] | None = None
    """Channels, height and width of an input."""
    classes: ClassCount | None = None
    """Number of classes."""
    sequence_length: SequenceLength | None = None
    """Tokens of a sequence."""
    vocabulary: VocabularySize | None = None
    """Number of tokens that there are, where the model has no vocabulary of its own."""
    samples_per_device: SampleCount | None = None
    """Number of samples of each device."""
    batch_size: BatchSize | None = None
    """Samples per optimizer step."""
    epochs: EpochCount | None = None
    """Passes over a device's own samples in each participation."""
    precision: Precision | None = None
    """Numbers of forward pass and loss: fp32, bf16 or fp16."""
    micro_batch_size: BatchSize | None = None
    """Samples per forward and backward pass; the batch size for whole batches."""
    checkpointing: bool | None = None
    """Whether only the input of each block is kept for the backward pass."""


class Proxy(Options):
    """What is really trained, where it differs from what is studied; always named as such in results."""

    width: Share | None = None
    """Share of the channels of each layer that is really trained."""
    image_size: ResampledSide | None = None
    """Side of the images that are really trained on."""
    sequence_length: SequenceLength | None = None
    """Tokens of the sequences that are really trained on: the first ones of each, at most as many as the data's."""
    batch_size: BatchSize | None = None
    """Samples per optimizer step."""
    epochs: EpochCount | None = None
    """Passes over a device's own samples in each participation."""
    precision: Precision | None = None
    """Numbers of forward pass and loss: fp32, bf16 or fp16."""
    micro_batch_size: BatchSize | None = None
    """Samples per forward and backward pass; the batch size for whole batches."""
    checkpointing: bool | None = None
    """Whether only the input of each block is kept for the backward pass."""
