"""Charts of bars: the memory wall, parts of a whole over rounds, parts of a whole per row. Pure functions.

Parts differ in colour and in hatching (patterns of the page, `p-...`), and stand in the order of their legend.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from neulite_sim.reports.html.line_charts import AxisOf, Level
from neulite_sim.reports.html.svg import LETTER, Frame, Size, chart, element, frame, label, titled
from neulite_sim.reports.html.ticks import Axis


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Devices whose number lies from `low` up to `high`; `group` is how many of the thresholds they reach."""

    low: float
    high: float
    count: int
    group: int
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of every bar: its name and the class of its fill."""

    name: str
    fill: str


def histogram(
    size: Size,
    bins: Sequence[Bin],
    thresholds: Sequence[Level],
    *,
    x: AxisOf,
    y: Axis,
    about: str,
) -> Markup:
    """Return how many devices have how much, with thresholds as labelled lines: who is right of one can hold it."""
    room = 18.0 * len(thresholds)
    height = 250.0 + room
    drawn = frame(size, height, x(size.most_ticks), y)
    drawn = Frame(x_axis=drawn.x_axis, y_axis=y, left=drawn.left, right=drawn.right, top=34 + room, bottom=drawn.bottom)
    parts = drawn.grid(title_y=11.0)
    for each in bins:
        left, right = drawn.x(each.low), drawn.x(each.high)
        width = max(right - left - 1.0, 0.8)
        parts.append(
            titled(
                "rect",
                each.tip,
                x=left,
                y=drawn.y(each.count),
                width=width,
                height=drawn.bottom - drawn.y(each.count),
                class_=f"bar w{min(each.group, 3)}",
            )
        )
    for place, level in enumerate(thresholds):
        parts += _threshold(drawn, level, 32.0 + 18.0 * place)
    return chart(size, height, parts, about=about)


def _threshold(drawn: Frame, level: Level, y: float) -> list[Markup]:
    """Return a threshold: a line down to the axis, its label on the side with more room."""
    x = drawn.x(level.value)
    width = LETTER * len(level.text)
    is_left = x + width + 6 > drawn.right and x - width - 6 > 0
    line = element("line", x1=x, x2=x, y1=y - 9, y2=drawn.bottom, class_="wall")
    text_x = x - 5 if is_left else min(x + 5, drawn.right - width)
    return [
        line,
        label(
            level.text,
            max(text_x, 0 if not is_left else text_x),
            y,
            anchor="end" if is_left else "start",
            class_="t halo",
        ),
    ]


def stacked_columns(
    size: Size,
    columns: Sequence[tuple[float, float, Sequence[float]]],
    parts: Sequence[Part],
    *,
    x: AxisOf,
    y: Axis,
    tip: Callable[[int, int], str],
    about: str,
    height: float = 280.0,
) -> Markup:
    """Return columns of stacked parts: each from a place to a place, with a value per part, the first at the bottom.

    `tip` says in words what part (second) of a column (first) is.
    """
    drawn = frame(size, height, x(size.most_ticks), y)
    found = drawn.grid()
    for number, (low, high, values) in enumerate(columns):
        reached = 0.0
        left, right = drawn.x(low), drawn.x(high)
        gap = 1.0 if right - left > 4 else 0.0
        for place, value in enumerate(values):
            top, bottom = drawn.y(reached + value), drawn.y(reached)
            reached += value
            if bottom - top > 0.05:
                found.append(
                    titled(
                        "rect",
                        tip(number, place),
                        x=left,
                        y=top,
                        width=max(right - left - gap, 0.5),
                        height=bottom - top,
                        class_=f"bar {parts[place].fill}",
                    )
                )
    return chart(size, height, found, about=about)


def share_rows(
    size: Size, rows: Sequence[tuple[str, str, Sequence[float]]], parts: Sequence[Part], *, about: str
) -> Markup:
    """Return a bar of full width per row, split into shares (0 to 1): a name, a note at the right, and the shares."""
    step, top = 44.0, 4.0
    found = []
    for number, (name, note, shares) in enumerate(rows):
        y = top + step * number
        found.append(label(name, 0, y + 12, class_="t strong"))
        found.append(label(note, size.width, y + 12, anchor="end"))
        reached = 0.0
        for part, share in zip(parts, shares, strict=True):
            x, width = reached * size.width, share * size.width
            reached += share
            if width < 0.05:
                continue
            tip = f"{name}: {part.name} {share:.1%}".replace("%", " %")
            found.append(titled("rect", tip, x=x, y=y + 18, width=width, height=18, class_=f"bar {part.fill}"))
            text = f"{share:.0%}".replace("%", " %")
            if width > LETTER * len(text) + 8:
                found.append(label(text, x + width / 2, y + 31, anchor="middle", class_=f"t on on-{part.fill}"))
    return chart(size, top + step * len(rows), found, about=about)


def dumbbells(
    size: Size, rows: Sequence[tuple[str, float, float, str]], *, x: AxisOf, about: str, levels: Sequence[Level] = ()
) -> Markup:
    """Return a bar from one place to another per row: a name, the places and what is said of them."""
    step, top = 42.0, 8.0 + 16.0 * bool(levels)
    bottom = top + step * len(rows) + 4
    axis = x(size.most_ticks)
    drawn = Frame(x_axis=axis, y_axis=axis, left=10, right=size.width - 12, top=top, bottom=bottom)
    found = [
        element("line", x1=drawn.x(tick.at), x2=drawn.x(tick.at), y1=top, y2=bottom, class_="grid")
        for tick in axis.ticks
    ]
    for level in levels:
        x_at = drawn.x(level.value)
        found.append(element("line", x1=x_at, x2=x_at, y1=top, y2=bottom, class_="level"))
        found.append(label(level.text, x_at, top - 6, anchor="middle", class_="t note"))
    for place, (name, low, high, words) in enumerate(rows):
        y = top + step * place + 28
        left, right = drawn.x(low), drawn.x(high)
        found.append(label(name, 10, y - 11, class_="t strong halo"))
        found.append(label(words, drawn.right, y - 11, anchor="end", class_="t halo"))
        found.append(element("line", x1=10, x2=drawn.right, y1=y, y2=y, class_="track"))
        found.append(titled("line", f"{name}: {words}", x1=left, x2=right, y1=y, y2=y, class_="reach"))
        found.append(element("circle", cx=left, cy=y, r=5, class_="dot open"))
        found.append(element("circle", cx=right, cy=y, r=5, class_="dot full"))
    found += drawn.x_ticks()
    return chart(size, bottom + 44, found, about=about)
