"""What a page is made of: blocks as values. Builders put them together, the templates turn them into HTML.

All text in them is plain text: the templates escape it. Only drawings are markup, made by `svg.element`, which escapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup

from neulite_sim.reports.table import TextTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Prose:
    """Paragraphs."""

    kind: ClassVar[str] = "prose"
    paragraphs: tuple[str, ...]
    is_note: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Terms and what they are."""

    kind: ClassVar[str] = "facts"
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table. `values` sort its rows where the texts do not: per row and column a number, or None for the text.

    `summary` folds it away under these words; `is_tool` lets readers sort and search.
    """

    kind: ClassVar[str] = "grid"
    table: TextTable
    summary: str = ""
    is_tool: bool = False
    values: tuple[tuple[float | None, ...], ...] = ()
    states: tuple[tuple[str, ...], ...] = ()
    """Per row and column a class of the style sheet, such as `good`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An entry of a legend: a drawing and its name."""

    mark: Markup
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart with its title, legend, and what it shows in words; `data` are its numbers, folded away."""

    kind: ClassVar[str] = "figure"
    title: str
    drawing: Markup
    caption: str = ""
    keys: tuple[Key, ...] = ()
    data: Grid | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """Figures of which one is shown, chosen by name; without style sheets all are."""

    kind: ClassVar[str] = "switch"
    name: str
    question: str
    options: tuple[tuple[str, Figure], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """Commands with what they do."""

    kind: ClassVar[str] = "commands"
    items: tuple[tuple[str, str], ...]


Block = Prose | Facts | Grid | Figure | Switch | Commands


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading and what stands below it."""

    name: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One number of the answer: what it is, the number, and a few words on it."""

    title: str
    value: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A report: the answer first, then the sections."""

    title: str
    subtitle: str
    answer: str
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]
    made_of: str
    """The run folder or file that it is about, by name."""
    warnings: tuple[str, ...] = ()


def key(fill: str, name: str) -> Key:
    """Return the legend's entry of a filled part."""
    square = Markup(
        '<svg class="key" viewBox="0 0 14 14" aria-hidden="true"><rect class="bar {}" width="14" '
        'height="14" rx="2"/></svg>'
    ).format(fill)
    return Key(mark=square, name=name)


def with_content(sections: Sequence[Section]) -> tuple[Section, ...]:
    """Return the sections that have something to show."""
    return tuple(section for section in sections if section.blocks)
