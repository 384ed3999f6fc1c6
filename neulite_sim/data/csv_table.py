"""Tables of your own: a CSV file with a header, a line per sample, a column with the class.

| column | becomes |
| --- | --- |
| numbers | the number, mean 0 and deviation 1 over the training part |
| texts, or one of `categorical` | one-hot: a number per text |
| `label` | the class, numbered in sorted order unless it is 0 to C - 1 already |
| `group` | the owner of each sample, for partition `natural`; it is not learned from |

An empty cell, NA, N/A, NaN, null, None or ? is missing. Commas, semicolons and tabs separate, whichever the first line
has most of; a name ending in .gz is unpacked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from neulite_sim.bounds import MOST_ITEMS, Name
from neulite_sim.data.contract import AnyDataset
from neulite_sim.data.handing import Array, Handed, require_files
from neulite_sim.data.holding_out import held_out_rows
from neulite_sim.data.image_files import Sentences, listed
from neulite_sim.data.interpreting import HandedOptions, dataset_of
from neulite_sim.data.tabulating import tabulated
from neulite_sim.errors import Problem, ScenarioError, close_matches
from neulite_sim.outside import number_or_nan, plain_numbers, user_path
from neulite_sim.registry import Component
from neulite_sim.scenario.inputs import InputFile
from neulite_sim.traces.importers.contract import read_csv

KIND = "csv"
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
LABELS = ("label", "target", "class", "y")
_MOSTLY = 0.5
"""A column of which more cells than this share are numbers is one of numbers, and the others are mistakes."""

Names = Annotated[tuple[Name, ...], Field(max_length=MOST_ITEMS)]


class CsvOptions(HandedOptions):
    """Options of `csv`."""

    path: InputFile
    """CSV file with the training samples; beside the scenario's file or in the current folder."""
    test_path: InputFile | None = None
    """CSV file with the test samples, of the same columns; a share of `path` is held out where it is not given."""
    label: Name | None = None
    """Column with the class; the one called label, target, class or y where it is not given."""
    group: Name | None = None
    """Column with the owner of each sample, for partition `natural`."""
    ignore: Names = ()
    """Columns that are not learned from."""
    categorical: Names = ()
    """Columns of numbers that are categories."""
    missing: Literal["refuse", "drop", "fill"] = "refuse"
    """What becomes of missing cells: `drop` leaves out the line, `fill` takes the training mean, or a category more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """The cells of a column: as they stand, as numbers (NaN where they are none), and which are missing."""

    cells: list[str]
    numbers: NDArray[np.float64]
    lacks: NDArray[np.bool_]

    @classmethod
    def of(cls, cells: list[str]) -> _Column:
        numbers = np.array(plain_numbers(cells))
        lacks = np.zeros(len(cells), np.bool_)
        for place in np.flatnonzero(np.isnan(numbers)).tolist():
            lacks[place] = cells[place].lower() in MISSING
        return cls(cells=cells, numbers=numbers, lacks=lacks)

    @property
    def is_mostly_numbers(self) -> bool:
        """Whether more than half of the cells that are not missing are numbers."""
        return bool((~np.isnan(self.numbers)).sum() > _MOSTLY * (~self.lacks).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """The lines of one file: of each its number, and its columns by name."""

    path: Path
    lines: NDArray[np.int64]
    columns: dict[str, _Column]

    def kept(self, is_kept: NDArray[np.bool_]) -> _Part:
        places = np.flatnonzero(is_kept)
        columns = {
            name: _Column(
                cells=[column.cells[place] for place in places.tolist()],
                numbers=column.numbers[places],
                lacks=column.lacks[places],
            )
            for name, column in self.columns.items()
        }
        return replace(self, lines=self.lines[places], columns=columns)


def build(options: CsvOptions, seed: int) -> AnyDataset:
    """Return the table as rows of numbers; `seed` acts only on subsets.

    Raises:
        DataNotFoundError: a file is missing or is no text.
        ScenarioError: a line or a cell is wrong, with its file, line and column, or an option does not go with it.
    """
    sentences = Sentences(KIND)
    train = _read(options, options.path, "path")
    test = None if options.test_path is None else _read(options, options.test_path, "test_path")
    label = _label(options, train)
    _require_columns(options, train, test, label)
    ignored = {label, *options.ignore, *([options.group] if options.group else [])}
    inputs = [column for column in train.columns if column not in ignored]
    categorical = _categories(options, train, inputs)
    train = _complete(options, train, label, inputs, sentences)
    test = None if test is None else _complete(options, test, label, inputs, sentences)

    def place(part: str, number: int) -> str:
        found = test if part == "test" and test is not None else train
        return f"{found.path}:{found.lines[number]}"

    labels, is_test = _classes(train, label), None
    if test is None:
        is_test = held_out_rows(labels, options.test_share, KIND, classes=options.classes, place=place)
    first, second = _values(train, test, inputs, categorical, sentences, is_test)
    table = tabulated(first, second, sentences, is_test=is_test)
    handed = Handed(
        train_inputs=table.train,
        train_labels=labels,
        test_inputs=table.test,
        test_labels=None if test is None else _classes(test, label),
        groups=None if options.group is None else np.array(train.columns[options.group].cells),
        unscaled=table.unscaled,
        place=place,
    )
    return dataset_of(handed, options, sentences, seed)


def _problem(part: _Part | Path, line: int | None, message: str, hint: str, key: str = "data.path") -> ScenarioError:
    path = part if isinstance(part, Path) else part.path
    return ScenarioError([Problem.advising(key=key, found=message, hint=hint, file=str(path), line=line)])


def _read(options: CsvOptions, written: str, option: str) -> _Part:
    path = user_path(written).absolute()
    lines = read_csv(path, delimiter=None)
    key = f"data.{option}"
    if len(lines) < 2:
        what = "is empty" if not lines else "holds a header and no line below it"
        raise _problem(path, None, what, "write a header and a line per sample", key)
    first, header = lines[0]
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise _problem(path, first, f"has two columns called {twice!r}", "rename one", key)
    if len(header) < 2:
        raise _problem(path, first, f"has one column, {header[0][:40]!r}", "separate columns by commas", key)
    if not any(math.isnan(number_or_nan(name)) for name in header):
        raise _problem(path, first, "begins with numbers", "put a line with the names of the columns on top", key)
    for number, cells in lines[1:]:
        if len(cells) != len(header):
            found = f"has {len(cells)} columns where the header has {len(header)}"
            raise _problem(path, number, found, "give each line every column", key)
    numbers = np.array([number for number, _ in lines[1:]], np.int64)
    columns = {name: _Column.of([cells[place] for _, cells in lines[1:]]) for place, name in enumerate(header)}
    return _Part(path=path, lines=numbers, columns=columns)


def _label(options: CsvOptions, train: _Part) -> str:
    likely = [name for name in train.columns if name.lower() in LABELS]
    if options.label is not None:
        return options.label
    if len(likely) == 1:
        return likely[0]
    found = f"{'several columns' if likely else 'no column'} may hold the class"
    hint = f"say which one with label: NAME, of {listed(likely or train.columns)}"
    raise _problem(train, 1, found, hint, "data.label")


def _require_columns(options: CsvOptions, train: _Part, test: _Part | None, label: str) -> None:
    asked = {"label": (label,), "group": (options.group,), "ignore": options.ignore, "categorical": options.categorical}
    for option, names in asked.items():
        for name in names:
            if name is not None and name not in train.columns:
                near = close_matches(name, train.columns)
                found = f"there is no column {name!r} in {train.path}{near}"
                hint = f"its columns are {listed(train.columns)}"
                raise ScenarioError([Problem.advising(key=f"data.{option}", found=found, hint=hint)])
    if test is not None:
        needed = [name for name in train.columns if name not in (options.group, *options.ignore)]
        lack = next((name for name in needed if name not in test.columns), None)
        if lack is not None:
            found = f"has no column {lack!r}, which {train.path} has"
            raise _problem(test, 1, found, "give both files the same columns, or ignore it", "data.test_path")


def _complete(options: CsvOptions, part: _Part, label: str, inputs: Sequence[str], sentences: Sentences) -> _Part:
    """Return a part without the lines that are left out for a missing cell.

    Raises:
        ScenarioError: a cell is missing where it must not be.
    """
    always = [label, *([options.group] if options.group in part.columns else [])]
    is_kept = np.ones(len(part.lines), np.bool_)
    for column in (*always, *inputs):
        found_column = part.columns[str(column)]
        lacks = found_column.lacks
        if not lacks.any() or (options.missing == "fill" and column not in always):
            continue
        if options.missing == "drop":
            is_kept &= ~lacks
            continue
        first = int(np.argmax(lacks))
        found = f"column {column!r} holds {found_column.cells[first]!r}, which is no value"
        if options.missing == "fill":
            hint = "a class or an owner cannot be filled in: remove the line, or set missing: drop"
        else:
            hint = f"set missing: drop or fill ({lacks.sum():,} of {len(lacks):,} lines of this column), or ignore it"
        raise _problem(part, int(part.lines[first]), found, hint, "data.missing")
    if is_kept.all():
        return part
    if not is_kept.any():
        raise _problem(part, None, "every line has a missing cell", "set missing: fill, or ignore columns")
    sentences.say(f"{(~is_kept).sum():,} of {len(is_kept):,} lines of {part.path.name} left out: cells are missing")
    return part.kept(is_kept)


def _categories(options: CsvOptions, train: _Part, inputs: Sequence[str]) -> set[str]:
    """Return which columns are categories: those that are said to be, and those that mostly hold no numbers."""
    mostly_texts = {column for column in inputs if not train.columns[column].is_mostly_numbers}
    return mostly_texts | set(options.categorical)


def _values(
    train: _Part,
    test: _Part | None,
    inputs: Sequence[str],
    categorical: set[str],
    sentences: Sentences,
    is_test: NDArray[np.bool_] | None,
) -> tuple[dict[str, Array], dict[str, Array] | None]:
    """Return the columns of both parts as numbers or texts, missing cells filled in; not from lines held out.

    Raises:
        ScenarioError: a cell of a column of numbers is none.
    """
    first: dict[str, Array] = {}
    second: dict[str, Array] = {}
    num_filled = 0
    for column in inputs:
        for part, values in ((train, first), (test, second)):
            if part is None:
                continue
            found = part.columns[column]
            num_filled += int(found.lacks.sum())
            if column in categorical:
                values[column] = np.array(
                    ["" if lack else cell for cell, lack in zip(found.cells, found.lacks.tolist(), strict=True)], str
                )
                continue
            values[column] = numbers = _numbers(part, column)
            if part is train:
                is_seen = ~found.lacks if is_test is None else ~(found.lacks | is_test)
                mean = float(numbers[is_seen].mean()) if is_seen.any() else 0.0
            numbers[found.lacks] = mean
    if num_filled:
        sentences.say(f"{num_filled:,} missing cells filled in: training means, or a category of their own")
    return first, None if test is None else second


def _numbers(part: _Part, column: str) -> NDArray[np.float64]:
    found = part.columns[column]
    is_wrong = np.isnan(found.numbers) & ~found.lacks
    if is_wrong.any():
        first = int(np.argmax(is_wrong))
        cell = found.cells[first][:40]
        what = f"column {column!r} holds {cell!r}, no finite number, and most of its cells are numbers"
        hint = f"mend the cell, or set categorical: [{column}] or ignore: [{column}]"
        raise _problem(part, int(part.lines[first]), what, hint)
    return found.numbers.copy()


def _classes(part: _Part, label: str) -> Array:
    """Return the labels as numbers where all of them are, else as texts."""
    found = part.columns[label]
    if np.isnan(found.numbers).any():
        return np.array(found.cells, str)
    is_whole = (found.numbers == np.rint(found.numbers)).all() and (np.abs(found.numbers) < 2**53).all()
    return found.numbers.astype(np.int64) if is_whole else found.numbers


def survey(options: CsvOptions) -> tuple[str, ...]:
    """Return nothing.

    Raises:
        DataNotFoundError: a file is not there.
    """
    require_files(KIND, options.path, hint="data.path names a CSV file with a header")
    return require_files(KIND, options.test_path, hint="data.path names a CSV file with a header")


COMPONENT = Component(
    kind=KIND,
    summary="your own table: a CSV file with a column of classes; numbers standardised, categories one-hot",
    source="this project",
    options=CsvOptions,
    build=build,
    survey=survey,
)
