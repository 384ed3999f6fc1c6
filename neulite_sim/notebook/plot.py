"""The figure of one run: accuracy, perplexity or training loss over virtual time or rounds."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from neulite_sim.errors import NeuliteError
from neulite_sim.notebook.figure import new_figure

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
"""Of Okabe and Ito (2008), which people with any of the common colour blindnesses tell apart."""
_STYLES = ("-", "--", "-.", ":")
_UNITS_S = ((7200.0, "hours", 3600.0), (120.0, "minutes", 60.0), (0.0, "seconds", 1.0))

Against = Literal["time", "round"]
Measured = Literal["accuracy", "perplexity", "loss"]
_COLUMNS = {"accuracy": "test_accuracy", "perplexity": "test_perplexity", "loss": "train_loss"}
_LABELS = {"accuracy": "test accuracy (%)", "perplexity": "test perplexity", "loss": "training loss"}


def draw(
    rows: Sequence[Mapping[str, Any]], *, against: Against, axes: Any, label: str, measure: Measured | None = None
) -> Any:
    """Draw the rows of a run into `axes`, or into those of a new figure, and return the figure.

    `measure` is by default the accuracy, and the training loss where nothing was tested.

    Raises:
        NeuliteError: matplotlib is not installed, `against` or `measure` is none of those, or there is nothing to draw.
    """
    if measure is not None and measure not in get_args(Measured):
        raise NeuliteError(f"a run is plotted with measure {', '.join(get_args(Measured))}, not {measure!r}")
    if against not in ("time", "round"):
        raise NeuliteError(f"a run is plotted against 'time' or 'round', not against {against!r}")
    if importlib.util.find_spec("matplotlib") is None:
        raise NeuliteError("plot needs matplotlib; install it with: python -m pip install matplotlib")
    if measure is None:
        measure = "accuracy" if any(row["test_accuracy"] is not None for row in rows) else "loss"
        missing = "nothing was tested or trained in this run, so there is nothing to plot"
    else:
        missing = f"this run has no {measure} to plot"
    column = _COLUMNS[measure]
    drawn = [row for row in rows if row.get(column) is not None]
    if not drawn:
        raise NeuliteError(missing)
    if axes is None:
        axes = new_figure(figsize=(6.4, 3.6), layout="constrained").add_subplot()
    scale, name = _scale(drawn[-1]["virtual_time_s"], against)
    factor = 100 if measure == "accuracy" else 1
    places = [row["round"] if against == "round" else row["virtual_time_s"] / scale for row in drawn]
    place = len(axes.lines)
    axes.plot(
        places, [factor * row[column] for row in drawn], marker="o", markersize=3, label=label,
        color=_COLOURS[place % len(_COLOURS)], linestyle=_STYLES[place % len(_STYLES)],
    )  # fmt: skip
    axes.legend()
    axes.set_xlabel(name)
    axes.set_ylabel(_LABELS[measure])
    axes.grid(visible=True, alpha=0.3)
    if against == "round":
        axes.xaxis.get_major_locator().set_params(integer=True)
    return axes.figure


def _scale(last_s: float, against: Against) -> tuple[float, str]:
    if against == "round":
        return 1.0, "round"
    return next((scale, f"virtual time ({unit})") for least, unit, scale in _UNITS_S if last_s >= least)
