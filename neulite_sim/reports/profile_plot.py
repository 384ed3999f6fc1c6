"""The figure of a profile: a bar per submodel with its memory by category, and the share of the fleet that holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neulite_sim.notebook.figure import new_figure
from neulite_sim.reports.drawing import (
    COLOURS,
    Sheet,
    add_legend,
    add_title,
    legend_of,
    sheet_of,
    wrapped,
    write_figure,
)
from neulite_sim.reports.plot_options import PlotOptions, unknown_label
from neulite_sim.reports.profile_table import CATEGORIES, line_names
from neulite_sim.units import format_percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAME_SHARE = 0.3
_UNITS = ((20e9, "GB", 1e9), (20e6, "MB", 1e6), (20e3, "kB", 1e3), (0.0, "B", 1.0))
_REST = "allocator"


def draw_profile(report: Mapping[str, Any], path: Path | None, options: PlotOptions | None = None) -> Figure:
    """Return the figure of a profile (the mapping of `profile --json`), written into a file if one is named.

    Raises:
        ScenarioError: an option names what is not there, or the figure does not fit its size.
        OutputError: the file cannot be written.
    """
    options = options or PlotOptions()
    return write_figure(lambda: profile_figure(report, options), path, options)


def profile_figure(report: Mapping[str, Any], options: PlotOptions | None = None) -> Figure:
    """Return the figure of a profile.

    Raises:
        ScenarioError: a label names no submodel.
    """
    options = options or PlotOptions()
    entries, sheet = report["submodels"], sheet_of(options)
    names = _names(report, options)
    width_in = options.size_in[0] if options.size_in else sheet.width_in
    parts = _parts(entries)
    legend = legend_of(list(parts), width_in=width_in, font_pt=sheet.font_pt)
    height_in = (2.2 * len(names) + 7) * sheet.font_pt / 72 + legend.height_in
    figure = new_figure(figsize=options.size_in or (width_in, height_in), layout="constrained")
    axes = figure.subplots()
    _bars(axes, entries, parts, sheet)
    axes.set_yticks(range(len(names)), [wrapped(name, _NAME_SHARE * width_in, sheet.small_pt) for name in names])
    add_legend(figure, _handles(parts), legend)
    first = entries[0]
    usual = f"{report['scenario']}: {first['method']} on {first['model']}, batch {first['batch_size']}"
    add_title(figure, options.title_or(usual), width_in=width_in)
    return figure


def _names(report: Mapping[str, Any], options: PlotOptions) -> list[str]:
    names, submodels = line_names(report), [entry["submodel"] for entry in report["submodels"]]
    for wanted in options.labels:
        if wanted not in names and wanted not in submodels:
            raise unknown_label(wanted, names)
    return [
        options.labels.get(name, options.labels.get(submodel, name))
        for name, submodel in zip(names, submodels, strict=True)
    ]


def _parts(entries: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Return the bytes of every bar by category, and what the allocator takes on top where there is one."""
    parts = {name: [entry["memory_bytes"][name] for entry in entries] for name in CATEGORIES}
    if any(entry["allocator_bytes"] is not None for entry in entries):
        parts[_REST] = [entry["allocator_bytes"] - entry["tensor_bytes"] for entry in entries]
    return parts


def _bars(axes: Axes, entries: Sequence[Mapping[str, Any]], parts: Mapping[str, Sequence[int]], sheet: Sheet) -> None:
    most = max(entry["peak_memory_bytes"] for entry in entries)
    unit, scale = next((name, size) for least, name, size in _UNITS if most >= least)
    starts = [0.0] * len(entries)
    for place, sizes in enumerate(parts.values()):
        widths = [size / scale for size in sizes]
        axes.barh(range(len(entries)), widths, left=starts, height=0.62, color=COLOURS[place], linewidth=0)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    for place, entry in enumerate(entries):
        axes.annotate(
            format_percent(entry["fits_share"]), (starts[place], place), xytext=(4, 0), textcoords="offset points",
            va="center_baseline", fontsize=sheet.small_pt,
        )  # fmt: skip
    axes.set_xlim(0, 1.14 * max(starts) or 1.0)
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.set_xlabel(f"peak memory ({unit}); at the bar: devices that hold it")
    axes.grid(visible=True, axis="x")
    axes.tick_params(axis="y", length=0)


def _handles(parts: Mapping[str, Sequence[int]]) -> list[Any]:
    from matplotlib.patches import Patch

    return [Patch(color=COLOURS[place], linewidth=0) for place in range(len(parts))]
