"""Differences of groups of runs to one of them, as a figure and as a table with verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from neulite_sim.reports.baseline import LARGER_IS_BETTER, difference
from neulite_sim.reports.comparison import Line
from neulite_sim.reports.html.blocks import Block, Figure, Grid
from neulite_sim.reports.html.interval_charts import Difference, interval_chart
from neulite_sim.reports.html.svg import Size, both
from neulite_sim.reports.html.ticks import Axis, Tick, number_axis
from neulite_sim.reports.html.wording import duration, points, size
from neulite_sim.reports.intervals import Interval
from neulite_sim.reports.measures import PERPLEXITY
from neulite_sim.reports.table import TextTable
from neulite_sim.units import format_joules

ACCURACY = "tail_accuracy"
_MOST_DRAWN = 40
_MINUS = "−"
_STATES: Mapping[str, str] = {"better": "good", "worse": "bad"}
_SAID: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "final_accuracy": ("final accuracy", points),
    "tail_accuracy": ("accuracy (mean of up to three last tests)", points),
    "best_accuracy": ("best accuracy", points),
    "final_perplexity": ("final perplexity", lambda value: _signed(value, PERPLEXITY.say)),
    "best_perplexity": ("best perplexity", lambda value: _signed(value, PERPLEXITY.say)),
    "participation_rate": ("devices that can take part", points),
    "data_share": ("data that took part", points),
    "virtual_time_s": ("virtual time", lambda value: _signed(value, duration)),
    "peak_memory_bytes": ("peak memory (tensor bytes)", lambda value: _signed(value, size)),
    "bytes_down": ("traffic down", lambda value: _signed(value, size)),
    "bytes_up": ("traffic up", lambda value: _signed(value, size)),
    "energy_j": ("energy", lambda value: _signed(value, format_joules)),
    "wasted_energy_j": ("energy wasted", lambda value: _signed(value, format_joules)),
}


def _signed(value: float, say: Callable[[float], str]) -> str:
    return f"{_MINUS if value < 0 else '+'}{say(abs(value))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Lines of a comparison with the names that the page gives them, and the one that others are held against."""

    lines: Sequence[Line]
    names: Mapping[str, str]
    notes: Sequence[str]
    baseline: Line | None

    def name(self, line: Line) -> str:
        """Return what the page calls a line."""
        return self.names[line.name]

    @property
    def others(self) -> list[Line]:
        """The groups beside the baseline."""
        return [
            line for line in self.lines if line.is_group and line is not self.baseline and self.baseline is not None
        ]


def differences(compared: Compared) -> tuple[Block, ...]:
    """Return how each group differs from the baseline; nothing without one, or without others."""
    held = compared.baseline
    if held is None:
        return ()
    found = [(line, interval) for line in compared.others if (interval := difference(line, held, ACCURACY)) is not None]
    blocks: list[Block] = [_forest(compared, held, found[:_MOST_DRAWN])] if found else []
    rows, states = [], []
    for line in compared.others:
        for key, larger_is_better in LARGER_IS_BETTER.items():
            interval = difference(line, held, key)
            if interval is not None:
                verdict = interval.verdict(larger_is_better=larger_is_better)
                what = _SAID[key][0] if key in _SAID else key
                rows.append((compared.name(line), what, *_cells(key, interval), verdict))
                states.append(("", "", "", "", "", _STATES.get(verdict, "unsure")))
    if rows:
        blocks.append(Grid(table=_table(compared, held, rows), states=tuple(states)))
    return tuple(blocks)


def _table(compared: Compared, held: Line, rows: Sequence[tuple[str, ...]]) -> TextTable:
    heads = ("method", "what", "mean difference", "95 % interval", "seeds", "verdict")
    notes = (
        f"Differences to {compared.name(held)}, paired by seed: two runs with one seed share the fleet, the data and "
        "their luck.",
        "Better or worse is said only where the interval, Student's, leaves out zero. No correction for many "
        "comparisons.",
    )
    title = f"Against {compared.name(held)}"
    return TextTable(title=title, headers=heads, rows=tuple(rows), notes=notes, numeric=frozenset(heads[2:5]))


def _cells(key: str, interval: Interval) -> tuple[str, str, str]:
    say = _SAID[key][1] if key in _SAID else _plain
    if interval.low is None or interval.high is None:
        return say(interval.mean), "one seed: unknown", str(interval.count)
    return say(interval.mean), f"{say(interval.low)} to {say(interval.high)}", str(interval.count)


def _plain(value: float) -> str:
    return f"{value:+.4g}".replace("-", _MINUS)


def _forest(compared: Compared, held: Line, found: Sequence[tuple[Line, Interval]]) -> Figure:
    rows = [
        Difference(
            name=compared.name(line),
            mean=interval.mean,
            low=interval.low,
            high=interval.high,
            words=f"{points(interval.mean)}, {interval.verdict()}",
            state=_STATES.get(interval.verdict(), "unsure"),
        )
        for line, interval in found
    ]
    ends = [0.0, *(end for row in rows for end in (row.mean, row.low, row.high) if end is not None)]
    said = "; ".join(f"{row.name} {row.words}" for row in rows)
    about = f"Difference in accuracy to {compared.name(held)}: {said}."

    def draw(room: Size) -> Markup:
        return interval_chart(room, rows, x=lambda most: _points_axis(min(ends), max(ends), most), about=about)

    return Figure(
        title=f"Accuracy against {compared.name(held)}",
        drawing=both(draw),
        caption="Mean difference over the seeds that both have, with its 95 % interval. Heavy line: no difference.",
    )


def _points_axis(low: float, high: float, most: int) -> Axis:
    found = number_axis("difference in percentage points", low * 100, high * 100, most)
    ticks = tuple(Tick(at=tick.at / 100, text=tick.text.replace("-", _MINUS)) for tick in found.ticks)
    return Axis(title=found.title, low=found.low / 100, high=found.high / 100, ticks=ticks)
