"""Datasets of samples that are no images: rows of numbers (tables, series) and sequences of token ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neulite_sim.later import Tensor, torch
from neulite_sim.samples import InputSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Float32 numbers `[N, *spec.shape]` as a network reads them, or ids of tokens in the smallest type for them.

    Standardising is done once, when they are made: a table may hold numbers so far from zero that float32 loses them.
    """

    name: str
    spec: InputSpec
    train_inputs: NDArray[Any]
    train_labels: NDArray[np.int64]
    test_inputs: NDArray[Any]
    test_labels: NDArray[np.int64]
    groups: NDArray[np.int64] | None = None
    left_out: tuple[str, ...] = ()

    @property
    def augments(self) -> bool:
        """Whether samples are altered: never."""
        return False

    def augmented(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return the samples as they are."""
        del generator
        return inputs

    def seen(self, inputs: Tensor) -> Tensor:
        """Return the numbers, or ids as int64."""
        return inputs.to(torch.float32 if self.spec.vocabulary is None else torch.int64)


def id_type(vocabulary: int) -> type[np.integer[Any]]:
    """Return the smallest type that holds the ids 0 to `vocabulary` - 1 and that PyTorch knows."""
    return next(kind for kind in (np.uint8, np.int16, np.int32) if vocabulary - 1 <= np.iinfo(kind).max)
