"""The figure of a memory-budget study: who can take part, and how long a round takes, against the budget.

Where every device has the same budget, participation is a step at a threshold, so the thresholds are drawn: a bar per
method from the budget that lets everybody take part to the one at which everybody holds every submodel. Over the
fleet's own budgets, scaled or capped, participation and data share are curves. Where methods were trained, their
accuracy is a panel of its own. Budgets that span more than a factor of thirty stand on a logarithmic axis.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neulite_sim.notebook.figure import new_figure
from neulite_sim.reports.curves import coinciding
from neulite_sim.reports.drawing import (
    COLOURS,
    LINE_SHARE,
    Sheet,
    add_legend,
    add_title,
    legend_of,
    look,
    percent_range,
    sheet_of,
    striped,
    text_width_in,
    ticks_within,
    time_unit,
    wrapped,
    write_figure,
)
from neulite_sim.reports.plot_options import PlotOptions, unknown_label
from neulite_sim.reports.run_names import variant_name
from neulite_sim.reports.whatif_table import unit_of_bytes
from neulite_sim.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOGARITHMIC_FROM = 30.0
_NAME_SHARE = 0.36
"""Most of the width of a figure that the names beside the bars take."""

BudgetRow = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study as its figure sees it: its variants in their order, and the axis of its budgets."""

    report: Mapping[str, Any]
    labels: Mapping[str, str]
    """What each variant is called."""
    unit: str
    unit_bytes: float
    is_uniform: bool
    """Whether every device has the same budget."""
    is_logarithmic: bool
    first: float
    last: float
    """The ends of the axis, in `unit` or as factors."""

    def rows(self, variant: str) -> list[BudgetRow]:
        """Return the rows of a variant, by rising budget."""
        return [row for row in self.report["rows"] if row["variant"] == variant]

    def at(self, row: BudgetRow) -> float:
        """Return where a row stands on the axis."""
        return float(row["scale"]) if "scale" in row else row["budget_bytes"] / self.unit_bytes

    def share(self, place: float) -> float:
        """Return how far along the axis a place is, 0 to 1."""
        if self.is_logarithmic:
            return math.log(max(place, self.first) / self.first) / math.log(self.last / self.first)
        return (place - self.first) / (self.last - self.first)

    @property
    def axis_label(self) -> str:
        """What the axis says."""
        unit = "" if self.is_logarithmic else f" ({self.unit})"
        kinds = {"memory": f"memory budget of every device{unit}", "cap": f"limit of each device's own budget{unit}"}
        return kinds.get(self.report["budget_kind"], "factor of each device's own budget")


def draw_whatif(report: Mapping[str, Any], path: Path | None, options: PlotOptions | None = None) -> Figure:
    """Return the figure of a study (the mapping of `whatif --json`), written into a file if one is named.

    Raises:
        ScenarioError: an option names what is not there, or the figure does not fit its size.
        OutputError: the file cannot be written.
    """
    options = options or PlotOptions()
    return write_figure(lambda: whatif_figure(report, options), path, options)


def check_labels(variants: Sequence[str], options: PlotOptions) -> None:
    """Refuse names for what is no variant of a study.

    Raises:
        ScenarioError: a label names no variant.
    """
    for name in options.labels:
        if name not in variants:
            raise unknown_label(name, variants)


def whatif_figure(report: Mapping[str, Any], options: PlotOptions | None = None) -> Figure:
    """Return the figure of a study.

    Raises:
        ScenarioError: a label names no variant.
    """
    options = options or PlotOptions()
    sheet = sheet_of(options)
    study = _study(report, options)
    width_in = options.size_in[0] if options.size_in else sheet.width_in
    bars = functools.partial(_thresholds, width_in=width_in)
    panels: list[tuple[Callable[[Axes, Study, Sheet], None], float]] = [
        (bars, _bars_in(study, sheet)) if study.is_uniform else (_shares, sheet.panel_in),
        (_rounds, sheet.panel_in * 0.9),
    ]
    if any(row.get("tail_accuracy") is not None for row in report["rows"]):
        panels.append((_accuracies, sheet.panel_in * 0.9))
    handles, labels = _handles(study)
    legend = legend_of(labels, width_in=width_in, font_pt=sheet.font_pt)
    heights = [height for _, height in panels]
    height_in = options.size_in[1] if options.size_in else sum(heights) + legend.height_in + 3 * sheet.font_pt / 72
    figure = new_figure(figsize=(width_in, height_in), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, height_ratios=heights)
    for one, (add, _) in zip(axes, panels, strict=True):
        _axis(one, study)
        add(one, study, sheet)
    curves_in = (height_in - legend.height_in) * heights[-1] / sum(heights) - 2 * sheet.font_pt / 72
    for one in axes:
        one.set_ylabel(wrapped(one.get_ylabel(), curves_in, sheet.font_pt))
    if study.is_uniform:
        _name_bars(axes[0], study, width_in, sheet)
    axes[-1].set_xlabel(study.axis_label)
    add_legend(figure, handles, legend)
    usual = f"{report['scenario']}: {report['model']}, {report['devices']} devices"
    add_title(figure, options.title_or(usual), width_in=width_in)
    return figure


