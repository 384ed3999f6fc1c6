"""The figure of a comparison: accuracy against virtual time and against rounds.

Colours are those of Okabe and Ito (2008), which people with any of the common colour blindnesses tell apart
(https://jfly.uni-koeln.de/color/); line styles repeat the difference without colour. matplotlib is imported here only.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neulite_sim.arrays import Floats
from neulite_sim.errors import NeuliteError, OutputError, Problem, ScenarioError
from neulite_sim.reports.comparison import Line
from neulite_sim.results.stored import StoredRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
STYLES = ("-", "--", "-.", ":")
_UNITS_S = ((7200.0, "hours", 3600.0), (120.0, "minutes", 60.0), (0.0, "seconds", 1.0))
_WIDTH_IN, _PANELS_IN, _LEGEND_ROW_IN, _LETTER_IN = 11.0, 4.2, 0.22, 0.085


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanCurve:
    """Accuracy (0 to 1) over rounds or seconds; `low` and `high` are its limits over the seeds of a group."""

    at: Floats
    mean: Floats
    low: Floats
    high: Floats


def check_plot(path: Path) -> None:
    """Refuse a figure that cannot be drawn, before anything is read.

    Raises:
        ScenarioError: the file is called neither .png nor .svg.
        NeuliteError: matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        finding = f"{str(path)!r} is neither .png nor .svg"
        hint = "call the figure one of them"
        raise ScenarioError([Problem.advising(key="--plot", found=finding, hint=hint)])
    try:
        is_there = importlib.util.find_spec("matplotlib") is not None
    except ValueError:
        is_there = False
    if not is_there:
        raise NeuliteError("--plot needs matplotlib; install it with: python -m pip install matplotlib")


def joined(curves: Sequence[tuple[Floats, Floats]]) -> MeanCurve | None:
    """Return the mean curve of several and its limits, between the latest start and the earliest end of them.

    Each curve is a pair of places, rising, and values; between two tests it is taken as straight. None where they
    have no part in common.
    """
    if not curves or any(not len(at) for at, _ in curves):
        return None
    first, last = max(at[0] for at, _ in curves), min(at[-1] for at, _ in curves)
    if first > last:
        return None
    places = np.unique(np.concatenate([at for at, _ in curves]))
    places = places[(places >= first) & (places <= last)]
    values = np.stack([np.interp(places, at, value) for at, value in curves])
    return MeanCurve(at=places, mean=values.mean(axis=0), low=values.min(axis=0), high=values.max(axis=0))


def draw(lines: Sequence[Line], path: Path) -> None:
    """Write the figure: a curve per line, of a group its mean and the range of its seeds; NA in the legend only.

    Raises:
        OutputError: the file cannot be written.
        DataNotFoundError: the rounds.csv of a run is missing or damaged.
    """
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "neulite-sim", "font.size": 9.5}):
        figure = _figure(lines)
        # Without the date the same runs give the same file.
        stamp: dict[str, Any] = {"metadata": {"Date": None}} if path.suffix.lower() == ".svg" else {}
        try:
            figure.savefig(path, dpi=150, **stamp)
        except OSError as error:
            raise OutputError(
                f"{path}: cannot write: {error.strerror}", hint="choose another place with --plot"
            ) from error


def _figure(lines: Sequence[Line]) -> Figure:
    from matplotlib.figure import Figure

    tested = [[_curve(run) for run in line.runs if run.not_applicable is None] for line in lines]
    longest_s = max((float(seconds[-1]) for curves in tested for _, seconds, _ in curves if len(seconds)), default=0.0)
    unit, scale = next((name, size) for least, name, size in _UNITS_S if longest_s >= least)
    labels = [_label(line, curves) for line, curves in zip(lines, tested, strict=True)]
    columns = max(1, min(len(labels), int(_WIDTH_IN / (0.6 + _LETTER_IN * max(map(len, labels), default=1)))))
    rows = -(-len(labels) // columns)
    figure = Figure(figsize=(_WIDTH_IN, _PANELS_IN + _LEGEND_ROW_IN * rows), layout="constrained")
    by_time, by_round = figure.subplots(1, 2, sharey=True)
    for place, (curves, label) in enumerate(zip(tested, labels, strict=True)):
        look: dict[str, Any] = {
            "color": COLOURS[place % len(COLOURS)],
            "linestyle": STYLES[place // len(COLOURS) % len(STYLES)],
        }
        _add(by_time, joined([(seconds / scale, values) for _, seconds, values in curves]), label, look)
        _add(by_round, joined([(rounds, values) for rounds, _, values in curves]), label, look)
    by_time.set(xlabel=f"virtual time ({unit})", ylabel=_accuracy_label(lines))
    by_round.set(xlabel="rounds (aggregations)")
    for axes in (by_time, by_round):
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(visible=True, color="0.9", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    title = "line: mean, band: range of the seeds" if any(len(curves) > 1 for curves in tested) else None
    figure.legend(*by_time.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False,
                  title=title)  # fmt: skip
    return figure


def _accuracy_label(lines: Sequence[Line]) -> str:
    proxies = [bool(run.summary.get("proxy")) for line in lines for run in line.runs if run.is_complete]
    of = " of the proxy" if proxies and all(proxies) else ", of some runs the proxy's" if any(proxies) else ""
    return f"test accuracy{of} (%)"


def _curve(run: StoredRun) -> tuple[Floats, Floats, Floats]:
    """Return rounds, virtual seconds and accuracies of the tests of a run."""
    columns = np.array(run.curve(), dtype=np.float64).reshape(-1, 3)
    return columns[:, 0], columns[:, 1], columns[:, 2]


def _label(line: Line, curves: Sequence[tuple[Floats, Floats, Floats]]) -> str:
    if line.status != "complete":
        return f"{line.name} ({line.status})"
    if all(not len(rounds) for rounds, _, _ in curves):
        return f"{line.name} (not tested)"
    return f"{line.name} ({len(curves)} seeds)" if len(curves) > 1 else line.name


def _add(axes: Axes, curve: MeanCurve | None, label: str, look: dict[str, Any]) -> None:
    if curve is None:
        axes.plot([], [], label=label, **look)
        return
    is_band = bool((curve.high > curve.low).any())
    marker: dict[str, Any] = {"marker": "o", "markersize": 3} if len(curve.at) <= 12 and not is_band else {}
    axes.plot(curve.at, curve.mean * 100, label=label, linewidth=1.6, **look, **marker)
    if is_band:
        axes.fill_between(curve.at, curve.low * 100, curve.high * 100, color=look["color"], alpha=0.15, linewidth=0)
