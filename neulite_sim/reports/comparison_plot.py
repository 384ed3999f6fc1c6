"""The figure of a comparison: accuracy, and perplexity where runs have it, against virtual time and against rounds.

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
from neulite_sim.reports.curve_panel import Curves, add_curves, ends_early, last_place
from neulite_sim.reports.curves import MeanCurve, Tested, joined, tested_rounds
from neulite_sim.reports.drawing import (
    Legend,
    Sheet,
    add_legend,
    add_title,
    legend_of,
    look,
    sheet_of,
    time_unit,
    whole_numbers,
    wrapped,
    write_figure,
)
from neulite_sim.reports.measures import ACCURACY, Measure, measures_of
from neulite_sim.reports.plot_options import PlotOptions
from neulite_sim.reports.run_names import names_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEAST_PANEL_IN = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A line of the figure: what it is called, the tests of its runs by what they find, and how it looks."""

    label: str
    tests: Mapping[Measure, tuple[Tested, ...]]
    look: dict[str, Any]

    def over_time(self, measure: Measure, unit_s: float) -> MeanCurve | None:
        """Return its mean over virtual time."""
        return joined([(test.seconds / unit_s, test.values) for test in self.tests[measure]])

    def over_rounds(self, measure: Measure) -> MeanCurve | None:
        """Return its mean over rounds."""
        return joined([(test.rounds, test.values) for test in self.tests[measure]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """What is drawn where: of each measure the curves of its panels, side by side, or below each other."""

    panels: Mapping[Measure, Sequence[Curves]]
    is_narrow: bool
    legend: Legend

    @property
    def rows(self) -> int:
        """How many panels stand below each other."""
        return len(self.panels) * (self._num_over if self.is_narrow else 1)

    @property
    def columns(self) -> int:
        """How many panels stand beside each other."""
        return 1 if self.is_narrow else self._num_over

    @property
    def _num_over(self) -> int:
        return len(next(iter(self.panels.values())))


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
    measures = measures_of([run for line in lines for run in line.runs])
    drawn = _drawn(lines, options, measures)
    longest_s = max((float(test.seconds[-1]) for item in drawn for test in item.tests[ACCURACY] if len(test)),
                    default=0.0)  # fmt: skip
    unit, unit_s = time_unit(longest_s)
    sheet = sheet_of(options)
    panels = {
        measure: [[item.over_time(measure, unit_s) for item in drawn], [item.over_rounds(measure) for item in drawn]]
        for measure in measures
    }
    width_in = options.size_in[0] if options.size_in else sheet.width_in
    found = _arrangement(panels, [item.label for item in drawn], width_in=width_in, options=options, sheet=sheet)
    height_in = options.size_in[1] if options.size_in else found.rows * sheet.panel_in + found.legend.height_in
    figure = new_figure(figsize=(width_in, height_in), layout="constrained")
    grid = iter(np.ravel(figure.subplots(found.rows, found.columns, sharey="row", squeeze=False)))
    for measure, curves in found.panels.items():
        axes = [next(grid) for _ in curves]
        if found.is_narrow and len(axes) > 1:
            axes[1].sharey(axes[0])
        for panel, each, name in zip(axes, curves, (f"virtual time ({unit})", "rounds (aggregations)"), strict=False):
            add_curves(panel, each, [item.look for item in drawn], sheet, measure)
            panel.set_xlabel(name)
        if len(axes) > 1:
            whole_numbers(axes[1])
        for panel in axes if found.is_narrow else axes[:1]:
            room_in = _panel_in(height_in, found.legend, found.rows, sheet)
            panel.set_ylabel(wrapped(_value_label(lines, measure), room_in, sheet.font_pt))
    add_legend(figure, [Line2D([], [], **item.look) for item in drawn], found.legend)
    add_title(figure, options.title_or(""), width_in=width_in)
    return figure


def _arrangement(
    panels: Mapping[Measure, Sequence[Curves]],
    labels: Sequence[str],
    *,
    width_in: float,
    options: PlotOptions,
    sheet: Sheet,
) -> Arrangement:
    """Return the whole figure, or of a size that is asked for as much as its panels have room for."""
    is_narrow = sheet.is_narrow(width_in)
    bare = legend_of(labels, width_in=width_in, font_pt=sheet.font_pt)
    noted = legend_of(labels, width_in=width_in, font_pt=sheet.font_pt, note="; ".join(_notes(panels)))
    over_time = {measure: curves[:1] for measure, curves in panels.items()}
    # What the marks mean is then for the caption; and rounds, and then perplexity, for a figure of their own size.
    less = [(panels, bare), *([(over_time, bare)] if is_narrow else [])]
    if len(panels) > 1:
        less.append(({ACCURACY: less[-1][0][ACCURACY]}, bare))
    choices = [
        Arrangement(panels=kept, is_narrow=is_narrow, legend=legend) for kept, legend in ((panels, noted), *less)
    ]
    if options.size_in is None:
        return choices[0]
    height_in = options.size_in[1]
    fitting = (each for each in choices if _panel_in(height_in, each.legend, each.rows, sheet) >= _LEAST_PANEL_IN)
    return next(fitting, choices[-1])


def _panel_in(height_in: float, legend: Legend, rows: int, sheet: Sheet) -> float:
    """Return about how high each of the panels below each other is, without the texts below it."""
    return (height_in - legend.height_in) / rows - 4.0 * sheet.font_pt / 72


def _drawn(lines: Sequence[Line], options: PlotOptions, measures: Sequence[Measure]) -> list[Drawn]:
    found = []
    for place, (line, name) in enumerate(zip(lines, names_of(lines, options.labels), strict=True)):
        runs = [run for run in line.runs if run.not_applicable is None]
        tests = {measure: tuple(tested_rounds(run, measure.column) for run in runs) for measure in measures}
        found.append(Drawn(label=_label(name, line, tests[ACCURACY]), tests=tests, look=look(place)))
    return found


def _label(name: str, line: Line, tests: Sequence[Tested]) -> str:
    if line.status != "complete":
        return f"{name} ({line.status})"
    if all(not len(test) for test in tests):
        return f"{name} (not tested)"
    return f"{name} ({len(tests)} seeds)" if len(tests) > 1 else name


def _value_label(lines: Sequence[Line], measure: Measure) -> str:
    proxies = [bool(run.summary.get("proxy")) for line in lines for run in line.runs if run.is_complete]
    of = " of the proxy" if proxies and all(proxies) else ", of some runs the proxy's" if any(proxies) else ""
    return f"test {measure.name}{of}{measure.unit}"


def _notes(panels: Mapping[Measure, Sequence[Curves]]) -> Iterator[str]:
    known = [[curve for curve in panel if curve is not None] for each in panels.values() for panel in each]
    every = [curve for panel in known for curve in panel]
    if any(curve.count > 1 for curve in every):
        yield "line: mean, band: range of the seeds"
    if any(len(curve.ends) for curve in every):
        named = " and ".join(measure.name for measure in panels)
        yield f"tick across a line: a seed ended, and counts with its last {named} from there on"
    if any(ends_early(curve, last_place(panel)) for panel in known for curve in panel):
        yield "ring: the end of a line that ends before others"