def _study(report: Mapping[str, Any], options: PlotOptions) -> Study:
    variants = list(dict.fromkeys(row["variant"] for row in report["rows"]))
    check_labels(variants, options)
    unit, scale = unit_of_bytes(report)
    is_uniform = report["budget_kind"] == "memory"
    places = [float(row["scale"]) if "scale" in row else row["budget_bytes"] / scale for row in report["rows"]]
    if is_uniform:
        ends = ("includes_everyone_at_bytes", "trains_everything_at_bytes")
        places += [report[key][name] / scale for key in ends for name in variants]
    low, high = min(places), max(places)
    is_logarithmic = low > 0 and high / low > _LOGARITHMIC_FROM
    # So that no mark lies on an end of the axis.
    margin = (high / low) ** 0.05 if is_logarithmic else 0.05 * high
    return Study(
        report=report,
        labels={name: options.labels.get(name, variant_name(name)) for name in variants},
        unit=unit,
        unit_bytes=scale,
        is_uniform=is_uniform,
        is_logarithmic=is_logarithmic,
        first=low / margin if is_logarithmic else 0.0 if is_uniform else -margin,
        last=high * margin if is_logarithmic else high + margin,
    )


def _axis(axes: Axes, study: Study) -> None:
    if study.is_logarithmic:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        axes.xaxis.set_minor_formatter(NullFormatter())
        if "scale" not in study.report["rows"][0]:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: format_bytes(place * study.unit_bytes)))
        else:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: f"{place:g}"))
    axes.set_xlim(study.first, study.last)


def _bars_in(study: Study, sheet: Sheet) -> float:
    """Return the height of the panel of thresholds: two lines of letters per bar."""
    return (2.2 * len(study.labels) + 1.5) * sheet.font_pt / 72


