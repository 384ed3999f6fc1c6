"""The array types of columns: one entry per device, label or event."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
Counts = NDArray[np.int32]

Entry = TypeVar("Entry", covariant=True)


class Repeated(Sequence[Entry]):
    """A column whose entries, `length` of them, are all the same `value`, kept once."""

    __slots__ = ("length", "value")

    def __init__(self, value: Entry, length: int) -> None:
        self.value = value
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Entry]:
        return itertools.repeat(self.value, self.length)

    @overload
    def __getitem__(self, place: int) -> Entry: ...

    @overload
    def __getitem__(self, place: slice) -> Repeated[Entry]: ...

    def __getitem__(self, place: int | slice) -> Entry | Repeated[Entry]:
        found = range(self.length)[place]
        return self.value if isinstance(found, int) else Repeated(self.value, len(found))


def taken(column: Any, places: Integers) -> Any:
    """Return the entries of a column, an array or any sequence, at some places."""
    if isinstance(column, Repeated):
        return Repeated(column.value, len(places))
    return column[places] if isinstance(column, np.ndarray) else list(map(column.__getitem__, places.tolist()))


def joined(columns: Sequence[Any]) -> Any:
    """Return the entries of columns of one kind, at least one, one after the other: an array, or what repeats itself.

    Anything else becomes a list.
    """
    first = columns[0]
    if len(columns) == 1:
        return first
    if isinstance(first, np.ndarray):
        return np.concatenate(columns)
    if all(isinstance(column, Repeated) and column.value == first.value for column in columns):
        return Repeated(first.value, sum(map(len, columns)))
    return list(itertools.chain.from_iterable(columns))
