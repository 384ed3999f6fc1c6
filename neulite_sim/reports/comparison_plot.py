"""The figure of a comparison: accuracy against virtual time and against rounds.

Lines that lie on each other are drawn as stripes of their colours; where a run ended before the others there is a mark.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neulite_sim.notebook.figure import new_figure
from neulite_sim.reports.comparison import Line
from neulite_sim.reports.curves import TOGETHER_SHARE, MeanCurve, Tested, coinciding, joined, tested_rounds
from neulite_sim.reports.drawing import (
    LINE_SHARE,
    Legend,
    Sheet,
    add_legend,
    add_title,
    legend_of,
    look,
    percent_range,
    sheet_of,
    striped,
    ticks_within,
    time_unit,
    whole_numbers,
    wrapped,
    write_figure,
)
from neulite_sim.reports.plot_options import PlotOptions
from neulite_sim.reports.run_names import names_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FEW_TESTS = 12
_LEAST_PANEL_IN = 1.0
# Of the diagonal of a panel, between two markers of a line with many tests.
_MARKER_STEP = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A line of the figure: what it is called, the tests of its runs, and how it looks."""

    label: str
    tests: tuple[Tested, ...]
    look: dict[str, Any]

    def over_time(self, unit_s: float) -> MeanCurve | None:
        """Return its mean accuracy over virtual time."""
        return joined([(test.seconds / unit_s, test.accuracies) for test in self.tests])

    def over_rounds(self) -> MeanCurve | None:
        """Return its mean accuracy over rounds."""
        return joined([(test.rounds, test.accuracies) for test in self.tests])


def draw(lines: Sequence[Line], path: Path | None, options: PlotOptions | None = None) -> Figure:
    """Return the figure: a curve per line, of a group its mean and the range of its seeds; NA in the legend only.

    It is written into a file if one is named.

    Raises:
        ScenarioError: an option names what is not there, or the figure does not fit its size.
        OutputError: the file cannot be written.
        DataNotFoundError: the rounds.csv of a run is missing or damaged.
    """
    options = options or PlotOptions()
    return write_figure(lambda: comparison_figure(lines, options), path, options)


