"""Progress of a run while a notebook's cell is at work: one output that is written over, and emptied at the end.

What is shown never stops what it shows: a front end that fails is left alone from then on.
"""

from __future__ import annotations

import contextlib
import html
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from neulite_sim.notebook.chart import accuracy_chart
from neulite_sim.results.contract import Observer
from neulite_sim.results.rows import Event, Notice, Progress, RoundRow, RunStarted
from neulite_sim.units import format_number, format_seconds

_SHOWN_EVERY_S = 0.25
_SAID_EVERY_S = 5.0


class View(Protocol):
    """What progress is shown on."""

    def show(self, line: str, page: str) -> None:
        """Show the state of a run, as a line of text or as HTML."""
        ...

    def close(self) -> None:
        """Leave nothing behind."""
        ...


class Follower(Observer):
    """Follows one run and shows it now and then."""

    may_be_told_late = True

    def __init__(self, view: View, *, every_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._view: View | None = view
        self._every_s = every_s
        self._clock = clock
        self._shown_s = -every_s
        self._started: RunStarted | None = None
        self._curve: list[tuple[int, float, float]] = []
        self._perplexity: float | None = None
        self._rounds = 0
        self._virtual_s = 0.0

    def notify(self, event: Event) -> None:
        """Take note of an event, and show where the run stands if it is time to."""
        if isinstance(event, RunStarted):
            self._started = event
        elif isinstance(event, Notice):
            self._tell(event.message)
        elif isinstance(event, Progress):
            self._virtual_s = max(self._virtual_s, event.virtual_time_s)
        elif isinstance(event, RoundRow):
            self._rounds, self._virtual_s = event.round, event.virtual_time_s
            if event.test_accuracy is not None:
                self._curve.append((event.round, event.virtual_time_s, event.test_accuracy))
                self._perplexity = event.test_perplexity
        if self._clock() - self._shown_s >= self._every_s:
            self._show()
            self._shown_s = self._clock()

    def _tell(self, message: str) -> None:
        """Say a notice where progress is shown as lines; a notebook's one output is written over."""
        if isinstance(self._view, _Lines):
            self._view.show(f"! {message}", "")

    def _show(self) -> None:
        started = self._started
        if started is None or self._view is None:
            return
        line = (
            f"{started.name}: round {self._rounds} of {started.max_rounds}, {format_seconds(self._virtual_s)} virtual"
        )
        if self._curve:
            line += f", accuracy {100 * self._curve[-1][2]:.1f} %"
        if self._perplexity is not None:
            line += f", perplexity {format_number(self._perplexity, 2)}"
        bar = f'<progress value="{self._rounds}" max="{started.max_rounds}" style="width:420px"></progress>'
        page = f"<div>{html.escape(line)}<br>{bar}<br>{accuracy_chart(self._curve)}</div>"
        try:
            self._view.show(line, page)
        except Exception:
            self._view = None

    def close(self) -> None:
        """Leave nothing behind."""
        if self._view is not None:
            with contextlib.suppress(Exception):
                self._view.close()


class _Display:
    """An output of a notebook's cell that is written over."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, line: str, page: str) -> None:
        self._put({"text/plain": line, "text/html": page})

    def close(self) -> None:
        if self._handle is not None:
            self._put({"text/plain": ""})

    def _put(self, bundle: dict[str, str]) -> None:
        if self._handle is not None:
            self._handle.update(bundle, raw=True)
            return
        from IPython.display import display

        self._handle = display(bundle, raw=True, display_id=True)


class _Lines:
    """Lines on standard error."""

    def show(self, line: str, page: str) -> None:
        del page
        sys.stderr.write(f"{line}\n")

    def close(self) -> None:
        return


def is_notebook() -> bool:
    """Whether this process works for a notebook; IPython is not imported to find out."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None


def view_of(progress: bool | None) -> View | None:
    """Return what progress is shown on: with None in a notebook only, with True anywhere, with False nowhere."""
    in_notebook = is_notebook()
    if progress is False or (progress is None and not in_notebook):
        return None
    return _Display() if in_notebook else _Lines()


@contextlib.contextmanager
def following(progress: bool | None) -> Iterator[Sequence[Observer]]:
    """Yield the observers that show the run inside.

    With None one in a notebook and none elsewhere, with True one in any case (lines on standard error where there is
    no notebook), with False none.
    """
    view = view_of(progress)
    if view is None:
        yield ()
        return
    follower = Follower(view, every_s=_SHOWN_EVERY_S if isinstance(view, _Display) else _SAID_EVERY_S)
    try:
        yield (follower,)
    finally:
        follower.close()
