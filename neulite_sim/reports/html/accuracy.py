"""Accuracy over virtual time, rounds and bytes: figures with a switch between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from neulite_sim.reports.html.blocks import Figure, Grid, Key, Switch
from neulite_sim.reports.html.line_charts import Level, Series, key_of_line, line_chart
from neulite_sim.reports.html.svg import Size, both
from neulite_sim.reports.html.ticks import Axis, byte_axis, count_axis, percent_axis, time_axis
from neulite_sim.reports.html.wording import duration, percent, size
from neulite_sim.reports.table import TextTable

Tests = Sequence[tuple[int, float, int, float]]
"""Of every test: round, virtual seconds, bytes so far, accuracy."""
OVER: tuple[tuple[str, int, Callable[[float, int], Axis]], ...] = (
    ("virtual time", 1, lambda high, most: time_axis("virtual time", high, most)),
    ("rounds", 0, lambda high, most: count_axis("rounds", high, most)),
    ("bytes", 2, lambda high, most: byte_axis("traffic, down and up", high, most)),
)
"""What accuracy is drawn over: name, place in a test, axis."""
_MOST_ROWS = 200


def accuracy_switch(tests: Tests, *, target: float | None = None) -> Switch:
    """Return accuracy over time, rounds and bytes of one run; at least one test."""
    levels = [] if target is None else [Level(value=target, text=f"target {percent(target)}")]
    values = [test[3] for test in tests]
    tips = [
        f"round {number:,}, {duration(at_s)}, {size(moved)}: {percent(value)}" for number, at_s, moved, value in tests
    ]
    options = []
    for name, place, axis in OVER:
        at = [float(test[place]) for test in tests]
        line = Series(name="accuracy", at=at, values=values, tips=tips)
        options.append((name, accuracy_figure([line], name, axis, at[-1], levels, data=_data(tests))))
    return Switch(name="over", question="Accuracy over", options=tuple(options))


def accuracy_figure(
    lines: Sequence[Series],
    over: str,
    axis: Callable[[float, int], Axis],
    high: float,
    levels: Sequence[Level] = (),
    *,
    caption: str = "",
    data: Grid | None = None,
) -> Figure:
    """Return accuracies over one of the three, with a legend where there are several lines."""
    shown = [value for line in lines for value in (*line.values, *line.low, *line.high)]
    shown += [level.value for level in levels]
    best = max(shown, default=1.0)
    y = percent_axis("test accuracy", min(0.0, *shown) if shown else 0.0, max(best, 0.01), 5)
    ends = [f"{line.name} ends at {percent(line.values[-1])}" for line in lines if len(line.values)]
    about = f"Test accuracy over {over}: {'; '.join(ends)}."

    def draw(room: Size) -> Markup:
        return line_chart(room, lines, x=lambda most: axis(high, most), y=y, about=about, levels=levels)

    keys = tuple(Key(mark=key_of_line(line.look), name=line.name) for line in lines) if len(lines) > 1 else ()
    return Figure(title=f"Accuracy over {over}", drawing=both(draw), caption=caption, keys=keys, data=data)


def _data(tests: Tests) -> Grid:
    step = max(1, -(-len(tests) // _MOST_ROWS))
    kept = [*tests[:-1:step], tests[-1]]
    rows = tuple((f"{number:,}", duration(at_s), size(moved), percent(value)) for number, at_s, moved, value in kept)
    heads = ("round", "virtual time", "bytes so far", "accuracy")
    note = (f"Every {step}th test and the last.",) if step > 1 else ()
    table = TextTable(headers=heads, rows=rows, numeric=frozenset(heads), notes=note)
    return Grid(table=table, summary="Numbers of this figure")
