"""Tables as values: what commands print, as plain text here and as a rich table in the console.

A table that is wider than the screen stands in blocks below each other, each with the leading columns that name its
rows: so no word and no number is broken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# Room that a drawn table leaves between two columns, and around all of them.
_GAP, _EDGES = 3, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """A table of texts. `numeric` names the headers whose cells stand at the right of their column.

    The first `num_keys` columns name the rows.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    numeric: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    num_keys: int = 1

    def __post_init__(self) -> None:
        for place, row in enumerate(self.rows):
            if len(row) != len(self.headers):
                raise ValueError(f"row {place} has {len(row)} cells, but there are {len(self.headers)} headers")

    def text(self) -> str:
        """Return the table with aligned columns, a rule under the headers and the notes below."""
        lines = (self.headers, *self.rows)
        widths = [max(len(line[place]) for line in lines) for place in range(len(self.headers))]

        def aligned(line: tuple[str, ...]) -> str:
            cells = zip(self.headers, line, widths, strict=True)
            texts = (f"{cell:>{width}}" if head in self.numeric else f"{cell:<{width}}" for head, cell, width in cells)
            return "  ".join(texts).rstrip()

        body = [aligned(self.headers), aligned(tuple("-" * width for width in widths)), *map(aligned, self.rows)]
        return "\n".join([*([self.title] if self.title else []), *body, *self.notes])

    def blocks(self, width: int) -> list[TextTable]:
        """Return the table as one or more that `width` characters hold, drawn.

        The first has the title, the last the notes. A column alone that is wider than that stays whole.
        """
        places = list(self._columns_of_blocks(width))
        return [
            TextTable(
                title=self.title if number == 0 else "",
                headers=tuple(self.headers[place] for place in block),
                rows=tuple(tuple(row[place] for place in block) for row in self.rows),
                numeric=self.numeric,
                notes=self.notes if number == len(places) - 1 else (),
                num_keys=self.num_keys,
            )
            for number, block in enumerate(places)
        ]

    def _columns_of_blocks(self, width: int) -> Iterator[list[int]]:
        wide = [max(map(len, column)) for column in zip(self.headers, *self.rows, strict=True)]
        keys = list(range(self.num_keys))
        room = width - _EDGES - sum(wide[: self.num_keys]) - _GAP * (self.num_keys - 1)
        block, left = keys, room
        for place in range(self.num_keys, len(wide)):
            if len(block) > self.num_keys and left < _GAP + wide[place]:
                yield block
                block, left = keys, room
            block = [*block, place]
            left -= _GAP + wide[place]
        yield block
