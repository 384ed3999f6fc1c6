"""The figure of a memory-budget study: who can take part, and how long a round takes, against the budget.

Where every device has the same budget, participation is a step at a threshold, so the thresholds are drawn: a bar per
method from the budget that lets everybody take part to the one at which everybody holds every submodel. Over the
fleet's own budgets, scaled or capped, participation and data share are curves. Colours and styles are those of
`comparison_plot`. matplotlib is imported when a figure is drawn, not before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neulite_sim.errors import OutputError
from neulite_sim.reports.comparison_plot import COLOURS, STYLES
from neulite_sim.reports.whatif_table import unit_of_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH_IN, _ROUNDS_IN, _CURVES_IN, _BAR_IN = 10.0, 4.0, 4.2, 0.34
_UNITS_S = ((7200.0, "hours", 3600.0), (120.0, "minutes", 60.0), (0.0, "seconds", 1.0))
_MARKERS = "os^DvP*X"
# Grey tells an eighth method apart in any eye; the palette's own eighth, yellow, is lost on white.
_COLOURS = (*COLOURS, "#808080")

BudgetRow = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The rows of variants that agree in every number, under all their names."""

    names: tuple[str, ...]
    rows: tuple[BudgetRow, ...]
    look: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The names, as a curve carries them."""
        return ", ".join(self.names)


def draw_whatif(report: Mapping[str, Any], path: Path) -> None:
    """Write the figure of a study (the mapping of `whatif --json`).

    Raises:
        OutputError: the file cannot be written.
    """
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "neulite-sim", "font.size": 9.5}):
        figure = _figure(report)
        # Without the date the same study gives the same file.
        stamp: dict[str, Any] = {"metadata": {"Date": None}} if path.suffix.lower() == ".svg" else {}
        try:
            figure.savefig(path, dpi=150, **stamp)
        except OSError as error:
            raise OutputError(
                f"{path}: cannot write: {error.strerror}", hint="choose another place with --plot"
            ) from error


def series_of(report: Mapping[str, Any], keys: Sequence[str]) -> list[Series]:
    """Return one series per variant; variants whose rows have the same values under `keys` are one."""
    lines: dict[str, list[BudgetRow]] = {}
    for row in report["rows"]:
        lines.setdefault(row["variant"], []).append(row)
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, rows in lines.items():
        groups.setdefault(tuple(row[key] for row in rows for key in keys), []).append(name)
    place_of = {name: place for place, name in enumerate(lines)}
    return [
        Series(names=tuple(names), rows=tuple(lines[names[0]]), look=_look(place_of[names[0]]))
        for names in groups.values()
    ]


def _look(place: int) -> dict[str, Any]:
    return {
        "color": _COLOURS[place % len(_COLOURS)],
        "linestyle": STYLES[place // len(_COLOURS) % len(STYLES)],
        "marker": _MARKERS[place % len(_MARKERS)],
    }


def _figure(report: Mapping[str, Any]) -> Figure:
    from matplotlib.figure import Figure

    is_uniform = report["budget_kind"] == "memory"
    variants = dict.fromkeys(row["variant"] for row in report["rows"])
    top_in = 1.0 + _BAR_IN * len(variants) if is_uniform else _CURVES_IN
    figure = Figure(figsize=(_WIDTH_IN, top_in + _ROUNDS_IN), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(top_in, _ROUNDS_IN))
    if is_uniform:
        _thresholds(above, report, list(variants))
    else:
        _shares(above, report)
    _rounds(below, report)
    below.set_xlabel(_axis(report))
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{report['scenario']}: {report['model']}, {report['devices']} devices", x=0.01, ha="left")
    return figure


def _at(row: BudgetRow, scale: float) -> float:
    return float(row["scale"]) if "scale" in row else row["budget_bytes"] / scale


def _axis(report: Mapping[str, Any]) -> str:
    unit, _ = unit_of_bytes(report)
    kinds = {"memory": f"memory budget of every device ({unit})", "cap": f"limit of each device's own budget ({unit})"}
    return kinds.get(report["budget_kind"], "factor of each device's own budget")


def _thresholds(axes: Axes, report: Mapping[str, Any], variants: Sequence[str]) -> None:
    """Draw a bar per variant: hollow where nobody can take part, pale from there, full where all is held."""
    _, scale = unit_of_bytes(report)
    most = max(report["trains_everything_at_bytes"][name] for name in variants) / scale
    last = 1.06 * max(most, *(_at(row, scale) for row in report["rows"]))
    for place, name in enumerate(variants):
        start, whole = (
            report[key][name] / scale for key in ("includes_everyone_at_bytes", "trains_everything_at_bytes")
        )
        colour = _COLOURS[place % len(_COLOURS)]
        axes.barh(place, whole - start, left=start, height=0.62, color=colour, alpha=0.28, linewidth=0)
        axes.barh(place, last - whole, left=whole, height=0.62, color=colour, linewidth=0)
        peaks = {row["peak_memory_bytes"] / scale for row in report["submodels"] if row["variant"] == name}
        axes.vlines([peak for peak in peaks if start < peak < whole], place - 0.31, place + 0.31, colors=colour)
        # Left of the bar, or in its pale part where there is no room.
        gap, side = (-0.006 * last, "right") if start > 0.06 * last else (0.006 * last, "left")
        axes.text(start + gap, place, _short(start), ha=side, va="center", color="0.15",
                  bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.6})  # fmt: skip
        if whole > start:
            axes.text(whole + 0.006 * last, place, _short(whole), ha="left", va="center", color="white")
    axes.set_yticks(range(len(variants)), variants)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, last)
    axes.set_title("pale: everybody can take part, not with every submodel (lines); full: everybody holds all",
                   loc="left", fontsize="medium")  # fmt: skip


def _short(size: float) -> str:
    return f"{size:.0f}" if size >= 10 else f"{size:.3g}"


def _shares(axes: Axes, report: Mapping[str, Any]) -> None:
    _, scale = unit_of_bytes(report)
    found = series_of(report, ("participation_rate", "data_share"))
    for series in found:
        places = [_at(row, scale) for row in series.rows]
        axes.plot(places, [row["participation_rate"] * 100 for row in series.rows], **series.look, markersize=4)
        axes.plot(
            places, [row["data_share"] * 100 for row in series.rows], color=series.look["color"], linestyle=":",
            linewidth=1.1,
        )  # fmt: skip
    axes.set(ylabel="% of the fleet", ylim=(-3, 103))
    axes.set_title("who can take part: devices (line with marks), their data (dotted)", loc="left", fontsize="medium")
    axes.grid(visible=True, color="0.9", linewidth=0.8)
    _label(axes, [(series, series.rows[-1]["participation_rate"] * 100) for series in found])


def _rounds(axes: Axes, report: Mapping[str, Any]) -> None:
    found = [item for item in series_of(report, ("round_s",)) if any(row["round_s"] is not None for row in item.rows)]
    longest_s = max((row["round_s"] or 0.0 for item in found for row in item.rows), default=0.0)
    unit, unit_s = next((name, size) for least, name, size in _UNITS_S if longest_s >= least)
    _, scale = unit_of_bytes(report)
    ends = []
    for series in found:
        points = [(_at(row, scale), row["round_s"] / unit_s) for row in series.rows if row["round_s"] is not None]
        axes.plot(*zip(*points, strict=True), **series.look, markersize=4)
        ends.append((series, points[-1][1]))
    axes.set(ylabel=f"expected round ({unit})", ylim=(0, None))
    axes.set_title("time of a synchronous round, where somebody can take part", loc="left", fontsize="medium")
    axes.grid(visible=True, color="0.9", linewidth=0.8)
    _label(axes, ends)


def _label(axes: Axes, ends: Sequence[tuple[Series, float]]) -> None:
    """Write the names at the right ends of the curves, moved apart where they would cover each other."""
    low, high = axes.get_ylim()
    step = (high - low) * 0.058
    for (series, _), place in zip(_by_height(ends), _apart([at for _, at in _by_height(ends)], step), strict=True):
        axes.annotate(
            series.label, (1.0, place), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
            color=series.look["color"], va="center", annotation_clip=False,
        )  # fmt: skip


def _by_height(ends: Sequence[tuple[Series, float]]) -> list[tuple[Series, float]]:
    return sorted(ends, key=lambda end: end[1])


def _apart(places: Sequence[float], step: float) -> list[float]:
    """Return rising places at least `step` apart: what is too close becomes a cluster around its mean."""
    clusters: list[list[float]] = []
    for place in places:
        clusters.append([place])
        while len(clusters) > 1 and _spread(clusters[-2], step)[-1] + step > _spread(clusters[-1], step)[0]:
            clusters[-2:] = [clusters[-2] + clusters[-1]]
    return [place for cluster in clusters for place in _spread(cluster, step)]


def _spread(cluster: Sequence[float], step: float) -> list[float]:
    first = sum(cluster) / len(cluster) - step * (len(cluster) - 1) / 2
    return [first + step * number for number in range(len(cluster))]
