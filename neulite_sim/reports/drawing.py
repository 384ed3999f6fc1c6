"""What all figures have in common: letters, lines, colours, legends, and how they are written.

Colours are those of Okabe and Ito (2008), which people with any of the common colour blindnesses tell apart
(https://jfly.uni-koeln.de/color/); line styles and markers repeat the difference without colour. Text stays text: SVG
names its fonts, PDF embeds them (Type 42), so that both can be searched. matplotlib is imported when something is
drawn, not before, and its settings are its own defaults, whatever a `matplotlibrc` says.
"""

from __future__ import annotations

import contextlib
import functools
import io
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neulite_sim.errors import OutputError, Problem, ScenarioError
from neulite_sim.reports.plot_options import PlotOptions, Style
from neulite_sim.results.outputs import beside

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Grey tells an eighth line apart in any eye; the palette's own eighth, yellow, is lost on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00", "#808080")
LINES = ("-", "--", "-.", ":")
MARKERS = "os^DvP*X"
LINE_SHARE = 0.008
"""Of the height of a panel: about what the width of a line covers."""
_STRIPE = 3.0
_SMALL = 0.92
"""Letters of ticks and legends, of those of labels."""
_UNITS_S = ((96 * 3600.0, "days", 86400.0), (7200.0, "hours", 3600.0), (120.0, "minutes", 60.0),
            (0.5, "seconds", 1.0), (0.0, "milliseconds", 1e-3))  # fmt: skip
_LEGEND_HANDLE, _LEGEND_GAP = 2.8, 1.4
"""Widths of a legend's picture of a line and of the gap between two columns, in letters' heights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """The measures of a style: inches, and points for letters and lines."""

    width_in: float
    panel_in: float
    """Height of one panel of curves."""
    font_pt: float
    line_pt: float
    marker_pt: float
    dots_per_inch: int

    @property
    def small_pt(self) -> float:
        """Letters of ticks and legends."""
        return _SMALL * self.font_pt

    def is_narrow(self, width_in: float) -> bool:
        """Whether two panels side by side would be too small for letters of this size."""
        return width_in / self.font_pt < 0.6


SHEETS: dict[Style, Sheet] = {
    "screen": Sheet(width_in=11.0, panel_in=4.2, font_pt=9.5, line_pt=1.6, marker_pt=4.5, dots_per_inch=150),
    "paper": Sheet(width_in=3.3, panel_in=1.75, font_pt=8.0, line_pt=1.1, marker_pt=3.2, dots_per_inch=300),
    "slides": Sheet(width_in=13.33, panel_in=5.6, font_pt=18.0, line_pt=3.0, marker_pt=9.0, dots_per_inch=150),
}


def sheet_of(options: PlotOptions) -> Sheet:
    """Return the measures of a figure's style."""
    return SHEETS[options.style]


def look(place: int) -> dict[str, Any]:
    """Return colour, line style and marker of the line at a place; the first 32 differ without their markers."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": LINES[place // len(COLOURS) % len(LINES)],
        "marker": MARKERS[place % len(MARKERS)],
    }


def striped(looks: Mapping[str, Any], rank: int, among: int, sheet: Sheet) -> dict[str, Any]:
    """Return how a line is drawn that lies on others: the `rank`-th, from 0, of so many in the order of drawing.

    The first is drawn through; each later one covers its own part of every period. Earlier markers are larger.
    """
    found = dict(looks)
    if rank:
        found |= {"linestyle": ((among - rank) * _STRIPE, (_STRIPE, (among - 1) * _STRIPE)), "dash_capstyle": "butt"}
    if found["marker"] != "none":
        found |= {"markersize": sheet.marker_pt * (1 + min(0.55 * (among - 1 - rank), 2.2)), "markeredgewidth": 0}
    return found


def time_unit(longest_s: float) -> tuple[str, float]:
    """Return the unit of a time axis that ends at `longest_s`, and its seconds; seconds where nothing takes time."""
    return next((name, size) for least, name, size in _UNITS_S if (longest_s or 1.0) >= least)


def write_figure(make: Callable[[], Figure], path: Path | None, options: PlotOptions) -> Figure:
    """Return a figure drawn in its style, written where a file is named; equal content gives equal bytes.

    Raises:
        ScenarioError: it does not fit the size that is asked for.
        OutputError: it cannot be written.
    """
    # Without dates the same runs give the same file.
    stamp = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get("" if path is None else path.suffix.lower())
    with _settings(options), warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*_layout not applied", category=UserWarning)
        try:
            figure = make()
            if path is None:
                figure.draw_without_rendering()
            else:
                # In memory first: matplotlib's writer of PDF ends in another error than the disk's where that is full.
                held, kind = io.BytesIO(), path.suffix.lower().removeprefix(".")
                figure.savefig(held, format=kind, dpi=sheet_of(options).dots_per_inch, metadata=stamp)
                with beside(path) as place:
                    place.write_bytes(held.getvalue())
        except OSError as error:
            finding = f"{path}: cannot write: {error.strerror}"
            raise OutputError(finding, hint="choose another place with --plot") from error
        except UserWarning:
            raise _too_small(options) from None
    return figure


def _too_small(options: PlotOptions) -> ScenarioError:
    size = "the size" if options.size_in is None else "{:.3g}x{:.3g} inches".format(*options.size_in)
    hint = "give a larger --size, another --style or shorter names with --label"
    return ScenarioError([Problem.advising(key="--size", found=f"{size} is too small for this figure", hint=hint)])


@contextlib.contextmanager
def _settings(options: PlotOptions) -> Iterator[None]:
    import matplotlib.style

    sheet = sheet_of(options)
    small = sheet.small_pt
    own = {
        "svg.hashsalt": "neulite-sim", "svg.fonttype": "none", "pdf.fonttype": 42, "text.parse_math": False,
        "font.size": sheet.font_pt, "legend.fontsize": small, "legend.title_fontsize": small,
        "legend.handlelength": 2.2, "legend.columnspacing": _LEGEND_GAP, "axes.titlesize": sheet.font_pt,
        "xtick.labelsize": small, "ytick.labelsize": small, "lines.linewidth": sheet.line_pt,
        "lines.markersize": sheet.marker_pt, "axes.linewidth": 0.45 * sheet.line_pt + 0.1,
        "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
        "grid.color": "0.9", "grid.linewidth": 0.3 * sheet.line_pt + 0.3, "hatch.linewidth": 0.7,
        "savefig.facecolor": "white",
    }  # fmt: skip
    with matplotlib.style.context(["default", own]):
        yield


def text_width_in(text: str, font_pt: float) -> float:
    """Return the width of a text's widest line in inches."""
    from matplotlib import rcParams

    font = (*rcParams["font.family"], *rcParams["font.sans-serif"])
    return max(_line_width_pt(line, font_pt, font) for line in text.split("\n")) / 72


