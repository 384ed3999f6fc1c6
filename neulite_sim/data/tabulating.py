"""From the columns of a table to the numbers that a network reads: categories become one-hot, numbers stay.

Categories are those of the training part in sorted order; one that only a test sample has is all zeros there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neulite_sim.data.handing import Array, refusal
from neulite_sim.data.image_files import Sentences, listed
from neulite_sim.room import require_room

MOST_CATEGORIES = 1000
"""Columns with more different texts are names, addresses or free text."""

Columns = Mapping[str, Array]
"""By name, a column of floats, or of texts that are categories."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tabulated:
    """Rows of numbers of both parts, and which of their columns are one-hot and stay as they are."""

    train: NDArray[np.float64]
    test: NDArray[np.float64] | None
    unscaled: NDArray[np.bool_]


def tabulated(
    train: Columns, test: Columns | None, sentences: Sentences, *, is_test: NDArray[np.bool_] | None = None
) -> Tabulated:
    """Return a table as rows of numbers; what became of its columns is told to `sentences`.

    `is_test` says which rows of `train` are held out for the test where there is no part of its own for it.

    Raises:
        ScenarioError: there is no column, or one has too many categories.
    """
    name = sentences.kind
    if not train:
        raise refusal(name, "no column is left to learn from", "leave columns beside the label and the group")
    seen = slice(None) if is_test is None else ~is_test
    categories = {column: np.unique(cells[seen]) for column, cells in train.items() if cells.dtype.kind == "U"}
    for column in categories:
        if (count := len(np.unique(train[column]))) > MOST_CATEGORIES:
            found = f"column {column!r} has {count:,} different texts, at most {MOST_CATEGORIES:,} are categories"
            raise refusal(name, found, f"leave it out with ignore: [{column}], or make numbers of it")
    parts = [train] if test is None else [train, test]
    width = sum(len(categories.get(column, "1")) for column in train)
    rows = sum(len(next(iter(part.values()))) for part in parts)
    require_room(12 * width * rows, f"{rows:,} rows of {width:,} numbers", key="data", advice="leave out columns")
    made = [_numbers(part, categories, width, sentences) for part in parts]
    if categories:
        said = listed(f"{column} ({len(values)})" for column, values in categories.items())
        sentences.say(f"categories made one-hot: {said}; {width:,} numbers per sample")
    unscaled = np.concatenate([np.full(len(categories.get(column, "1")), column in categories) for column in train])
    return Tabulated(train=made[0], test=made[1] if test is not None else None, unscaled=unscaled)


def _numbers(columns: Columns, categories: Columns, width: int, sentences: Sentences) -> NDArray[np.float64]:
    count = len(next(iter(columns.values())))
    numbers = np.zeros((count, width))
    start = 0
    for column, cells in columns.items():
        values = categories.get(column)
        if values is None:
            numbers[:, start] = cells
            start += 1
            continue
        places = np.minimum(np.searchsorted(values, cells), len(values) - 1)
        is_known = values[places] == cells
        rows = np.flatnonzero(is_known)
        numbers[rows, start + places[rows]] = 1
        start += len(values)
        if unknown := count - len(rows):
            sentences.say(f"{unknown:,} test samples have a {column} that no training sample has: all zeros there")
    return numbers
