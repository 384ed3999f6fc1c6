"""Data frames of pandas: a column with the class, the others as a table of numbers and categories.

pandas is not needed for it: a frame is asked for its columns, each as an array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neulite_sim.data.arrow import HandedTableOptions
from neulite_sim.data.handing import Array, Handed, array_of, refusal, sample_place
from neulite_sim.data.holding_out import held_out_rows
from neulite_sim.data.image_files import Sentences, listed
from neulite_sim.data.reading_datasets import TARGET_KEYS
from neulite_sim.data.tabulating import tabulated
from neulite_sim.errors import close_matches


def is_frame(value: Any) -> bool:
    """Return whether a value is a data frame of pandas, by what it is called and has."""
    is_called_so = any(kind.__module__.partition(".")[0] == "pandas" for kind in type(value).__mro__)
    return is_called_so and hasattr(value, "columns") and hasattr(value, "to_numpy")


def handed_of_frames(train: Any, test: Any, options: HandedTableOptions, sentences: Sentences) -> Handed:
    """Return what one or two frames hand over.

    Raises:
        ScenarioError: it is not plain which column holds the class, or a cell is missing.
    """
    columns = [str(column) for column in train.columns]
    twice = next((column for place, column in enumerate(columns) if column in columns[:place]), None)
    if twice is not None:
        raise refusal(sentences.kind, f"two columns are called {twice!r}", "give each a name of its own")
    class_column, group = _label(columns, options.label, sentences), options.group
    for option, column in (("label", class_column), ("group", group)):
        _require(columns, column, option, sentences)
    inputs = [column for column in columns if column not in (class_column, group)]
    if test is not None:
        _require_same([*inputs, class_column], [str(column) for column in test.columns], sentences)
    parts = [None if frame is None else _columns(frame, inputs, part, sentences)
             for part, frame in (("train", train), ("test", test))]  # fmt: skip
    assert parts[0] is not None
    labels, is_test = _cells(train, class_column), None
    if test is None:
        is_test = held_out_rows(labels, options.test_share, sentences.kind, classes=options.classes)
    table = tabulated(parts[0], parts[1], sentences, is_test=is_test)
    return Handed(
        train_inputs=table.train,
        train_labels=labels,
        test_inputs=table.test,
        test_labels=None if test is None else _cells(test, class_column),
        groups=None if group is None else _cells(train, group),
        unscaled=table.unscaled,
    )


def _label(columns: Sequence[str], label: str | None, sentences: Sentences) -> str:
    likely = [column for column in columns if column.lower() in TARGET_KEYS]
    if label is not None or len(likely) == 1:
        return label or likely[0]
    found = f"{'several columns' if likely else 'no column'} may hold the class"
    hint = f"say which one with label: NAME, of {listed(likely or columns)}"
    raise refusal(sentences.kind, found, hint, key="data.label")


def _require(columns: Sequence[str], column: str | None, option: str, sentences: Sentences) -> None:
    if column is not None and column not in columns:
        found = f"there is no column {column!r}{close_matches(column, columns)}"
        raise refusal(sentences.kind, found, f"its columns are {listed(columns)}", key=f"data.{option}")


def _require_same(needed: Sequence[str], there: Sequence[str], sentences: Sentences) -> None:
    lack = next((column for column in needed if column not in there), None)
    if lack is not None:
        raise refusal(sentences.kind, f"the test part has no column {lack!r}", f"it has {listed(there)}")


def _column(frame: Any, column: str) -> Any:
    return frame.iloc[:, [str(name) for name in frame.columns].index(column)]


def _cells(frame: Any, column: str) -> Array:
    cells = _column(frame, column)
    # Categories and pandas' own types of texts and numbers come as objects.
    found: Array = cells.to_numpy()
    return found if found.dtype.kind in "biufU" else np.array(cells.tolist(), object)


def _columns(frame: Any, inputs: Sequence[str], part: str, sentences: Sentences) -> dict[str, Array]:
    made: dict[str, Array] = {}
    for column in inputs:
        gaps = np.asarray(_column(frame, column).isna())
        if gaps.any():
            found = f"{sample_place(part, int(np.argmax(gaps)))} has no {column}"
            raise refusal(sentences.kind, found, "fill it in or drop it, as fillna and dropna do")
        values = array_of(sentences.kind, f"column {column!r}", _cells(frame, column))
        if values.ndim > 1:
            found = f"each cell of column {column!r} holds {values[0].size} values"
            raise refusal(sentences.kind, found, "give each a column of its own, or the samples as one array")
        made[column] = values if values.dtype.kind == "U" else values.astype(np.float64)
    return made
