"""Elements of SVG as escaped text, and the frame that charts are drawn into. Pure functions.

Colours are classes of the page's style sheet (`s0` to `s6` for series), so that one drawing serves light, dark and
paper. Text stays text. Every chart is drawn for two widths, and the style sheet shows the one that fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from neulite_sim.reports.html.ticks import Axis

NUM_LOOKS = 7
LETTER = 6.4
"""About the width of a letter of a chart's text, in its units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The room of a chart, in units of which one is a pixel at the width that it is made for."""

    name: str
    width: float
    most_ticks: int


WIDE = Size(name="wide", width=760, most_ticks=8)
NARROW = Size(name="narrow", width=340, most_ticks=4)


def number(value: float) -> str:
    """Return a coordinate with at most two decimals."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def element(name: str, *children: Markup | str, **attributes: float | str | None) -> Markup:
    """Return an element. `_` in the names of attributes is `-`, a last one is dropped; None leaves an attribute out."""
    parts = [name]
    for key, value in attributes.items():
        if value is not None:
            text = value if isinstance(value, str) else number(value)
            parts.append(f'{key.rstrip("_").replace("_", "-")}="{escape(text)}"')
    inside = "".join(escape(child) for child in children)
    head = " ".join(parts)
    return Markup(f"<{head}>{inside}</{name}>" if inside else f"<{head}/>")


def joined(parts: Iterable[Markup | str]) -> Markup:
    """Return parts one after the other."""
    return Markup("").join(parts)


def titled(name: str, tip: str, **attributes: float | str | None) -> Markup:
    """Return an element that says `tip` when it is pointed at."""
    return element(name, element("title", tip), **attributes)


def label(text: str, x: float, y: float, *, anchor: str = "start", class_: str = "t") -> Markup:
    """Return a text; `anchor` is start, middle or end."""
    return element("text", text, x=x, y=y, text_anchor=None if anchor == "start" else anchor, class_=class_)


def path(points: Sequence[tuple[float, float]], *, closed: bool = False, **attributes: float | str | None) -> Markup:
    """Return a line through points."""
    steps = "L".join(f"{number(x)} {number(y)}" for x, y in points)
    return element("path", d=f"M{steps}{'Z' if closed else ''}", **attributes)


def chart(size: Size, height: float, parts: Iterable[Markup], *, about: str) -> Markup:
    """Return a whole drawing; `about` is read in its place where it cannot be seen."""
    box = f"0 0 {number(size.width)} {number(height)}"
    return element("svg", *parts, viewBox=box, class_=f"chart {size.name}", role="img", aria_label=about)


def both(draw: Callable[[Size], Markup]) -> Markup:
    """Return a drawing for wide and for narrow screens."""
    return draw(WIDE) + draw(NARROW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The plotting area between two axes: `left` and so on are the edges, y grows downwards."""

    x_axis: Axis
    y_axis: Axis
    left: float
    right: float
    top: float
    bottom: float

    def x(self, value: float) -> float:
        """Return the place of a value along the horizontal axis."""
        return self.left + self.x_axis.share(value) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Return the height of a value of the vertical axis."""
        return self.bottom - self.y_axis.share(value) * (self.bottom - self.top)

    def grid(self, *, title_y: float | None = None) -> list[Markup]:
        """Return grid lines, ticks and titles of both axes; `title_y` is where the vertical one's stands."""
        parts = []
        for tick in self.y_axis.ticks:
            y = self.y(tick.at)
            parts.append(element("line", x1=self.left, x2=self.right, y1=y, y2=y, class_="grid"))
            parts.append(label(tick.text, self.left - 7, y + 4, anchor="end"))
        parts += self.x_ticks()
        parts.append(label(self.y_axis.title, 0, self.top - 12 if title_y is None else title_y, class_="t title"))
        return parts

    def x_ticks(self) -> list[Markup]:
        """Return the horizontal axis with its ticks and its title."""
        axis = element("line", x1=self.left, x2=self.right, y1=self.bottom, y2=self.bottom, class_="axis")
        parts = [axis]
        for tick in self.x_axis.ticks:
            x = self.x(tick.at)
            parts.append(element("line", x1=x, x2=x, y1=self.bottom, y2=self.bottom + 4, class_="axis"))
            parts.append(label(tick.text, x, self.bottom + 18, anchor="middle"))
        parts.append(label(self.x_axis.title, self.right, self.bottom + 36, anchor="end", class_="t title"))
        return parts


def frame(size: Size, height: float, x_axis: Axis, y_axis: Axis) -> Frame:
    """Return the frame of a chart whose axes stand at its left and below."""
    left = 14 + LETTER * max((len(tick.text) for tick in y_axis.ticks), default=1)
    return Frame(x_axis=x_axis, y_axis=y_axis, left=left, right=size.width - 12, top=26, bottom=height - 42)
