"""One panel of curves with its axes: stripes where lines lie on each other, marks where seeds and lines end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neulite_sim.arrays import Floats
from neulite_sim.reports.curves import TOGETHER_SHARE, MeanCurve, coinciding
from neulite_sim.reports.drawing import LINE_SHARE, Sheet, percent_range, striped, ticks_within
from neulite_sim.reports.measures import ACCURACY, Measure, Range, log_steps, perplexity_range, step_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEW_TESTS = 12
# Of the diagonal of a panel, between two markers of a line with many tests.
_MARKER_STEP = 0.2
_MOST_STEPS = 6

Curves = Sequence[MeanCurve | None]
"""Of each line its curve in one panel."""


def last_place(curves: Sequence[MeanCurve]) -> float:
    """Return where the last of the curves of a panel ends."""
    return max((float(curve.at[-1]) for curve in curves), default=1.0) or 1.0


def ends_early(curve: MeanCurve, last: float) -> bool:
    """Return whether a curve ends well before the last place of its panel."""
    return bool(curve.at[-1] < TOGETHER_SHARE * last)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heights:
    """The vertical axis of a panel: values are drawn `factor` times as large, between `low` and `high`."""

    low: float
    high: float
    factor: float = 1.0
    is_log: bool = False

    def places(self, values: Floats) -> Floats:
        """Return values as distances along the axis."""
        scaled: Floats = np.log10(values) if self.is_log else self.factor * values
        return scaled

    @property
    def tolerance(self) -> float:
        """What the width of a line covers, along the axis."""
        low, high = self.places(np.array([self.low, self.high]) / self.factor)
        return LINE_SHARE * float(high - low)


def _heights(axes: Axes, curves: Sequence[MeanCurve], measure: Measure) -> _Heights:
    """Return the vertical axis of a panel, which then has it."""
    ends = [float(end(values)) for curve in curves for end, values in ((np.min, curve.low), (np.max, curve.high))]
    if measure == ACCURACY:
        low, high = percent_range([100 * end for end in ends])
        axes.set_ylim(low, high)
        ticks_within(axes, 0, 100)
        return _Heights(low=low, high=high, factor=100)
    found = _with_margin(perplexity_range(ends))
    if found.is_log:
        steps = log_steps(found.low, found.high, _MOST_STEPS)
        axes.set_yscale("log")
        axes.set_yticks(steps, [step_text(at) for at in steps])
        axes.minorticks_off()
    axes.set_ylim(found.low, found.high)
    return _Heights(low=found.low, high=found.high, is_log=found.is_log)


def _with_margin(found: Range) -> Range:
    if found.is_log:
        factor = (found.high / found.low) ** 0.05
        return Range(low=found.low / factor, high=found.high * factor, is_log=True)
    margin = 0.05 * (found.high - found.low)
    return Range(low=found.low - margin, high=found.high + margin, is_log=False)


def add_curves(axes: Axes, curves: Curves, looks: Sequence[Mapping[str, Any]], sheet: Sheet, measure: Measure) -> None:
    """Draw the curves of a panel, each with its own look, and marks where seeds and lines end."""
    known = [curve for curve in curves if curve is not None]
    last = last_place(known)
    axes.set_xlim(-0.03 * last, 1.04 * last)
    heights = _heights(axes, known, measure)
    axes.grid(visible=True)
    pairs = [None if curve is None else (curve.at, heights.places(curve.mean)) for curve in curves]
    places = coinciding(pairs, tolerance=heights.tolerance)
    factor = heights.factor
    for place, (curve, own, (rank, among)) in enumerate(zip(curves, looks, places, strict=True)):
        if curve is None:
            continue
        colour = own["color"]
        axes.plot(curve.at, curve.mean * factor, zorder=3, **_line(own, curve, place, (rank, among), sheet))
        if curve.has_band:
            axes.fill_between(curve.at, curve.low * factor, curve.high * factor, color=colour, alpha=0.15, linewidth=0)
        if len(curve.ends):
            axes.plot(curve.ends, [factor * curve.value_at(end) for end in curve.ends], linestyle="none", marker="|",
                      markersize=2.6 * sheet.marker_pt, markeredgewidth=sheet.line_pt, color=colour, zorder=4,
                      clip_on=False, gid="seed ends")  # fmt: skip
        if ends_early(curve, last):
            axes.plot(curve.at[-1:], curve.mean[-1:] * factor, linestyle="none", marker="o", color=colour, zorder=5,
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
