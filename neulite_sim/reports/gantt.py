"""The Gantt picture of a few rounds: a line per device, a bar per phase, a mark per drop, a line per aggregation.

Waiting is hatched, and reasons of drops differ in the shape of their marks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neulite_sim.reports.drawing import (
    Sheet,
    add_legend,
    add_title,
    legend_of,
    sheet_of,
    text_width_in,
    time_unit,
    write_figure,
)
from neulite_sim.reports.plot_options import PlotOptions, check_plot
from neulite_sim.reports.timeline_window import Window, read_window
from neulite_sim.results.flight_events import WAITING, spans
from neulite_sim.results.rows import FlightRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_DEVICES = 40
LOOKS: dict[str, dict[str, Any]] = {
    "download": {"facecolor": "#56B4E9"},
    "compute": {"facecolor": "#E69F00"},
    "upload": {"facecolor": "#009E73"},
    WAITING: {"facecolor": "white", "edgecolor": "0.45", "hatch": "////", "linewidth": 0.0},
}
_MARKS = ("X", "P", "D", "v", "s")
_MARK_COLOUR = "#D55E00"
_OTHERS = "other reasons"
# A line of the picture in heights of its letters, and what stands above and below the lines.
_LINE, _AROUND = 1.45, 9.0
_LEAST_DEVICES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Which line of the picture is whose: `place` of each device shown, and of the heading of each class."""

    place: dict[int, int]
    headings: dict[str, int]
    num_left_out: dict[str, int]

    @property
    def count(self) -> int:
        """Lines with headings."""
        return len(self.place) + len(self.headings)


def draw_gantt(
    run_dir: Path, out: Path, *, rounds: int = 3, first: int = 1, options: PlotOptions | None = None
) -> None:
    """Write a picture of `rounds` rounds of a run, from round `first` on, as .png, .svg or .pdf.

    Raises:
        ScenarioError: the file is called none of them, there are no such rounds, or the picture does not fit its size.
        NeuliteError: matplotlib is not installed.
        DataNotFoundError: the folder holds no rows, or damaged ones.
        OutputError: the picture cannot be written.
    """
    check_plot(out)
    draw_window(read_window(run_dir, first=first, count=rounds), out, options)


def draw_window(window: Window, out: Path, options: PlotOptions | None = None) -> None:
    """Write a picture of a window.

    Raises:
        ScenarioError: it does not fit its size.
        OutputError: it cannot be written.
    """
    options = options or PlotOptions()
    write_figure(lambda: gantt_figure(window, options), out, options)


def gantt_figure(window: Window, options: PlotOptions | None = None) -> Figure:
    """Return the picture of a window."""
    from matplotlib.figure import Figure

    options = options or PlotOptions()
    sheet = sheet_of(options)
    line_in = _LINE * sheet.font_pt / 72
    width_in, height_in = options.size_in or (sheet.width_in, 0.0)
    # In a picture whose height is given there are only as many lines as can be read.
    most = (
        MOST_DEVICES
        if not height_in
        else max(_LEAST_DEVICES, int((height_in - 1.6 * _AROUND * sheet.font_pt / 72) / line_in))
    )
    lines = lines_of(window, most=min(most, MOST_DEVICES))
    unit, scale = time_unit(window.end_s)
    figure = Figure(figsize=(width_in, height_in or sheet.panel_in), layout="constrained")
    axes = figure.subplots()
    shown = [row for row in window.flights if row.device in lines.place]
    _bars(axes, shown, lines, scale)
    _drops(axes, shown, lines, window, scale, sheet)
    _aggregations(axes, window, scale, width_in)
    _frame(axes, lines)
    first, last = window.rounds[0].round, window.rounds[-1].round
    which = f"round {first}" if first == last else f"rounds {first} to {last}"
    add_title(figure, options.title_or(f"{window.run_dir.resolve().name}: {which}"), width_in=width_in)
    margin_s = 0.01 * (window.end_s - window.start_s) or 1e-6
    axes.set_xlim((window.start_s - margin_s) / scale, (window.end_s + margin_s) / scale)
    axes.set_xlabel(f"virtual time ({unit})")
    handles, labels = axes.get_legend_handles_labels()
    legend = legend_of(labels, width_in=width_in, font_pt=sheet.font_pt, note=_left_out_text(lines))
    add_legend(figure, handles, legend)
    if options.size_in is None:
        figure.set_figheight(line_in * lines.count + legend.height_in + _AROUND * sheet.font_pt / 72)
    return figure


def lines_of(window: Window, most: int = MOST_DEVICES) -> Lines:
    """Return the lines of at most `most` devices that flew, by class and number.

    Where there are more, the last to end of each round stay (the round waited for them), beside devices taken evenly
    from all.
    """
    class_of = {row.device: row.device_class for row in window.flights}
    devices = sorted(class_of, key=lambda device: (class_of[device], device))
    if len(devices) > most:
        ends = [window.of(row.round) for row in window.rounds]
        last = [max(rows, key=lambda row: (row.ended_s, -row.flight)).device for rows in ends if rows]
        kept = set(last[:most])
        others = [device for device in devices if device not in kept]
        kept |= {others[int(place)] for place in np.linspace(0, len(others) - 1, most - len(kept))}
        left_out = Counter(class_of[device] for device in devices if device not in kept)
        devices = [device for device in devices if device in kept]
    else:
        left_out = Counter()
    place: dict[int, int] = {}
    headings: dict[str, int] = {}
    for device in devices:
        if class_of[device] not in headings:
            headings[class_of[device]] = len(place) + len(headings)
        place[device] = len(place) + len(headings)
    return Lines(place=place, headings=headings, num_left_out=dict(sorted(left_out.items())))


