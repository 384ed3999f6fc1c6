"""Rows of flights as columns: how a run makes and keeps them, since it can have a million at a time.

A row as a value (`FlightRow`) is made where somebody asks for one. The lines of a CSV file and those of the digest
are made for all rows together, from one text of each number: `repr`, which is what Python's `csv` and `json` write.
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np

from neulite_sim.arrays import Floats, Repeated
from neulite_sim.results.cells import column_types, values
from neulite_sim.results.rows import EVERYTHING, NOTHING, FlightRow, asked_columns, columns, later_columns

Column = Sequence[Any]
Texts = str | list[str]
"""The texts of a column: one for each row, or one for all."""

NAMES = columns(FlightRow)
ALL_NAMES = columns(FlightRow, asked=EVERYTHING)
assert (*NAMES, *asked_columns(FlightRow)) == ALL_NAMES, "what is asked for stands last"
_LATER = later_columns(FlightRow)
assert len(_LATER) < 2, "a later column that is left out would move the next one into its place"
_TYPES = column_types(FlightRow, asked=EVERYTHING)
_TEXTS = tuple(name for name, (cast, _) in _TYPES.items() if cast is str)
_NUMBERS = {name: optional for name, (cast, optional) in _TYPES.items() if cast is not str}
_FLOATS = tuple(name for name, (cast, _) in _TYPES.items() if cast is float)


_MANY = 64
"""From so many rows on it pays to look for numbers that come again, where they do among the first of them."""


class FlightRows(Sequence[FlightRow]):
    """Rows of flights; `cells` are their columns, each a `list` or a `Repeated` of plain int, float, str or None.

    `joules` are what each flight took, where that is known; they are a column where the scenario asks for it.
    """

    def __init__(self, cells: Mapping[str, Column], *, joules: Floats | None = None) -> None:
        self.names = tuple(cells)
        assert self.names in (NAMES, ALL_NAMES), f"columns {self.names}"
        self.joules = joules
        # Lines are made of what varies, and numbers of flights always do.
        assert not isinstance(cells["flight"], Repeated), "numbers of flights differ"
        self.cells = cells
        self._count = len(cells["flight"])

    @classmethod
    def of(cls, rows: Iterable[FlightRow]) -> FlightRows:
        """Return rows as columns."""
        held = list(rows)
        has_asked = any(getattr(row, name) is not None for row in held for name in asked_columns(FlightRow))
        names = ALL_NAMES if has_asked else NAMES
        asked = EVERYTHING if has_asked else NOTHING
        found = [list(column) for column in zip(*(values(row, asked=asked) for row in held), strict=True)]
        return cls(dict(zip(names, found or [[] for _ in names], strict=True)))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> FlightRow: ...

    @overload
    def __getitem__(self, place: slice) -> FlightRows: ...

    def __getitem__(self, place: int | slice) -> FlightRow | FlightRows:
        cells: dict[str, Any] = {name: column[place] for name, column in self.cells.items()}
        if not isinstance(place, slice):
            return FlightRow(**cells)
        return FlightRows(cells, joules=None if self.joules is None else self.joules[place])

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield each row as a plain dictionary."""
        for row in zip(*self.cells.values(), strict=True):
            yield dict(zip(self.names, row, strict=True))

    def costed(self, joules: Floats | None, *, is_column: bool) -> FlightRows:
        """Return the same rows with what each flight took, as a column too where that is asked for."""
        column = {"energy_j": [None] * len(self) if joules is None else joules.tolist()} if is_column else {}
        return FlightRows({**{name: self.cells[name] for name in NAMES}, **column}, joules=joules)

    def by_round(self) -> Iterator[tuple[int, slice]]:
        """Yield, in the order of rows, each round and the places of its rows: those that follow each other."""
        rounds = self.cells["round"]
        if isinstance(rounds, Repeated):
            if self._count:
                yield rounds.value, slice(0, self._count)
            return
        first = 0
        for number, members in itertools.groupby(rounds):
            last = first + sum(1 for _ in members)
            yield number, slice(first, last)
            first = last

    @property
    def has_carriage_returns(self) -> bool:
        """Whether a text of theirs holds a carriage return, which a CSV file has to quote in a way of its own."""
        return any("\r" in text for name in _TEXTS for text in _distinct(self.cells[name]))

    def as_csv(self) -> str:
        """Return the lines of a CSV file, as `csv.writer` writes them; no text holds a carriage return."""
        return _lines([self._texts(name, _quoted_for_csv, "") for name in self.names], "", "\n")

    def as_json(self) -> str:
        """Return a line per row, as `json.dumps` writes a list without spaces."""
        later = [self._later_texts(name, default) for name, default in _LATER.items()]
        return _lines([self._json_texts(name) for name in NAMES if name not in _LATER], "[", "]\n", before_tail=later)

    def _later_texts(self, name: str, default: Any) -> Texts:
        """Return what a column that came later adds to each line: nothing where it has its default."""
        return _mapped(lambda cell: "" if cell == default else f",{json.dumps(cell)}", self.cells[name])

    @functools.cached_property
    def _number_texts(self) -> dict[str, Texts]:
        return {
            name: _float_texts(self.cells[name]) if name in _FLOATS else _mapped(repr, self.cells[name])
            for name in _NUMBERS
            if name in self.cells
        }

    def _texts(self, name: str, quoted: Callable[[str], str], nothing: str) -> Texts:
        if name not in _NUMBERS:
            return _mapped(quoted, self.cells[name])
        found = self._number_texts[name]
        if not _NUMBERS[name]:
            return found
        if isinstance(found, str):
            return nothing if found == "None" else found
        return [nothing if text == "None" else text for text in found]

    def _json_texts(self, name: str) -> Texts:
        found = self._texts(name, quoted_for_json, "null")
        return _mapped(json.dumps, self.cells[name]) if name in _FLOATS and not self._is_finite(name) else found

    def _is_finite(self, name: str) -> bool:
        column = self.cells[name]
        known: Iterable[float] = [column.value] if isinstance(column, Repeated) else column
        if _NUMBERS[name]:
            known = [cell for cell in known if cell is not None]
        # A sum of finite numbers may overflow: then the slow way is taken for nothing.
        return math.isfinite(sum(known))


