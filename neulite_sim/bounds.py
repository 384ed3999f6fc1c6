"""The types of the numbers and texts that a scenario may hold, each with the least and the most that it may be.

A bound is chosen from what the number stands for, far beyond anything that has been built, and near enough that sums
and products of a few of them stay exact: `docs/decisions/0024-bounds-on-every-number.md` says where each comes from.
Whether this machine has room for what a scenario within the bounds asks for is another question: see `room`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from neulite_sim.units import Seconds

MOST_DEVICES = 10**7
MOST_SAMPLES = 10**9
MOST_BATCH = 10**6
MOST_EPOCHS = 10**4
MOST_ROUNDS = 10**6
MOST_CLASSES = 10**6
MOST_CHANNELS = 1024
MOST_SIDE = 4096
MOST_TIERS = 1000
MOST_ITEMS = 1000
MOST_THREADS = 1024
MOST_SEED = 2**63 - 1
MOST_NAME = 200
MOST_PATH = 4096
LEAST_DURATION_S = 0.001
"""Durations below a millisecond would come near the grid of times, 2**-20 s."""

DeviceCount = Annotated[int, Field(ge=1, le=MOST_DEVICES)]
SampleCount = Annotated[int, Field(ge=1, le=MOST_SAMPLES)]
BatchSize = Annotated[int, Field(ge=1, le=MOST_BATCH)]
EpochCount = Annotated[int, Field(ge=1, le=MOST_EPOCHS)]
RoundCount = Annotated[int, Field(ge=1, le=MOST_ROUNDS)]
RoundsOrNone = Annotated[int, Field(ge=0, le=MOST_ROUNDS)]
"""A number of rounds, or of versions that lie between two rounds, that may be 0."""
ClassCount = Annotated[int, Field(ge=2, le=MOST_CLASSES)]
ChannelCount = Annotated[int, Field(ge=1, le=MOST_CHANNELS)]
Side = Annotated[int, Field(ge=1, le=MOST_SIDE)]
"""Pixels along a side of an image."""
ResampledSide = Annotated[int, Field(ge=4, le=MOST_SIDE)]
LayerCount = Annotated[int, Field(ge=1, le=MOST_ITEMS)]
"""Layers of a block, or blocks of a network."""
TierCount = Annotated[int, Field(ge=1, le=MOST_TIERS)]
ThreadCount = Annotated[int, Field(ge=1, le=MOST_THREADS)]
Seed = Annotated[int, Field(ge=0, le=MOST_SEED)]

Share = Annotated[float, Field(gt=0, le=1)]
ShareOrNone = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=1e-12, le=1e12)]
"""How much something counts relative to others like it."""
WeightOrNone = Annotated[float, Field(ge=0, le=1e12)]
Factor = Annotated[float, Field(ge=1e-6, le=1000)]
"""What a quantity is multiplied by."""
SignedWeight = Annotated[float, Field(ge=-1e6, le=1e6)]
Coefficient = Annotated[float, Field(ge=0, le=1e6)]
"""Weight of a term of a loss or of a penalty."""
LearningRate = Annotated[float, Field(ge=1e-12, le=1000)]
LearningRateOrNone = Annotated[float, Field(ge=0, le=1000)]
Norm = Annotated[float, Field(ge=1e-12, le=1e12)]
Ridge = Annotated[float, Field(ge=1e-30, le=1)]
"""A small number that keeps a denominator or a matrix away from zero, within what fp32 can hold."""

Duration = Annotated[Seconds, Field(ge=LEAST_DURATION_S)]
"""A length of time that lies between two events."""


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError(f"{text!r} holds a NUL byte, which no name or path can have; remove it")
    return text


_TEXT = {"pattern": "^[^\\u0000]*$"}
Name = Annotated[
    str, Field(min_length=1, max_length=MOST_NAME, json_schema_extra={**_TEXT}), AfterValidator(_without_nul)
]
"""What something is called: a device of the catalogue, a column, an address."""
PathText = Annotated[
    str, Field(min_length=1, max_length=MOST_PATH, json_schema_extra={**_TEXT}), AfterValidator(_without_nul)
]
"""A path as the user writes it."""
