"""From tables of the library `datasets`, or of Parquet and Arrow files, to what is handed over: which column is what.

The label is the one ClassLabel column, else the one called label, target and the like. Inputs are the one column of
pictures, else the one of lists that is called like inputs or is alone, else all numbers and texts as a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neulite_sim.bounds import Name
from neulite_sim.data.columns import arrow, column_array, kind_of
from neulite_sim.data.handing import Array, Handed, refusal
from neulite_sim.data.holding_out import held_out_rows
from neulite_sim.data.image_files import Sentences, listed
from neulite_sim.data.interpreting import HandedOptions
from neulite_sim.data.reading_datasets import INPUT_KEYS, TARGET_KEYS, Items, Keys, handed_of_items, read_items
from neulite_sim.data.tabulating import tabulated
from neulite_sim.errors import close_matches

_VALIDATION = ("validation", "valid", "val", "dev")


class HandedTableOptions(HandedOptions):
    """How tables are read: which column is what, found by type and name where it is not said."""

    input: Name | None = None
    """Column with the inputs; pictures, lists, or all columns of numbers and texts where it is not given."""
    label: Name | None = None
    """Column with the class."""
    group: Name | None = None
    """Column with the owner of each sample, for partition `natural`; it is not learned from."""


def handed_of_tables(splits: Mapping[str, Any], options: HandedTableOptions, sentences: Sentences) -> Handed:
    """Return what the splits of a dataset hand over; each is a `datasets.Dataset` or a pyarrow table.

    Raises:
        ScenarioError: no split trains, it is not plain which column is what, or a value is wrong.
        NeuliteError: pyarrow is not installed.
    """
    train, test = _parts(splits, sentences)
    if any(_is_transformed(part) for part in (train, test)):
        keys, side = Keys(input=options.input, label=options.label, group=options.group), options.image_size
        first = read_items(train, "train", sentences, side=side, keys=keys)
        second = Items(inputs=None, targets=None)
        if test is not None:
            second = read_items(test, "test", sentences, side=side, keys=keys)
        return handed_of_items(first, second)
    table, features = _table(train)
    others, _ = (None, {}) if test is None else _table(test)
    kinds = {column: kind_of(table, column, features.get(column)) for column in table.column_names}
    label = _label(kinds, options, sentences)
    _require_column(options.group, "group", kinds, sentences)
    inputs = _inputs(kinds, label, options, sentences)
    _require_same(table, others, [*inputs, label], sentences)
    if unused := [column for column in kinds if column not in (*inputs, label, options.group)]:
        sentences.say(f"columns not read: {listed(unused)}")

    def arrays(column: str, side: int | None = None) -> list[Array | None]:
        return [
            None if each is None else column_array(each, column, part, kinds[column], side, sentences)
            for part, each in (("train", table), ("test", others))
        ]

    unscaled = None
    first_labels, second_labels = arrays(label)
    names = features.get(label, {}).get("names") if kinds[label] == "class" else None
    classes = len(names) if names and len(names) > 1 else None
    if len(inputs) == 1 and kinds[inputs[0]] in ("picture", "list"):
        side = options.image_size if kinds[inputs[0]] == "picture" else None
        first_inputs, second_inputs = arrays(inputs[0], side)
    else:
        made = {column: arrays(column) for column in inputs}
        parts = [{column: _cells(each[number]) for column, each in made.items()} for number in range(1 + bool(others))]
        is_test = None
        if others is None:
            known = classes if options.classes is None else options.classes
            is_test = held_out_rows(first_labels, options.test_share, sentences.kind, classes=known)
        rows = tabulated(parts[0], parts[1] if others is not None else None, sentences, is_test=is_test)
        first_inputs, second_inputs, unscaled = rows.train, rows.test, rows.unscaled
    group = None if options.group is None else column_array(
        table, options.group, "train", kinds[options.group], None, sentences
    )  # fmt: skip
    return Handed(
        train_inputs=first_inputs,
        train_labels=first_labels,
        test_inputs=second_inputs,
        test_labels=second_labels,
        groups=group,
        classes=classes,
        unscaled=unscaled,
    )


def _cells(values: Array | None) -> Array:
    assert values is not None
    return values if values.dtype.kind == "U" else values.astype(np.float64)


def _parts(splits: Mapping[str, Any], sentences: Sentences) -> tuple[Any, Any]:
    """Return the split to train on and that to test on, None where there is none.

    Raises:
        ScenarioError: there are several splits and none is called train.
    """
    if len(splits) == 1:
        return next(iter(splits.values())), None
    if "train" not in splits:
        hint = "call one train, and one test"
        raise refusal(sentences.kind, f"no split is called train: {listed(splits)}", hint)
    test = next((name for name in ("test", *_VALIDATION) if name in splits), None)
    if test in _VALIDATION:
        sentences.say(f"there is no split test; {test} is tested on")
    if unused := [name for name in splits if name not in ("train", test)]:
        sentences.say(f"splits not read: {listed(unused)}")
    return splits["train"], None if test is None else splits[test]


def _is_transformed(split: Any) -> bool:
    """Return whether samples are made when they are asked for, by `set_transform`."""
    form = getattr(split, "format", None)
    return isinstance(form, Mapping) and form.get("type") == "custom"


def _table(split: Any) -> tuple[Any, Mapping[str, Any]]:
    """Return a split as an Arrow table, and what `datasets` knows of its columns, nothing where it is of others."""
    arrow()
    if hasattr(split, "with_format"):
        features: Mapping[str, Any] = split.features.to_dict()
        return split.with_format("arrow")[:], features
    table, features = split
    return table, features


def _require_column(column: str | None, option: str, kinds: Mapping[str, str], sentences: Sentences) -> None:
    if column is not None and column not in kinds:
        near = close_matches(column, kinds)
        hint = f"its columns are {listed(kinds)}"
        raise refusal(sentences.kind, f"there is no column {column!r}{near}", hint, key=f"data.{option}")


def _label(kinds: Mapping[str, str], options: HandedTableOptions, sentences: Sentences) -> str:
    if options.label is not None:
        _require_column(options.label, "label", kinds, sentences)
        return options.label
    classes = [column for column, kind in kinds.items() if kind == "class"]
    likely = classes or [column for column in kinds if column.lower() in TARGET_KEYS]
    if len(likely) == 1:
        return likely[0]
    found = "several columns may hold the class" if likely else "no column is known to hold the class"
    hint = f"say which one with label: NAME, of {listed(likely or kinds)}"
    raise refusal(sentences.kind, found, hint, key="data.label")


def _inputs(kinds: Mapping[str, str], label: str, options: HandedTableOptions, sentences: Sentences) -> Sequence[str]:
    if options.input is not None:
        _require_column(options.input, "input", kinds, sentences)
        if kinds[options.input] == "other":
            hint = f"use one of pictures, numbers, texts or lists of numbers, of {listed(kinds)}"
            raise refusal(sentences.kind, f"column {options.input!r} holds none of these", hint, key="data.input")
        return [options.input]
    rest = {column: kind for column, kind in kinds.items() if column not in (label, options.group)}
    for wanted in ("picture", "list"):
        found = [column for column, kind in rest.items() if kind == wanted]
        likely = found if len(found) == 1 else [column for column in INPUT_KEYS if column in found][:1]
        if likely:
            return likely
        if found:
            hint = f"say which one with input: NAME, of {listed(found)}"
            raise refusal(sentences.kind, "several columns may hold the inputs", hint, key="data.input")
    table = [column for column, kind in rest.items() if kind in ("number", "text", "class")]
    if not any(rest[column] in ("number", "class") for column in table):
        what = f"only texts ({listed(table)})" if table else "no inputs"
        hint = "make numbers of them first, as a tokenizer does with map(), or name one column of categories with input"
        raise refusal(sentences.kind, f"beside the label there are {what}", hint, key="data.input")
    return table


def _require_same(table: Any, others: Any, needed: Sequence[str], sentences: Sentences) -> None:
    if others is None:
        return
    lack = next((column for column in needed if column not in others.column_names), None)
    if lack is not None:
        raise refusal(sentences.kind, f"the test part has no column {lack!r}", f"it has {listed(others.column_names)}")
