"""Which samples are held out for tests where data came in one part, told before anything is learned from the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neulite_sim.data.handing import Place, refusal, sample_place
from neulite_sim.data.image_files import Sentences
from neulite_sim.data.labelling import labels_of
from neulite_sim.data.partition import evenly_ordered
from neulite_sim.seeding import stream


def held_out(labels_N: NDArray[np.int64], share: float, name: str) -> NDArray[np.bool_]:
    """Return which samples of these classes are held out: of each class the same share, by chance.

    The chance is that of no run: runs of all seeds are tested on the same samples.

    Raises:
        ScenarioError: there are too few samples for two parts.
    """
    count = len(labels_N)
    num_test = int(np.rint(share * count))
    if not 0 < num_test < count:
        hint = "give a test part, or another data.test_share"
        raise refusal(name, f"{share:g} of {count} samples leave one of the two parts empty", hint)
    order = evenly_ordered(labels_N, stream(0, "held-out"))
    is_test = np.zeros(count, np.bool_)
    is_test[order[:num_test]] = True
    # What is tested has to be trained: the only sample of a class stays.
    lost = np.setdiff1d(labels_N[is_test], labels_N[~is_test])
    for class_ in lost:
        is_test[np.flatnonzero((labels_N == class_).reshape(count, -1).any(axis=1))[0]] = False
    if not is_test.any():
        hint = "give a test part; labels that are quantities are no classes"
        raise refusal(name, f"of {count} samples, each the only one of its class, none can be held out", hint)
    return is_test


def held_out_rows(
    labels: object, share: float, name: str, *, classes: int | None, place: Place = sample_place
) -> NDArray[np.bool_]:
    """Return which rows of a table are held out, by their labels as they were handed over, one per row.

    Raises:
        ScenarioError: the labels are no classes, or there are too few rows for two parts.
    """
    read = labels_of(labels, None, classes=classes, per_place=False, place=place, sentences=Sentences(name))
    return held_out(read.train, share, name)
