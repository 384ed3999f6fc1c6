"""A dataset and an architecture of sequences of tokens, as small as they get: samples that are not images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from neulite_sim.data.contract import DatasetOptions
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.models.contract import BlockModel, scaled
from neulite_sim.models.initialisation import initialise
from neulite_sim.models.output import simplest_head
from neulite_sim.registry import Component, Options
from neulite_sim.samples import InputSpec
from neulite_sim.seeding import stream

LENGTH, VOCABULARY = 6, 8
SENTENCES = InputSpec(shape=(LENGTH,), vocabulary=VOCABULARY, num_classes=2)
"""One class per sequence."""
TAGS = InputSpec(shape=(LENGTH,), vocabulary=VOCABULARY, num_classes=VOCABULARY, target_shape=(LENGTH,))
"""One class per token."""


class SequenceOptions(DatasetOptions):
    """Options of `sequences`."""

    samples: int = 60
    """Number of training samples; half as many are for tests."""
    per_token: bool = False
    """Whether each token has a target, or each sequence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequences:
    """Token ids `[N, length]`, uint8 as they are kept."""

    name: str
    spec: InputSpec
    train_inputs: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_inputs: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    groups: NDArray[np.int64] | None = None
    left_out: tuple[str, ...] = ()
    augments: bool = False

    def augmented(self, inputs: Tensor, generator: Any) -> Tensor:
        raise AssertionError("nothing is augmented")

    def seen(self, inputs: Tensor) -> Tensor:
        return inputs.long()


def build_sequences(options: SequenceOptions, seed: int) -> Sequences:
    """Return random ids: a token's class is the next token's id, a sequence's whether it has many high ones."""
    inputs = stream(seed, "sequences").integers(0, VOCABULARY, (options.samples * 3 // 2, LENGTH)).astype(np.uint8)
    per_sequence = (inputs >= VOCABULARY // 2).sum(axis=1) > LENGTH // 2
    labels = ((inputs + 1) % VOCABULARY if options.per_token else per_sequence).astype(np.int64)
    cut = options.samples
    return Sequences(
        name="sequences",
        spec=TAGS if options.per_token else SENTENCES,
        train_inputs=inputs[:cut],
        train_labels=labels[:cut],
        test_inputs=inputs[cut:],
        test_labels=labels[cut:],
    )


class Places(nn.Module):
    """A linear layer and ReLU, the same at each place of a map `[B, C, length]`."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels_in, channels_out)

    def forward(self, maps_BCL: Tensor) -> Tensor:
        return self.fc(maps_BCL.transpose(1, 2)).relu().transpose(1, 2)


class Embedded(nn.Module):
    """Ids to a map, then `Places`."""

    def __init__(self, vocabulary: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, channels)
        self.layer = Places(channels, channels)

    def forward(self, ids_BL: Tensor) -> Tensor:
        return self.layer(self.embedding(ids_BL).transpose(1, 2))


def one_layer(before: tuple[int, ...], after: tuple[int, ...]) -> nn.Module:
    return Places(before[0], after[0])


def words(spec: InputSpec, width: float) -> BlockModel:
    """Return an embedding and two linear layers in two blocks, under the simplest head."""
    if spec.vocabulary is None:
        raise ScenarioError([Problem(key="model", message=f"words reads tokens, and the samples of data are {spec}")])
    channels = scaled(16, width)
    shape = (channels, *spec.shape)
    model = BlockModel(
        [Embedded(spec.vocabulary, channels), Places(channels, channels)],
        simplest_head(shape, spec),
        tails=(("layer",), ("fc",)),
        block_shapes=(shape, shape),
        basic_layer=one_layer,
    )
    initialise(model)
    return model


def build_words(_options: Options) -> Any:
    return words


DATASET = Component(
    kind="sequences", summary="random ids", source="the tests", options=SequenceOptions, build=build_sequences
)
MODEL = Component(kind="words", summary="an embedding", source="the tests", options=Options, build=build_words)

_ADDED = {
    "neulite_sim.datasets": EntryPoint("sequences", "sequence_components:DATASET", "neulite_sim.datasets"),
    "neulite_sim.architectures": EntryPoint("words", "sequence_components:MODEL", "neulite_sim.architectures"),
}


def with_sequences(entry_points: Any) -> Any:
    """Return what finds the entry points of a group, these two among them."""

    def found(group: str) -> Mapping[str, EntryPoint]:
        own = _ADDED.get(group)
        return {**entry_points(group), **({own.name: own} if own else {})}

    return found
