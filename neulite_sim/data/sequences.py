"""Texts as samples: windows of tokens, each with the token after it as target, or a whole window with one class.

A window of L + 1 tokens is kept once, in the smallest type that holds the ids: its first L tokens are what a network
reads, its last L what it is to predict. A sample is a sequence: partitions deal sequences, batches and updates count
them, and all of a dataset are of one length, so that each has as many targets as any other.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neulite_sim.bounds import SequenceLength
from neulite_sim.data.contract import DatasetOptions
from neulite_sim.data.numbers import Numbers, id_type
from neulite_sim.samples import InputSpec

Ids = NDArray[np.integer[Any]]
Targets = Literal["next-token", "class"]


class TextOptions(DatasetOptions):
    """Options that every dataset of texts has."""

    sequence_length: SequenceLength = 64
    """Tokens of a sequence, which is a sample."""
    targets: Targets = "next-token"
    """What is learned: the token after each token, or the class of a whole sequence."""


def windows_dataset(
    name: str,
    *,
    train_windows: Ids,
    test_windows: Ids,
    vocabulary: int,
    targets: Targets,
    train_classes: NDArray[np.int64] | None = None,
    test_classes: NDArray[np.int64] | None = None,
    num_classes: int = 0,
    groups: NDArray[np.int64] | None = None,
    left_out: tuple[str, ...] = (),
) -> Numbers:
    """Return the dataset of windows `[N, L + 1]`; classes, where they are known, are what partitions deal by."""
    length = train_windows.shape[1] - 1
    kind = id_type(vocabulary)
    train, test = (windows.astype(kind, copy=False) for windows in (train_windows, test_windows))
    if targets == "class":
        assert train_classes is not None
        assert test_classes is not None
        labels = train_classes, test_classes
        spec = InputSpec(shape=(length,), vocabulary=vocabulary, num_classes=num_classes)
    else:
        labels = train[:, 1:], test[:, 1:]
        spec = InputSpec(
            shape=(length,),
            vocabulary=vocabulary,
            num_classes=vocabulary,
            target_shape=(length,),
            predicts_tokens=True,
        )
    return Numbers(
        name=name,
        spec=spec,
        train_inputs=train[:, :-1],
        train_labels=labels[0],
        test_inputs=test[:, :-1],
        test_labels=labels[1],
        groups=groups,
        left_out=left_out,
        topics=train_classes,
    )
