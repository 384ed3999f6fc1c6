"""How a figure is asked for: file, style, size, title and names, checked before anything is read or drawn."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from neulite_sim.errors import NeuliteError, Problem, ScenarioError

SUFFIXES = (".png", ".svg", ".pdf")
Style = Literal["screen", "paper", "slides"]
STYLES: tuple[Style, ...] = get_args(Style)
NO_TITLE = "none"
INCHES = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72}
LEAST_IN, MOST_IN = 1.0, 50.0
_SIDE = r"([0-9]*\.?[0-9]+)\s*(in|cm|mm|pt)?"
_SIZE = re.compile(rf"\s*{_SIDE}\s*[x×]\s*{_SIDE}\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlotOptions:
    """What is asked of a figure beside its content.

    `screen` is wide, `paper` as wide as a column (3.3 inches, 8 pt), `slides` as a slide (large letters, thick lines).
    """

    style: Style = "screen"
    size_in: tuple[float, float] | None = None
    """Width and height in inches; what the style and the content need without it."""
    title: str | None = None
    """Empty for no title; the figure's own without it."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Names in the figure, by those of runs, groups or methods."""

    def title_or(self, usual: str) -> str:
        """Return the title to draw, which is empty for none."""
        return usual if self.title is None else self.title


def check_plot(path: Path) -> None:
    """Refuse a figure that cannot be drawn, before anything is read.

    Raises:
        ScenarioError: the file is called none of .png, .svg and .pdf.
        NeuliteError: matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        finding = f"{str(path)!r} is none of {', '.join(SUFFIXES)}"
        raise _refused("--plot", finding, "call the figure one of them")
    require_matplotlib("--plot")


def require_matplotlib(what: str) -> None:
    """Say how to install what draws figures where it is not there.

    Raises:
        NeuliteError: matplotlib is not installed.
    """
    try:
        is_there = importlib.util.find_spec("matplotlib") is not None
    except ValueError:
        is_there = False
    if not is_there:
        raise NeuliteError(f"{what} needs matplotlib; install it with: python -m pip install matplotlib")


def plot_options(
    *, style: str | None = None, size: str | None = None, title: str | None = None, labels: Sequence[str] = ()
) -> PlotOptions:
    """Return what the options `--style`, `--size`, `--title` and `--label` ask for; None for one that is not given.

    Raises:
        ScenarioError: one of them is not understood.
    """
    return PlotOptions(
        style="screen" if style is None else _style(style),
        size_in=None if size is None else parse_size(size),
        title="" if title == NO_TITLE else title,
        labels=_labels(labels),
    )


def _style(text: str) -> Style:
    for style in STYLES:
        if text == style:
            return style
    raise _refused("--style", f"{text!r} is none of {', '.join(STYLES)}", "use one of them")


def parse_size(text: str) -> tuple[float, float]:
    """Return width and height in inches from `3.3x2.4`, `8cmx5cm` or `8x5cm`; inches without a unit.

    Raises:
        ScenarioError: not a size, or a side below 1 or above 50 inches.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        wish = f"write for example 3.3x2.4, 8cmx5cm (units: {', '.join(INCHES)}; inches without one)"
        raise _refused("--size", f"{text!r} is not WIDTHxHEIGHT", wish)
    width, width_unit, height, height_unit = match.groups()
    # In 8x5cm the unit is that of both.
    last = height_unit or "in"
    sides = float(width) * INCHES[width_unit or last], float(height) * INCHES[last]
    for side in sides:
        if not LEAST_IN <= side <= MOST_IN or not math.isfinite(side):
            finding = f"{text!r} has a side of {side:.3g} inches"
            raise _refused("--size", finding, f"use {LEAST_IN:g} to {MOST_IN:g} inches")
    return sides


def _labels(texts: Sequence[str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for text in texts:
        # Names of runs hold no "=", what they are called in the figure may.
        run, is_pair, name = text.partition("=")
        if not (is_pair and run.strip() and name.strip()):
            raise _refused("--label", f"{text!r} is not RUN=NAME", "write for example --label look-neulite-5=NeuLite")
        if run.strip() in labels:
            raise _refused("--label", f"{run.strip()!r} is named twice", "remove one")
        labels[run.strip()] = name.strip()
    return labels


def unknown_label(name: str, known: Sequence[str]) -> ScenarioError:
    """Return the refusal of a `--label` whose first half names nothing in the figure."""
    names = ", ".join(dict.fromkeys(known)) or "nothing, as the figure is empty"
    return _refused("--label", f"{name!r} is nothing in this figure", f"name one of: {names}")


def _refused(option: str, finding: str, hint: str) -> ScenarioError:
    return ScenarioError([Problem.advising(key=option, found=finding, hint=hint)])
