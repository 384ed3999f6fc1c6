"""The chart of a few rounds: a line per device, a bar per phase of a flight, a mark per drop. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from neulite_sim.reports.html.line_charts import AxisOf
from neulite_sim.reports.html.svg import LETTER, Frame, Size, chart, element, label, titled


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A stretch of a flight on the line of its device."""

    row: int
    start_s: float
    end_s: float
    fill: str
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """The end of a flight that did not arrive."""

    row: int
    at_s: float
    tip: str


def flight_chart(
    size: Size,
    bars: Sequence[Bar],
    drops: Sequence[Drop],
    *,
    names: Mapping[int, str],
    headings: Mapping[int, str],
    rounds: Sequence[tuple[float, str, str]],
    x: AxisOf,
    about: str,
) -> Markup:
    """Return the chart. `names` and `headings` are by line; `rounds` are ends in seconds, labels and tips."""
    count = 1 + max([*names, *headings], default=0)
    step, top = 15.0, 28.0
    axis = x(size.most_ticks)
    left = 10 + LETTER * max((len(name) for name in names.values()), default=1)
    drawn = Frame(x_axis=axis, y_axis=axis, left=left, right=size.width - 12, top=top, bottom=top + step * count)
    parts = [
        element("line", x1=drawn.x(tick.at), x2=drawn.x(tick.at), y1=top, y2=drawn.bottom, class_="grid")
        for tick in axis.ticks
    ]
    parts += [
        label(name, left - 5, top + step * row + 11, anchor="end", class_="t small") for row, name in names.items()
    ]
    for bar in bars:
        x1, x2 = drawn.x(bar.start_s), drawn.x(bar.end_s)
        parts.append(
            titled(
                "rect",
                bar.tip,
                x=x1,
                y=top + step * bar.row + 2.5,
                width=max(x2 - x1, 0.4),
                height=step - 5,
                class_=f"bar {bar.fill}",
            )
        )
    for drop in drops:
        parts.append(_cross(drawn.x(drop.at_s), top + step * (drop.row + 0.5), drop.tip))
    parts += [label(name, left + 4, top + step * row + 11, class_="t strong halo") for row, name in headings.items()]
    parts += _ends(drawn, rounds)
    return chart(size, drawn.bottom + 44, [*parts, *drawn.x_ticks()], about=about)


def _cross(x: float, y: float, tip: str) -> Markup:
    strokes = [element("line", x1=x - 4, x2=x + 4, y1=y - 4 * way, y2=y + 4 * way, class_="drop") for way in (1, -1)]
    touch = element("circle", cx=x, cy=y, r=8, class_="touch")
    return element("g", element("title", tip), *strokes, touch)


def _ends(drawn: Frame, rounds: Sequence[tuple[float, str, str]]) -> list[Markup]:
    """Return a line at the end of each round, and its name before it where there is room."""
    parts, taken = [], drawn.left
    for end_s, name, tip in rounds:
        x = drawn.x(end_s)
        parts.append(titled("line", tip, x1=x, x2=x, y1=drawn.top - 6, y2=drawn.bottom, class_="end"))
        if x - LETTER * len(name) >= taken:
            parts.append(label(name, x, drawn.top - 12, anchor="end"))
            taken = x + 6
    return parts
