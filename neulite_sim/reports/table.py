"""Tables as values: what `profile` and `components` print, as plain text here and as a rich table in the console."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """A table of texts. `numeric` names the headers whose cells stand at the right of their column."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    numeric: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

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