def comparison_figure(lines: Sequence[Line], options: PlotOptions | None = None) -> Figure:
    """Return the figure of a comparison.

    Raises:
        ScenarioError: a label names what no line is.
        DataNotFoundError: the rounds.csv of a run is missing or damaged.
    """
    from matplotlib.lines import Line2D

    options = options or PlotOptions()
    drawn = _drawn(lines, options)
    longest_s = max((float(test.seconds[-1]) for item in drawn for test in item.tests if len(test)), default=0.0)
    unit, unit_s = time_unit(longest_s)
    sheet = sheet_of(options)
    curves = [[item.over_time(unit_s) for item in drawn], [item.over_rounds() for item in drawn]]
    width_in = options.size_in[0] if options.size_in else sheet.width_in
    labels, notes = [item.label for item in drawn], "; ".join(_notes(curves))
    is_narrow = sheet.is_narrow(width_in)
    rows = 2 if is_narrow else 1
    legend = legend_of(labels, width_in=width_in, font_pt=sheet.font_pt, note=notes)
    if options.size_in is not None and _panel_in(options.size_in[1], legend, rows, sheet) < _LEAST_PANEL_IN:
        # What the marks mean is then for the caption; and rounds, for a figure of their own size.
        legend = legend_of(labels, width_in=width_in, font_pt=sheet.font_pt)
        if is_narrow and _panel_in(options.size_in[1], legend, rows, sheet) < _LEAST_PANEL_IN:
            rows, curves = 1, curves[:1]
    height_in = options.size_in[1] if options.size_in else rows * sheet.panel_in + legend.height_in
    figure = new_figure(figsize=(width_in, height_in), layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, len(curves) // rows, sharey=True))
    for axes, found in zip(panels, curves, strict=True):
        _add_curves(axes, found, drawn, sheet)
    if len(panels) > 1:
        whole_numbers(panels[1])
    for axes, name in zip(panels, (f"virtual time ({unit})", "rounds (aggregations)"), strict=False):
        axes.set_xlabel(name)
    for axes in panels if is_narrow else panels[:1]:
        label = wrapped(_accuracy_label(lines), _panel_in(height_in, legend, rows, sheet), sheet.font_pt)
        axes.set_ylabel(label)
    add_legend(figure, [Line2D([], [], **item.look) for item in drawn], legend)
    add_title(figure, options.title_or(""), width_in=width_in)
    return figure


def _panel_in(height_in: float, legend: Legend, rows: int, sheet: Sheet) -> float:
    """Return about how high each of the panels below each other is, without the texts below it."""
    return (height_in - legend.height_in) / rows - 4.0 * sheet.font_pt / 72


def _drawn(lines: Sequence[Line], options: PlotOptions) -> list[Drawn]:
    found = []
    for place, (line, name) in enumerate(zip(lines, names_of(lines, options.labels), strict=True)):
        tests = tuple(tested_rounds(run) for run in line.runs if run.not_applicable is None)
        found.append(Drawn(label=_label(name, line, tests), tests=tests, look=look(place)))
    return found


def _label(name: str, line: Line, tests: Sequence[Tested]) -> str:
    if line.status != "complete":
        return f"{name} ({line.status})"
    if all(not len(test) for test in tests):
        return f"{name} (not tested)"
    return f"{name} ({len(tests)} seeds)" if len(tests) > 1 else name


def _accuracy_label(lines: Sequence[Line]) -> str:
    proxies = [bool(run.summary.get("proxy")) for line in lines for run in line.runs if run.is_complete]
    of = " of the proxy" if proxies and all(proxies) else ", of some runs the proxy's" if any(proxies) else ""
    return f"test accuracy{of} (%)"


def _notes(panels: Sequence[Sequence[MeanCurve | None]]) -> Iterator[str]:
    known = [[curve for curve in panel if curve is not None] for panel in panels]
    every = [curve for panel in known for curve in panel]
    if any(curve.count > 1 for curve in every):
        yield "line: mean, band: range of the seeds"
    if any(len(curve.ends) for curve in every):
        yield "tick across a line: a seed ended, and counts with its last accuracy from there on"
    if any(_ends_early(curve, _last(panel)) for panel in known for curve in panel):
        yield "ring: the end of a line that ends before others"


def _last(curves: Sequence[MeanCurve]) -> float:
    return max((float(curve.at[-1]) for curve in curves), default=1.0) or 1.0


def _ends_early(curve: MeanCurve, last: float) -> bool:
    return bool(curve.at[-1] < TOGETHER_SHARE * last)


def _add_curves(axes: Axes, curves: Sequence[MeanCurve | None], drawn: Sequence[Drawn], sheet: Sheet) -> None:
    """Draw the curves of a panel, and marks where seeds and lines end."""
    known = [curve for curve in curves if curve is not None]
    low, high = percent_range([float(100 * end(values)) for curve in known
                               for end, values in ((np.min, curve.low), (np.max, curve.high))])  # fmt: skip
    last = _last(known)
    axes.set(xlim=(-0.03 * last, 1.04 * last), ylim=(low, high))
    ticks_within(axes, 0, 100)
    axes.grid(visible=True)
    pairs = [None if curve is None else (curve.at, 100 * curve.mean) for curve in curves]
    places = coinciding(pairs, tolerance=LINE_SHARE * (high - low))
    for place, (curve, item, (rank, among)) in enumerate(zip(curves, drawn, places, strict=True)):
        if curve is None:
            continue
        colour = item.look["color"]
        axes.plot(curve.at, curve.mean * 100, zorder=3, **_line(item.look, curve, place, (rank, among), sheet))
        if curve.has_band:
            axes.fill_between(curve.at, curve.low * 100, curve.high * 100, color=colour, alpha=0.15, linewidth=0)
        if len(curve.ends):
            axes.plot(curve.ends, [100 * curve.value_at(end) for end in curve.ends], linestyle="none", marker="|",
                      markersize=2.6 * sheet.marker_pt, markeredgewidth=sheet.line_pt, color=colour, zorder=4,
                      clip_on=False, gid="seed ends")  # fmt: skip
        if _ends_early(curve, last):
            axes.plot(curve.at[-1:], curve.mean[-1:] * 100, linestyle="none", marker="o", color=colour, zorder=5,
                      markersize=(1.7 + 0.8 * (among - 1 - rank)) * sheet.marker_pt, markerfacecolor="white",
                      markeredgewidth=sheet.line_pt, clip_on=False, gid="line ends")  # fmt: skip


def _line(
    looks: Mapping[str, Any], curve: MeanCurve, place: int, coincidence: tuple[int, int], sheet: Sheet
) -> dict[str, Any]:
    """Return how the curve of the line at a place is drawn: a marker at each of few tests, or here and there."""
    found = striped(looks, *coincidence, sheet)
    if len(curve.at) > _FEW_TESTS:
        # At other places than the line before, so that lines near each other show their markers.
        found["markevery"] = (place * 0.37 % 1 * _MARKER_STEP, _MARKER_STEP)
        found["markersize"] = sheet.marker_pt
    return found
