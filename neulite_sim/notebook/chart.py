"""A small chart of accuracy over virtual time, as SVG inside of HTML: no script, no file, no network.

Text and lines take the colour of the page around them, so that light and dark notebooks both can be read.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from neulite_sim.units import format_seconds

_WIDTH, _HEIGHT = 420, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 22
_COLOUR = "#0072B2"
_MOST_POINTS = 400
_STEPS = (1, 2, 5, 10, 20, 25)


def curve_of(rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, float, float]]:
    """Return round, virtual second and accuracy (0 to 1) of each tested round."""
    return [
        (row["round"], row["virtual_time_s"], row["test_accuracy"]) for row in rows if row["test_accuracy"] is not None
    ]


def accuracy_chart(curve: Sequence[tuple[int, float, float]]) -> str:
    """Return the chart of a curve as SVG; an empty text for fewer than two points."""
    if len(curve) < 2:
        return ""
    curve = _thinned(curve)
    first_s, last_s = curve[0][1], curve[-1][1]
    low, high, step = _range([100 * accuracy for _, _, accuracy in curve])

    def x(at_s: float) -> float:
        share = (at_s - first_s) / (last_s - first_s) if last_s > first_s else 1.0
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(percent: float) -> float:
        return _TOP + (high - percent) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    lines = [
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="currentColor" '
        f'stroke-opacity=".2"/><text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick} %</text>'
        for tick in range(low, high + 1, step)
    ]
    path = " ".join(f"{x(at_s):.1f},{y(100 * accuracy):.1f}" for _, at_s, accuracy in curve)
    dots = [
        f'<circle cx="{x(at_s):.1f}" cy="{y(100 * accuracy):.1f}" r="3" fill="{_COLOUR}"><title>'
        f"{html.escape(f'round {number}, {format_seconds(at_s)}: {100 * accuracy:.1f} %')}</title></circle>"
        for number, at_s, accuracy in curve
    ]
    ends = (
        f'<text x="{_LEFT}" y="{_HEIGHT - 5}">{html.escape(format_seconds(first_s))}</text>'
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 5}" text-anchor="end">{html.escape(format_seconds(last_s))}'
        " virtual</text>"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="accuracy over virtual time" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" style="max-width:100%;height:auto" font-size="11" '
        f'font-family="sans-serif" fill="currentColor">{"".join(lines)}{ends}'
        f'<polyline points="{path}" fill="none" stroke="{_COLOUR}" stroke-width="2"/>{"".join(dots)}</svg>'
    )


def _thinned(curve: Sequence[tuple[int, float, float]]) -> list[tuple[int, float, float]]:
    every = math.ceil(len(curve) / _MOST_POINTS)
    return [point for place, point in enumerate(reversed(curve)) if place % every == 0][::-1]


def _range(percents: Sequence[float]) -> tuple[int, int, int]:
    """Return the least and the greatest percentage of an axis, and the step between its marks: at most five."""
    least, greatest = max(0.0, min(percents)), min(100.0, max(percents))
    for step in _STEPS:
        low, high = math.floor(least / step) * step, math.ceil(greatest / step) * step
        high = max(high, low + step)
        if (high - low) // step <= 4:
            return low, high, step
    raise AssertionError("unreachable")