def _distinct(column: Column) -> Iterable[Any]:
    return (column.value,) if isinstance(column, Repeated) else set(column)


def _mapped(text_of: Callable[[Any], str], column: Column) -> Texts:
    return text_of(column.value) if isinstance(column, Repeated) else list(map(text_of, column))


def _float_texts(column: Column) -> Texts:
    """Return `repr` of each, worked out once for numbers that come again, such as the seconds of equal transfers."""
    first = column[: _MANY // 2]
    if isinstance(column, Repeated) or len(column) < _MANY or len(set(first)) > len(first) // 2 or None in column:
        return _mapped(repr, column)
    # By their bits: 0.0 and -0.0 are equal, and have two texts.
    bits, places = np.unique(np.array(column, np.float64).view(np.int64), return_inverse=True)
    texts = list(map(repr, bits.view(np.float64).tolist()))
    return list(map(texts.__getitem__, places.tolist()))


def patterned(pieces: Iterable[str | Column]) -> list[str]:
    """Return a text per row: texts that all share, and the cells of columns, in their order; one column varies."""
    pattern, varying = [], []
    for piece in pieces:
        if isinstance(piece, str | Repeated):
            pattern.append(str(piece.value if isinstance(piece, Repeated) else piece).replace("%", "%%"))
        else:
            pattern.append("%s")
            varying.append(piece)
    return list(map("".join(pattern).__mod__, zip(*varying, strict=True)))


def _lines(texts: Sequence[Texts], head: str, tail: str, *, before_tail: Sequence[Texts] = ()) -> str:
    """Return a line per row of the texts joined by commas."""
    joined = itertools.chain.from_iterable(zip(itertools.repeat(","), texts, strict=False))
    return "".join(patterned([head, *itertools.islice(joined, 1, None), *before_tail, tail]))


@functools.lru_cache(maxsize=1024)
def _quoted_for_csv(text: str) -> str:
    held = io.StringIO(newline="")
    csv.writer(held, lineterminator="\n").writerow([text, ""])
    return held.getvalue().removesuffix(",\n")


@functools.lru_cache(maxsize=1024)
def quoted_for_json(text: str) -> str:
    """Return a text that comes again and again as a JSON string."""
    return json.dumps(text)