def _bars(axes: Axes, flights: Sequence[FlightRow], lines: Lines, scale: float) -> None:
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for row in flights:
        for phase, start_s, end_s in spans(row):
            found.setdefault((phase, lines.place[row.device]), []).append((start_s / scale, (end_s - start_s) / scale))
    labelled: set[str] = set()
    for phase in LOOKS:
        for (name, line), parts in found.items():
            if name == phase:
                label = None if phase in labelled else phase
                axes.broken_barh(parts, (line - 0.36, 0.72), label=label, **LOOKS[phase])
                labelled.add(phase)


def _drops(axes: Axes, flights: Sequence[FlightRow], lines: Lines, window: Window, scale: float, sheet: Sheet) -> None:
    dropped = [row for row in flights if row.outcome != "arrived" and window.start_s < row.ended_s <= window.end_s]
    counts = Counter(row.reason for row in dropped)
    ranked = sorted(counts, key=lambda reason: (-counts[reason], reason))
    named = ranked if len(ranked) <= len(_MARKS) else ranked[: len(_MARKS) - 1]
    mark = dict(zip(named, _MARKS, strict=False))
    for reason in [*named, *([_OTHERS] if len(named) < len(ranked) else [])]:
        rows = [row for row in dropped if (row.reason if row.reason in mark else _OTHERS) == reason]
        axes.scatter(
            [row.ended_s / scale for row in rows],
            [lines.place[row.device] for row in rows],
            marker=mark.get(reason, _MARKS[-1]),
            label=f"{reason} ({len(rows)})",
            s=(1.2 * sheet.marker_pt) ** 2,
            color=_MARK_COLOUR,
            edgecolors="black",
            linewidths=0.5,
            zorder=4,
        )


def _aggregations(axes: Axes, window: Window, scale: float, width_in: float) -> None:
    """Draw a line per aggregation; above a round stands its number where that has room, and its stage if it fits."""
    width_s = window.end_s - window.start_s or 1.0
    starts_s = [window.start_s, *(row.virtual_time_s for row in window.rounds)]
    parts = [((start_s - window.start_s) / width_s, (row.virtual_time_s - window.start_s) / width_s)
             for start_s, row in zip(starts_s, window.rounds, strict=False)]  # fmt: skip
    for row in window.rounds:
        axes.axvline(row.virtual_time_s / scale, color="black", linewidth=0.9, zorder=3)
    numbers = [f"round {row.round}" for row in window.rounds]

    def share(text: str) -> float:
        return _share(text, width_in)

    is_roomy = all(share(text) <= last - first for text, (first, last) in zip(numbers, parts, strict=True))
    taken = 0.0
    for row, number, (first, last) in zip(window.rounds, numbers, parts, strict=True):
        middle = (first + last) / 2
        text = number if is_roomy or row is window.rounds[0] else str(row.round)
        if middle - share(text) / 2 >= taken or row is window.rounds[0]:
            _above(axes, text, (window.start_s + middle * width_s) / scale, height=1.5)
            taken = middle + share(text) / 2
        if share(row.stage) <= last - first:
            _above(axes, row.stage, (window.start_s + middle * width_s) / scale, height=0.3)


def _share(text: str, width_in: float) -> float:
    """Return about how much of the width of the axes a text takes, 0 to 1, with a gap."""
    import matplotlib

    font_pt = 0.92 * float(matplotlib.rcParams["font.size"])
    return (text_width_in(text, font_pt) + 0.6 * font_pt / 72) / (0.9 * width_in)


def _above(axes: Axes, text: str, place: float, *, height: float) -> None:
    """Write a text above the axes, `height` of its lines up."""
    import matplotlib

    font_pt = 0.92 * float(matplotlib.rcParams["font.size"])
    axes.annotate(text, (place, 1.0), xycoords=("data", "axes fraction"), xytext=(0, height * font_pt),
                  textcoords="offset points", ha="center", va="bottom", fontsize=font_pt)  # fmt: skip


def _frame(axes: Axes, lines: Lines) -> None:
    import matplotlib

    small = 0.88 * float(matplotlib.rcParams["font.size"])
    axes.set_ylim(lines.count - 0.4, -0.6)
    axes.set_yticks(list(lines.place.values()), [str(device) for device in lines.place], fontsize=small)
    axes.set_ylabel("device")
    for name, line in lines.headings.items():
        axes.annotate(name, (0.0, line), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
                      va="center", fontsize=small, fontweight="bold", color="0.25", zorder=5,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0})  # fmt: skip
    axes.grid(visible=True, axis="x")
    axes.tick_params(axis="y", length=0)


def _left_out_text(lines: Lines) -> str:
    if not lines.num_left_out:
        return ""
    counts = ", ".join(_counted(lines.num_left_out))
    return f"{sum(lines.num_left_out.values())} more devices flew and are not shown: {counts}"


def _counted(counts: dict[str, int]) -> Iterator[str]:
    for name, count in counts.items():
        yield f"{count} {name}"
