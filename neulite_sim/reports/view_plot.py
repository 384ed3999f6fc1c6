"""The figure of a view: a panel per number, a line per group with its mean, its interval and its seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from neulite_sim.notebook.figure import new_figure
from neulite_sim.reports.drawing import (
    Sheet,
    add_legend,
    add_title,
    legend_of,
    look,
    sheet_of,
    wrapped,
    write_figure,
)
from neulite_sim.reports.plot_options import PlotOptions
from neulite_sim.reports.run_names import names_of
from neulite_sim.reports.view_table import unit_of_measure
from neulite_sim.reports.views import Measure, View

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAME_SHARE = 0.34
_LINE = 2.6
"""Height of a group in heights of its letters."""


def draw_view(view: View, path: Path | None, options: PlotOptions | None = None) -> Figure:
    """Return the figure of a view, written into a file if one is named.

    Raises:
        ScenarioError: an option names what is not there, or the figure does not fit its size.
        OutputError: the file cannot be written.
    """
    options = options or PlotOptions()
    return write_figure(lambda: view_figure(view, options), path, options)


def view_figure(view: View, options: PlotOptions | None = None) -> Figure:
    """Return the figure of a view: panels beside each other, or above each other where that is too narrow.

    Raises:
        ScenarioError: a label names what no line is.
    """
    options = options or PlotOptions()
    sheet = sheet_of(options)
    names = names_of(view.lines, options.labels)
    width_in = options.size_in[0] if options.size_in else sheet.width_in
    count = len(view.measures)
    is_stacked = sheet.is_narrow(width_in)
    handles, labels = _handles(view)
    legend = legend_of(labels, width_in=width_in, font_pt=sheet.font_pt)
    panel_in = (_LINE * len(names) + 5) * sheet.font_pt / 72
    height_in = panel_in * (count if is_stacked else 1) + legend.height_in + 2.5 * sheet.font_pt / 72
    figure = new_figure(figsize=options.size_in or (width_in, height_in), layout="constrained")
    rows, columns = (count, 1) if is_stacked else (1, count)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes, measure in zip(panels, view.measures, strict=True):
        _panel(axes, view, measure, sheet, width_in / columns)
    room_in = _NAME_SHARE * (width_in if is_stacked else width_in * 0.6)
    panels[0].set_yticks(range(len(names)), [wrapped(name, room_in, sheet.small_pt) for name in names])
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    add_legend(figure, handles, legend)
    add_title(figure, options.title_or(view.title), width_in=width_in)
    return figure


def _panel(axes: Axes, view: View, measure: Measure, sheet: Sheet, width_in: float) -> None:
    unit, scale = unit_of_measure(measure)
    if measure.is_difference:
        axes.axvline(0, color="0.3", linewidth=0.8 * sheet.line_pt, zorder=1)
    for place in range(len(view.lines)):
        found, colour = measure.interval(place, view.kind), look(place)["color"]
        seeds = [value / scale for _, value in sorted(measure.values[place].items())]
        axes.plot(seeds, [place + 0.24] * len(seeds), linestyle="none", marker="|", color=colour, alpha=0.8,
                  markersize=1.5 * sheet.marker_pt, gid="seeds")  # fmt: skip
        if found is None:
            axes.annotate("NA", (0.5, place), xycoords=("axes fraction", "data"), ha="center", va="center", color="0.4")
            continue
        if found.low is not None and found.high is not None:
            axes.plot([found.low / scale, found.high / scale], [place, place], color=colour, linewidth=sheet.line_pt,
                      gid="interval")  # fmt: skip
        inside = colour if measure.is_whole(place) else "white"
        axes.plot([found.mean / scale], [place], linestyle="none", marker=look(place)["marker"], color=colour, zorder=4,
                  markersize=1.6 * sheet.marker_pt, markerfacecolor=inside, gid="mean")  # fmt: skip
    axes.margins(x=0.08)
    axes.set_xlabel(wrapped(f"{measure.name} ({unit})", 0.6 * width_in, sheet.font_pt))
    axes.grid(visible=True, axis="x")
    axes.tick_params(axis="y", length=0)


def _handles(view: View) -> tuple[list[Artist], list[str]]:
    from matplotlib.lines import Line2D

    def mark(**looks: Any) -> Line2D:
        return Line2D([], [], **{"color": "0.3", "linestyle": "none", **looks})

    handles: list[Artist] = [mark(linestyle="-", marker="o"), mark(marker="|")]
    labels = ["mean and 95 % interval", "seeds"]
    if any(absent for measure in view.measures for absent in measure.absent):
        handles.append(mark(marker="o", markerfacecolor="white"))
        labels.append("hollow: mean of those seeds that have the number only")
    return handles, labels
