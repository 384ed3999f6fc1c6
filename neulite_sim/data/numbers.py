"""Datasets of samples that are no images: rows of numbers (tables, series) and sequences of token ids."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neulite_sim.data.contract import Given
from neulite_sim.errors import Problem, ScenarioError
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
    train_labels: NDArray[Any]
    test_inputs: NDArray[Any]
    test_labels: NDArray[Any]
    groups: NDArray[np.int64] | None = None
    left_out: tuple[str, ...] = ()
    topics: NDArray[np.int64] | None = None
    """The class of each training sample to deal them by, where their targets are tokens; None where none is known."""
    given: Given | None = None
    """Which samples of those given as training part these are; None where they are all."""

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


def shortened(dataset: Any, sequence_length: int) -> Numbers:
    """Return the same samples of the same owners, each cut off after so many of its tokens.

    Raises:
        ScenarioError: samples are no sequences of tokens, or shorter ones.
    """
    if not isinstance(dataset, Numbers) or not dataset.spec.is_text:
        message = f"is of sequences of tokens, but the samples of data are {dataset.spec}; remove it"
        raise ScenarioError([Problem(key="proxy.sequence_length", message=message)])
    (whole,) = dataset.spec.shape
    if sequence_length > whole:
        message = f"is {sequence_length}, but a sequence of data has {whole} tokens; use 2 to {whole}, or a larger "
        raise ScenarioError([Problem(key="proxy.sequence_length", message=f"{message}data.sequence_length")])
    spec = dataset.spec.of_length(sequence_length)
    places = (slice(None), slice(sequence_length))
    return replace(
        dataset,
        spec=spec,
        train_inputs=dataset.train_inputs[places],
        test_inputs=dataset.test_inputs[places],
        train_labels=dataset.train_labels[places] if spec.target_shape else dataset.train_labels,
        test_labels=dataset.test_labels[places] if spec.target_shape else dataset.test_labels,
    )


def id_type(vocabulary: int) -> type[np.integer[Any]]:
    """Return the smallest type that holds the ids 0 to `vocabulary` - 1 and that PyTorch knows."""
    return next(kind for kind in (np.uint8, np.int16, np.int32) if vocabulary - 1 <= np.iinfo(kind).max)
