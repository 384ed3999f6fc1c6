"""The chart of differences: a mean with its interval per row, beside the line of no difference. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from neulite_sim.reports.html.line_charts import AxisOf
from neulite_sim.reports.html.svg import LETTER, Frame, Size, chart, element, label, titled


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A difference with the ends of its interval, None where they are not known, and what is said of it.

    `state` is `good` or `bad` where it is told apart from none, else `unsure`.
    """

    name: str
    mean: float
    low: float | None
    high: float | None
    words: str
    state: str


def interval_chart(size: Size, rows: Sequence[Difference], *, x: AxisOf, about: str) -> Markup:
    """Return the chart; names stand above their intervals, so that they may be long."""
    step, top = 46.0, 8.0
    bottom = top + step * len(rows)
    axis = x(size.most_ticks)
    drawn = Frame(x_axis=axis, y_axis=axis, left=10, right=size.width - 10, top=top, bottom=bottom)
    parts = [_upright(drawn, tick.at, top, bottom, "grid") for tick in axis.ticks]
    parts.append(_upright(drawn, 0.0, top, bottom, "zero"))
    for place, row in enumerate(rows):
        y = top + step * place + 32
        words_width = LETTER * len(row.words)
        parts.append(label(_cut(row.name, size.width - words_width - 40), 10, y - 15, class_="t strong halo"))
        parts.append(label(row.words, drawn.right, y - 15, anchor="end", class_=f"t halo {row.state}"))
        parts += _interval(drawn, row, y)
    parts += drawn.x_ticks()
    return chart(size, bottom + 44, parts, about=about)


def _interval(drawn: Frame, row: Difference, y: float) -> list[Markup]:
    parts, tip = [], f"{row.name}: {row.words}"
    if row.low is not None and row.high is not None:
        kind, low, high = f"interval {row.state}", drawn.x(row.low), drawn.x(row.high)
        parts.append(titled("line", tip, x1=low, x2=high, y1=y, y2=y, class_=kind))
        parts += [element("line", x1=end, x2=end, y1=y - 5, y2=y + 5, class_=kind) for end in (low, high)]
    parts.append(titled("circle", tip, cx=drawn.x(row.mean), cy=y, r=5, class_=f"dot {row.state}"))
    return parts


def _upright(drawn: Frame, value: float, top: float, bottom: float, kind: str) -> Markup:
    return element("line", x1=drawn.x(value), x2=drawn.x(value), y1=top, y2=bottom, class_=kind)


def _cut(text: str, width: float) -> str:
    most = max(4, int(width / LETTER))
    return text if len(text) <= most else f"{text[: most - 1]}…"