@functools.lru_cache(maxsize=4096)
def _line_width_pt(line: str, font_pt: float, _font: tuple[str, ...]) -> float:
    """Return the width of a line in points: legends and axes ask for the same ones over and over."""
    from matplotlib.textpath import TextPath

    # A blank at an end has no outline; the letter "n" stands for it.
    outline = TextPath((0, 0), line.replace(" ", "n") or "n", size=font_pt, usetex=False)
    return float(outline.get_extents().width)


def wrapped(text: str, width_in: float, font_pt: float) -> str:
    """Return a text broken into lines of at most `width_in`; a word that is longer is broken as well."""
    if text_width_in(text, font_pt) <= width_in:
        return text
    letters = max(1, len(text))
    while letters > 1:
        lines = textwrap.wrap(text, letters)
        widest = max(text_width_in(line, font_pt) for line in lines)
        if widest <= width_in:
            return "\n".join(lines)
        letters = min(letters - 1, max(1, int(letters * width_in / widest)))
    return "\n".join(textwrap.wrap(text, letters))


@dataclass(frozen=True, slots=True, kw_only=True)
class Legend:
    """What stands below the panels: texts broken to the width of the figure, in so many columns, and a note above."""

    texts: tuple[str, ...]
    columns: int
    note: str
    height_in: float


def legend_of(labels: Sequence[str], *, width_in: float, font_pt: float, note: str = "") -> Legend:
    """Return a legend of as many columns as fit, and about how high it is, for letters of a figure's size."""
    small, room_in = _SMALL * font_pt, width_in - 0.15
    mark_in = _LEGEND_HANDLE * small / 72
    texts = tuple(wrapped(label, room_in - mark_in, small) for label in labels)
    columns = _legend_columns([text_width_in(text, small) for text in texts], mark_in, small, room_in)
    note = wrapped(note, room_in, small) if note else ""
    rows = [max(text.count("\n") + 1 for text in texts[place : place + columns])
            for place in range(0, len(texts), columns)]  # fmt: skip
    lines = sum(1.22 * count + 0.5 for count in rows) + (1.22 * note.count("\n") + 1.7 if note else 0.0)
    return Legend(texts=texts, columns=columns, note=note, height_in=lines * small / 72)


def add_legend(figure: Figure, handles: Sequence[Artist], legend: Legend) -> None:
    """Put a legend below the panels, to be read row by row."""
    # matplotlib fills a legend column by column.
    order = [place for column in range(legend.columns) for place in range(column, len(legend.texts), legend.columns)]
    figure.legend(
        [handles[place] for place in order], [legend.texts[place] for place in order], loc="outside lower center",
        ncols=legend.columns, frameon=False, title=legend.note or None,
    )  # fmt: skip


def _legend_columns(widths_in: Sequence[float], mark_in: float, font_pt: float, room_in: float) -> int:
    gap_in = _LEGEND_GAP * font_pt / 72
    for columns in range(len(widths_in), 1, -1):
        widest = [max(widths_in[column::columns]) for column in range(columns)]
        if sum(widest) + columns * mark_in + (columns - 1) * gap_in <= room_in:
            return columns
    return 1


def add_title(figure: Figure, text: str, *, width_in: float) -> None:
    """Put a title above all panels, broken where it is wider than the figure; nothing where it is empty."""
    import matplotlib

    if text:
        font_pt = float(matplotlib.rcParams["font.size"]) * 1.05
        figure.suptitle(wrapped(text, width_in - 0.2, 1.1 * font_pt), fontsize=font_pt, fontweight="bold")


def whole_numbers(axes: Axes) -> None:
    """Let an x axis have ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins="auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))


def ticks_within(axes: Axes, low: float, high: float) -> None:
    """Keep those ticks of a y axis that lie between two values and inside the axis."""
    first, last = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if max(low, first) <= tick <= min(high, last)])


def percent_range(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis of percentages that none of `values` touches; from about 0 where they begin low."""
    low, high = (min(values), max(values)) if values else (0.0, 100.0)
    if low < 0.4 * high or high - low > 30:
        low = min(low, 0.0)
    # Equal values, and nearly equal ones, get an axis of some points, not of some thousandths.
    missing = max(0.0, 4.0 - (high - low)) / 2
    low, high = low - missing, high + missing
    margin = 0.05 * (high - low)
    return low - margin, high + margin
