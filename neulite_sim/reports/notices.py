"""Notices as a console tells them: what comes again and again, only with other numbers in it, is one of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_KEPT_KINDS = 20
# Numbers that stand alone and lists of them, but not those in names: stage-1 and stage-2 are different news.
_NUMBERS = re.compile(r"(?<![\w.-])\d+(?:[.,]\d+)*(?:, (?:\d+(?:[.,]\d+)*|\.\.\.))*")


@dataclass(slots=True)
class Told:
    """A notice and how often it came; of its numbers, the latest."""

    message: str
    times: int = 1

    @property
    def text(self) -> str:
        """The latest message, with its ordinal in front where it is not the first."""
        return self.message if self.times == 1 else f"{_ordinal(self.times)} time: {self.message}"

    @property
    def is_news(self) -> bool:
        """Whether it is worth a line of its own: the first time, the tenth, the hundredth and so on."""
        return str(self.times).rstrip("0") == "1"


class Notices:
    """The latest kinds of notices, the one that came last at the end, each with its count."""

    def __init__(self) -> None:
        self._told: dict[str, Told] = {}

    def take(self, message: str) -> Told:
        """Take note of a message and return what is known of its kind."""
        gist = _NUMBERS.sub("#", message)
        told = self._told.pop(gist, None)
        if told is None:
            told = Told(message)
        else:
            told.message, told.times = message, told.times + 1
        self._told[gist] = told
        if len(self._told) > _KEPT_KINDS:
            del self._told[next(iter(self._told))]
        return told

    @property
    def latest(self) -> Told:
        """The kind that came last."""
        return next(reversed(self._told.values()))

    def __iter__(self) -> Iterator[Told]:
        return iter(self._told.values())

    def __len__(self) -> int:
        return len(self._told)


def _ordinal(count: int) -> str:
    """Return 1st, 2nd, 3rd, 4th, 11th, 21st ..."""
    ending = "th" if count % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    return f"{count:,}{ending}"
