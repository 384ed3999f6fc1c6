"""Charts of lines: accuracy over time, rounds or bytes, shares over budgets. Pure functions.

Lines differ in colour, dash and marker, so that none of the three is needed to tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from markupsafe import Markup

from neulite_sim.reports.html.svg import NUM_LOOKS, Frame, Size, chart, element, frame, label, path, titled
from neulite_sim.reports.html.ticks import Axis

MOST_POINTS = 240
"""Points of a line that are drawn; more of them would be closer than a pixel or two."""
_MOST_MARKED = 24
_MOST_TOUCHED = 80

AxisOf = Callable[[int], Axis]
"""Makes an axis with at most so many ticks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line: its places, values and, of a mean, limits, all in the units of the axes; `tips` say each point in words.

    `look` is the number of its colour, dash and marker.
    """

    name: str
    at: Sequence[float]
    values: Sequence[float]
    tips: Sequence[str] = ()
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    look: int = 0
    is_step: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A line at one value of the vertical axis, or of the horizontal one: a target, a threshold."""

    value: float
    text: str


def line_chart(
    size: Size,
    series: Sequence[Series],
    *,
    x: AxisOf,
    y: Axis,
    about: str,
    levels: Sequence[Level] = (),
    height: float = 300.0,
) -> Markup:
    """Return a chart of lines between two axes, with `levels` as labelled lines across."""
    drawn = frame(size, height, x(size.most_ticks), y)
    parts = drawn.grid()
    for level in levels:
        parts += _level(drawn, level)
    parts += [_band(drawn, line) for line in series if len(line.low)]
    for line in series:
        parts += _line(drawn, line)
    return chart(size, height, parts, about=about)


def _level(drawn: Frame, level: Level) -> list[Markup]:
    y = drawn.y(level.value)
    line = element("line", x1=drawn.left, x2=drawn.right, y1=y, y2=y, class_="level")
    return [line, label(level.text, drawn.right, y - 5, anchor="end", class_="t note")]


def _thinned(count: int) -> list[int]:
    """Return places of at most `MOST_POINTS` of so many points, the first and the last among them."""
    if count <= MOST_POINTS:
        return list(range(count))
    return sorted({int(place) for place in np.linspace(0, count - 1, MOST_POINTS)})


def _band(drawn: Frame, line: Series) -> Markup:
    places = _thinned(len(line.at))
    above = [(drawn.x(line.at[place]), drawn.y(line.high[place])) for place in places]
    below = [(drawn.x(line.at[place]), drawn.y(line.low[place])) for place in reversed(places)]
    return path([*above, *below], closed=True, class_=f"band f{line.look % NUM_LOOKS}")


def _line(drawn: Frame, line: Series) -> list[Markup]:
    places = _thinned(len(line.at))
    if not places:
        return []
    points = [(drawn.x(line.at[place]), drawn.y(line.values[place])) for place in places]
    look = line.look % NUM_LOOKS
    steps = _stepped(points) if line.is_step else points
    parts = [path(steps, class_=f"line s{look} d{line.look // NUM_LOOKS % 4}")]
    every = max(1, -(-len(points) // _MOST_MARKED))
    marked = [*points[:-1:every], points[-1]]
    parts += [marker(look, at) for at in marked]
    touched = sorted({int(place) for place in np.linspace(0, len(points) - 1, min(_MOST_TOUCHED, len(points)))})
    for number in touched if len(line.tips) else ():
        at = points[number]
        parts.append(titled("circle", line.tips[places[number]], cx=at[0], cy=at[1], r=8, class_="touch"))
    return parts


def _stepped(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    found = [points[0]]
    for (_, before), (x, y) in pairwise(points):
        found += [(x, before), (x, y)]
    return found


_SHAPES = (
    ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    ((0, -1.3), (1.2, 0.9), (-1.2, 0.9)),
    ((0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)),
    ((0, 1.3), (1.2, -0.9), (-1.2, -0.9)),
    (
        (-1.3, -0.5),
        (-0.5, -0.5),
        (-0.5, -1.3),
        (0.5, -1.3),
        (0.5, -0.5),
        (1.3, -0.5),
        (1.3, 0.5),
        (0.5, 0.5),
        (0.5, 1.3),
        (-0.5, 1.3),
        (-0.5, 0.5),
        (-1.3, 0.5),
    ),
    ((0, -1.4), (0.5, -0.5), (1.4, 0), (0.5, 0.5), (0, 1.4), (-0.5, 0.5), (-1.4, 0), (-0.5, -0.5)),
)


def marker(look: int, at: tuple[float, float], *, radius: float = 2.6) -> Markup:
    """Return the marker of a look: a circle, square, triangle and so on."""
    x, y = at
    look %= NUM_LOOKS
    if look == 0:
        return element("circle", cx=x, cy=y, r=radius, class_="f0")
    corners = [(x + radius * dx, y + radius * dy) for dx, dy in _SHAPES[look - 1]]
    return path(corners, closed=True, class_=f"f{look}")


def key_of_line(look: int) -> Markup:
    """Return what stands before the name of a line in a legend."""
    line = element("line", x1=0, x2=30, y1=7, y2=7, class_=f"line s{look % NUM_LOOKS} d{look // NUM_LOOKS % 4}")
    return element(
        "svg", line, marker(look, (15, 7), radius=3.2), viewBox="0 0 30 14", class_="key line-key", aria_hidden="true"
    )
