"""What tests found over virtual time, rounds and bytes: figures with a switch between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from neulite_sim.reports.html.blocks import Figure, Grid, Key, Switch
from neulite_sim.reports.html.line_charts import Level, Series, key_of_line, line_chart
from neulite_sim.reports.html.svg import Size, both
from neulite_sim.reports.html.ticks import Axis, byte_axis, count_axis, percent_axis, perplexity_axis, time_axis
from neulite_sim.reports.html.wording import duration, size
from neulite_sim.reports.lines import target as target_text
from neulite_sim.reports.measures import ACCURACY, Measure, measures_of
from neulite_sim.reports.table import TextTable
from neulite_sim.results.stored import StoredRun

Tests = Sequence[tuple[int, float, int, float]]
"""Of every test: round, virtual seconds, bytes so far, what was found."""
OVER: tuple[tuple[str, int, Callable[[float, int], Axis]], ...] = (
    ("virtual time", 1, lambda high, most: time_axis("virtual time", high, most)),
    ("rounds", 0, lambda high, most: count_axis("rounds", high, most)),
    ("bytes", 2, lambda high, most: byte_axis("traffic, down and up", high, most)),
)
"""What is drawn over: name, place in a test, axis."""
_MOST_ROWS = 200
_MOST_TICKS = 5


def measure_switch(measure: Measure, tests: Tests, *, target: float | None = None) -> Switch:
    """Return what the tests of one run found over time, rounds and bytes; at least one test."""
    levels = [] if target is None else [Level(value=target, text=f"target {target_text(target)}")]
    values = [test[3] for test in tests]
    tips = [
        f"round {number:,}, {duration(at_s)}, {size(moved)}: {measure.say(value)}"
        for number, at_s, moved, value in tests
    ]
    options = []
    for name, place, axis in OVER:
        at = [float(test[place]) for test in tests]
        line = Series(name=measure.name, at=at, values=values, tips=tips)
        data = _data(measure, tests)
        options.append((name, measure_figure(measure, [line], name, axis, at[-1], levels, data=data)))
    return switch_of(measure, options)


def said_measures(runs: Sequence[StoredRun]) -> str:
    """Return the heading above what the tests of runs found."""
    return " and ".join(measure.name for measure in measures_of(runs)).capitalize()


def switch_of(measure: Measure, options: Sequence[tuple[str, Figure]]) -> Switch:
    """Return figures over each of the three as one."""
    # Names of buttons are those of a page, so each measure has its own.
    name = "over" if measure == ACCURACY else f"{measure.name}-over"
    return Switch(name=name, question=f"{measure.name.capitalize()} over", options=tuple(options))


def measure_figure(
    measure: Measure,
    lines: Sequence[Series],
    over: str,
    axis: Callable[[float, int], Axis],
    high: float,
    levels: Sequence[Level] = (),
    *,
    caption: str = "",
    data: Grid | None = None,
) -> Figure:
    """Return what tests found over one of the three, with a legend where there are several lines."""
    shown = [value for line in lines for value in (*line.values, *line.low, *line.high)]
    shown += [level.value for level in levels]
    y = _value_axis(measure, shown)
    ends = [f"{line.name} ends at {measure.say(line.values[-1])}" for line in lines if len(line.values)]
    about = f"Test {measure.name} over {over}: {'; '.join(ends)}."

    def draw(room: Size) -> Markup:
        return line_chart(room, lines, x=lambda most: axis(high, most), y=y, about=about, levels=levels)

    keys = tuple(Key(mark=key_of_line(line.look), name=line.name) for line in lines) if len(lines) > 1 else ()
    title = f"{measure.name.capitalize()} over {over}"
    return Figure(title=title, drawing=both(draw), caption=caption, keys=keys, data=data)


def _value_axis(measure: Measure, shown: Sequence[float]) -> Axis:
    title = f"test {measure.name}"
    if measure == ACCURACY:
        return percent_axis(title, min(0.0, *shown) if shown else 0.0, max([*shown, 0.01]), _MOST_TICKS)
    return perplexity_axis(title, shown, _MOST_TICKS)


def _data(measure: Measure, tests: Tests) -> Grid:
    step = max(1, -(-len(tests) // _MOST_ROWS))
    kept = [*tests[:-1:step], tests[-1]]
    rows = tuple(
        (f"{number:,}", duration(at_s), size(moved), measure.say(value)) for number, at_s, moved, value in kept
    )
    heads = ("round", "virtual time", "bytes so far", measure.name)
    note = (f"Every {step}th test and the last.",) if step > 1 else ()
    table = TextTable(headers=heads, rows=rows, numeric=frozenset(heads), notes=note)
    return Grid(table=table, summary="Numbers of this figure")
