"""The types of the numbers and texts that a scenario may hold, each with the least and the most that it may be.

A bound is chosen from what the number stands for, far beyond anything that has been built, and near enough that sums
and products of a few of them stay exact: `docs/decisions/0024-bounds-on-every-number.md` says where each comes from.
Whether this machine has room for what a scenario within the bounds asks for is another question: see `room`.
"""

from __future__ import annotations

from collections.abc import Callable
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
MOST_LENGTH = 2**20
MOST_VOCABULARY = 2**24
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
SequenceLength = Annotated[int, Field(ge=2, le=MOST_LENGTH)]
"""Tokens of a sequence."""
VocabularySize = Annotated[int, Field(ge=2, le=MOST_VOCABULARY)]
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


# What one unit is of the next smaller one: kB, MB, GB; KiB, MiB, GiB; minutes and hours; and two or three steps.
_STEPS = {
    "size": (1e3, 2.0**10, 1e6, 2.0**20, 1e9, 2.0**30, 1e12),
    "duration": (60.0, 1e3, 3600.0, 86400.0, 1e6),
}
# Bounds of one thing seldom lie further apart.
_FAR_APART = {"size": 100.0, "duration": 30.0}


def out_of_order(
    low: tuple[str, float], high: tuple[str, float], written: Callable[[float], str], *, kind: str = "size"
) -> str:
    """Return that a lower bound lies above a higher one, and what to do: swap them, or look at the units.

    A bound is a name and a value, `written` makes a text of a value. Where the wrong order is that of another unit
    (8GB and 8MB), the values in the unit of the other are named.
    """
    (low_name, least), (high_name, most) = low, high
    found = f"{low_name} {written(least)} is above {high_name} {written(most)}"
    step = next((step for step in _STEPS[kind] if least / step <= most * (1 + 1e-9)), None)
    if step is None or least < most * _FAR_APART[kind]:
        return f"{found}; swap them"
    other = f"{low_name} {written(least / step)}, or {high_name} {written(most * step)}?"
    return f"{found}; look at their units ({other}), or swap them"


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
