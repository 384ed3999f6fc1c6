"""The Gantt picture of a few rounds: a line per device, a bar per phase, a mark per drop, a line per aggregation.

Colours are those of Okabe and Ito (2008), which people with any of the common colour blindnesses tell apart
(https://jfly.uni-koeln.de/color/); waiting is hatched, and reasons of drops differ in the shape of their marks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neulite_sim.errors import OutputError
from neulite_sim.reports.comparison_plot import check_plot
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
_UNITS_S = ((7200.0, "hours", 3600.0), (120.0, "minutes", 60.0), (0.5, "seconds", 1.0), (0.0, "milliseconds", 1e-3))
_WIDTH_IN, _ROW_IN, _AROUND_IN, _LETTER_IN = 11.0, 0.19, 1.9, 0.068


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


def draw_gantt(run_dir: Path, out: Path, *, rounds: int = 3, first: int = 1) -> None:
    """Write a picture of `rounds` rounds of a run, from round `first` on, as .png or .svg.

    Raises:
        ScenarioError: the file is called neither, or there are no such rounds.
        NeuliteError: matplotlib is not installed.
        DataNotFoundError: the folder holds no rows, or damaged ones.
        OutputError: the picture cannot be written.
    """
    check_plot(out)
    draw_window(read_window(run_dir, first=first, count=rounds), out)


def draw_window(window: Window, out: Path) -> None:
    """Write a picture of a window.

    Raises:
        OutputError: it cannot be written.
    """
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "neulite-sim", "font.size": 9.0, "hatch.linewidth": 0.7}):
        figure = gantt_figure(window)
        # Without the date the same runs give the same file.
        stamp: dict[str, Any] = {"metadata": {"Date": None}} if out.suffix.lower() == ".svg" else {}
        try:
            figure.savefig(out, dpi=150, **stamp)
        except OSError as error:
            raise OutputError(
                f"{out}: cannot write: {error.strerror}", hint="choose another place with --plot"
            ) from error


def gantt_figure(window: Window) -> Figure:
    """Return the picture of a window."""
    from matplotlib.figure import Figure

    lines = lines_of(window)
    unit, scale = next((name, size) for least, name, size in _UNITS_S if window.end_s >= least)
    figure = Figure(figsize=(_WIDTH_IN, _AROUND_IN + _ROW_IN * lines.count), layout="constrained")
    axes = figure.subplots()
    shown = [row for row in window.flights if row.device in lines.place]
    _bars(axes, shown, lines, scale)
    _drops(axes, shown, lines, window, scale)
    _aggregations(axes, window, scale)
    _frame(axes, lines)
    first, last = window.rounds[0].round, window.rounds[-1].round
    which = f"round {first}" if first == last else f"rounds {first} to {last}"
    figure.suptitle(f"{window.run_dir.resolve().name}: {which}", fontsize=10.5, fontweight="bold")
    margin_s = 0.01 * (window.end_s - window.start_s) or 1e-6
    axes.set_xlim((window.start_s - (margin_s if window.start_s else 0)) / scale, (window.end_s + margin_s) / scale)
    axes.set_xlabel(f"virtual time ({unit}){_left_out_text(lines)}")
    handles, labels = axes.get_legend_handles_labels()
    columns = _legend_columns(labels)
    # matplotlib fills a legend column by column; read by rows, the phases come first.
    rows_first = [place for column in range(columns) for place in range(column, len(labels), columns)]
    figure.legend([handles[place] for place in rows_first], [labels[place] for place in rows_first],
                  loc="outside lower center", ncols=columns, frameon=False)  # fmt: skip
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


def _drops(axes: Axes, flights: Sequence[FlightRow], lines: Lines, window: Window, scale: float) -> None:
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
            s=30,
            color=_MARK_COLOUR,
            edgecolors="black",
            linewidths=0.5,
            zorder=4,
        )


def _aggregations(axes: Axes, window: Window, scale: float) -> None:
    """Draw a line per aggregation; above a round stands its number where that has room, and its stage if it fits."""
    width_s = window.end_s - window.start_s or 1.0
    starts_s = [window.start_s, *(row.virtual_time_s for row in window.rounds)]
    parts = [((start_s - window.start_s) / width_s, (row.virtual_time_s - window.start_s) / width_s)
             for start_s, row in zip(starts_s, window.rounds, strict=False)]  # fmt: skip
    for row in window.rounds:
        axes.axvline(row.virtual_time_s / scale, color="black", linewidth=0.9, zorder=3)
    numbers = [f"round {row.round}" for row in window.rounds]
    is_roomy = all(_share(text) <= last - first for text, (first, last) in zip(numbers, parts, strict=True))
    taken = 0.0
    for row, number, (first, last) in zip(window.rounds, numbers, parts, strict=True):
        middle = (first + last) / 2
        text = number if is_roomy or row is window.rounds[0] else str(row.round)
        if middle - _share(text) / 2 >= taken or row is window.rounds[0]:
            _above(axes, text, (window.start_s + middle * width_s) / scale, height=14)
            taken = middle + _share(text) / 2
        if _share(row.stage) <= last - first:
            _above(axes, row.stage, (window.start_s + middle * width_s) / scale, height=3)


def _share(text: str) -> float:
    """Return about how much of the width of the axes a text takes, 0 to 1, with a gap."""
    return (len(text) + 1) * _LETTER_IN / (_WIDTH_IN - 1.0)


def _above(axes: Axes, text: str, place: float, *, height: float) -> None:
    axes.annotate(text, (place, 1.0), xycoords=("data", "axes fraction"), xytext=(0, height),
                  textcoords="offset points", ha="center", va="bottom", fontsize=8.5)  # fmt: skip


def _frame(axes: Axes, lines: Lines) -> None:
    axes.set_ylim(lines.count - 0.4, -0.6)
    axes.set_yticks(list(lines.place.values()), [str(device) for device in lines.place], fontsize=8)
    axes.set_ylabel("device")
    for name, line in lines.headings.items():
        axes.annotate(name, (0.0, line), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
                      va="center", fontsize=8.5, fontweight="bold", color="0.25", zorder=5,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0})  # fmt: skip
    axes.grid(visible=True, axis="x", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)


def _legend_columns(labels: Sequence[str]) -> int:
    """Return how many columns of a legend fit the width of the picture, each as wide as its widest label."""
    for columns in range(len(labels), 1, -1):
        widest = [max(len(labels[place]) for place in range(column, len(labels), columns)) for column in range(columns)]
        if sum(0.65 + _LETTER_IN * letters for letters in widest) <= _WIDTH_IN:
            return columns
    return 1


def _left_out_text(lines: Lines) -> str:
    if not lines.num_left_out:
        return ""
    counts = ", ".join(_counted(lines.num_left_out))
    return f"\n{sum(lines.num_left_out.values())} more devices flew and are not shown: {counts}"


def _counted(counts: dict[str, int]) -> Iterator[str]:
    for name, count in counts.items():
        yield f"{count} {name}"
