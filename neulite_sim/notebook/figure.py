"""Figures that are shown where there is no window: a notebook finds a picture in them."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Figure

_DOTS_PER_INCH = 110


def new_figure(**how: Any) -> Figure:
    """Return a figure of matplotlib that a notebook shows, without a window and outside of `pyplot`."""
    made: Figure = _shown_figure()(**how)
    return made


@functools.cache
def _shown_figure() -> Any:
    from matplotlib.figure import Figure

    class ShownFigure(Figure):
        """A figure without a window that a notebook shows nevertheless."""

        def _repr_png_(self) -> bytes:
            held = io.BytesIO()
            self.savefig(held, format="png", dpi=_DOTS_PER_INCH)
            return held.getvalue()

    return ShownFigure