def _thresholds(axes: Axes, study: Study, sheet: Sheet, *, width_in: float) -> None:
    """Draw a bar per variant: hollow where nobody can take part, pale from there, full where all is held."""
    report, small = study.report, sheet.small_pt
    for place, name in enumerate(study.labels):
        start, whole = (report[key][name] / study.unit_bytes
                        for key in ("includes_everyone_at_bytes", "trains_everything_at_bytes"))  # fmt: skip
        colour = look(place)["color"]
        axes.barh(place, whole - start, left=start, height=0.62, color=colour, alpha=0.28, linewidth=0)
        axes.barh(place, study.last - whole, left=whole, height=0.62, color=colour, linewidth=0)
        peaks = {row["peak_memory_bytes"] / study.unit_bytes for row in report["submodels"] if row["variant"] == name}
        axes.vlines([peak for peak in peaks if start < peak < whole], place - 0.31, place + 0.31, colors=colour,
                    linewidth=sheet.line_pt)  # fmt: skip
        for text, where, side in _bar_texts(study, start, whole, small, 0.7 * width_in):
            axes.annotate(text, (where, place), xytext=(3 if side == "left" else -3, 0), textcoords="offset points",
                          ha=side, va="center_baseline", fontsize=small, color="0.1",
                          bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.7})  # fmt: skip
    axes.set_yticks(range(len(study.labels)))
    axes.set_ylim(len(study.labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _bar_texts(
    study: Study, start: float, whole: float, font_pt: float, room_in: float
) -> Iterator[tuple[str, float, str]]:
    """Yield the numbers of a bar, where they stand and which of their ends is there; one text where two do not fit."""
    first, last = _short(start, study), _short(whole, study)
    wide = (text_width_in(first, font_pt) + 0.12) / room_in
    fits_before = study.share(start) > wide
    if whole > start and not fits_before and study.share(whole) - study.share(start) < wide:
        yield f"{first} / {last}", whole, "left"
        return
    yield first, start, "right" if fits_before else "left"
    if whole > start:
        fits_behind = 1 - study.share(whole) > (text_width_in(last, font_pt) + 0.12) / room_in
        yield last, whole, "left" if fits_behind else "right"


def _short(size: float, study: Study) -> str:
    if study.is_logarithmic:
        return format_bytes(size * study.unit_bytes)
    return f"{size:.0f}" if size >= 10 else f"{size:.3g}"


def _name_bars(axes: Axes, study: Study, width_in: float, sheet: Sheet) -> None:
    names = [wrapped(label, _NAME_SHARE * width_in, sheet.small_pt) for label in study.labels.values()]
    axes.set_yticks(range(len(names)), names)


def _handles(study: Study) -> tuple[list[Artist], list[str]]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    # The bars have names; their colours tell as many lines apart as there are colours.
    named = {} if study.is_uniform and len(study.labels) <= len(COLOURS) else study.labels
    handles: list[Artist] = [Line2D([], [], **look(place)) for place, _ in enumerate(named)]
    labels = list(named.values())
    if study.is_uniform:
        handles += [Patch(color="0.5", alpha=0.28, linewidth=0), Patch(color="0.5", linewidth=0)]
        labels += ["everybody can take part, not with all submodels (lines)", "everybody holds every submodel"]
    else:
        handles += [Line2D([], [], color="0.4", linestyle="-"), Line2D([], [], color="0.4", linestyle=":")]
        labels += ["with a marker: devices", "dotted: their data"]
    return handles, labels


def _shares(axes: Axes, study: Study, sheet: Sheet) -> None:
    axes.set(ylabel="can take part (%)", ylim=(-4, 104), yticks=range(0, 101, 20))
    _curves(axes, study, sheet, lambda row: 100 * row["participation_rate"])
    for place, variant in enumerate(study.labels):
        rows = study.rows(variant)
        axes.plot([study.at(row) for row in rows], [100 * row["data_share"] for row in rows],
                  color=look(place)["color"], linestyle=":", linewidth=0.7 * sheet.line_pt)  # fmt: skip


def _rounds(axes: Axes, study: Study, sheet: Sheet) -> None:
    longest_s = max((row["round_s"] or 0.0 for row in study.report["rows"]), default=0.0)
    unit, unit_s = time_unit(longest_s)
    top = 1.06 * longest_s / unit_s or 1.0
    axes.set_ylim(-0.04 * top, top)
    _curves(axes, study, sheet, lambda row: None if row["round_s"] is None else row["round_s"] / unit_s)
    ticks_within(axes, 0, top)
    axes.set_ylabel(f"expected round ({unit})")


def _accuracies(axes: Axes, study: Study, sheet: Sheet) -> None:
    known = [100 * row["tail_accuracy"] for row in study.report["rows"] if row.get("tail_accuracy") is not None]
    axes.set_ylim(*percent_range(known))

    def accuracy(row: BudgetRow) -> float | None:
        found = row.get("tail_accuracy")
        return None if found is None else 100 * float(found)

    _curves(axes, study, sheet, accuracy)
    ticks_within(axes, 0, 100)
    axes.set_ylabel("test accuracy (%)")


def _curves(axes: Axes, study: Study, sheet: Sheet, value: Callable[[BudgetRow], float | None]) -> None:
    """Draw a curve per variant over the budgets at which it has a value, one that lies on others as stripes.

    The panel has its limits by then: they say which curves lie on each other.
    """
    low, high = axes.get_ylim()
    curves = []
    for variant in study.labels:
        points = [(study.at(row), found) for row in study.rows(variant) if (found := value(row)) is not None]
        at, values = np.array(points, dtype=np.float64).reshape(-1, 2).T
        curves.append((at, values))
    places = coinciding(curves, tolerance=LINE_SHARE * (high - low))
    for place, ((at, values), (rank, among)) in enumerate(zip(curves, places, strict=True)):
        axes.plot(at, values, **striped(look(place), rank, among, sheet))
    axes.grid(visible=True)
