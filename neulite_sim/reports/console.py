"""The run on a terminal: a live view, sparse lines where there is no terminal, or nothing.

    with run_console(screen(), quiet=False) as console:
        ...                                   # the engine calls console.notify(event)
    console.finish(summary, run_dir="runs/example-42")

`python -m neulite_sim.reports.console` plays a made-up run, to look at the view without running anything.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import IO, Any, Self

from rich import box
from rich.console import Console, ConsoleDimensions, Group, RenderableType
from rich.control import Control
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from neulite_sim.reports import rehearsal
from neulite_sim.reports.board import Board
from neulite_sim.reports.dashboard import dashboard
from neulite_sim.reports.lines import stopped_line, summary_facts, summary_title
from neulite_sim.reports.plain import PlainConsole, QuietConsole, RunConsole
from neulite_sim.reports.screen import screen
from neulite_sim.reports.table import TextTable
from neulite_sim.results.rows import Event, Notice

# At most four frames a second, and at most this share of one core for drawing them.
_FRAME_S, _DRAWING_SHARE = 0.25, 0.03
# How often the terminal is asked for its size: until the frame after a change, it shows parts of two frames.
_LOOK_S = 0.05


def summary_panel(summary: Mapping[str, Any], *, run_dir: str | None = None) -> RenderableType:
    """Return the summary of a run as a panel for a terminal; `lines.summary_text` is the same in plain text."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    styles = {"accuracy": "bold green", "proxy": "yellow", "results": "cyan"}
    for label, text in summary_facts(summary, run_dir=run_dir):
        grid.add_row(label, Text(text, style=styles.get(label, "")))
    return Panel.fit(grid, title=summary_title(summary), title_align="left", border_style="cyan", padding=(0, 1))


def rich_table(table: TextTable) -> RenderableType:
    """Return a table for a terminal; `TextTable.text` is the same in plain text."""
    drawn = Table(
        box=box.SIMPLE_HEAD, title=table.title or None, title_justify="left", title_style="bold", pad_edge=False
    )
    for head in table.headers:
        drawn.add_column(head, justify="right" if head in table.numeric else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row))
    return Group(drawn, *(Text(note, style="dim") for note in table.notes))


def print_table(console: Console, table: TextTable) -> None:
    """Print a table: drawn on a terminal, in blocks as wide as it; aligned plain text, a line per row, elsewhere."""
    if _draws(console):
        for block in table.blocks(console.width):
            console.print(rich_table(block))
    else:
        _say(console, table.text())


def _draws(console: Console) -> bool:
    return console.is_terminal and not console.is_dumb_terminal and console.encoding.startswith("utf")


def _say(console: Console, text: str) -> None:
    known = text.encode(console.encoding, "replace").decode(console.encoding)
    console.print(known, markup=False, highlight=False, emoji=False, soft_wrap=True)


# ---- observers -----------------------------------------------------------------------------------------------------


class _StrayText:
    """Stands in for standard output or error under the live view: lines written to it become notices."""

    def __init__(self, stream: IO[str], take: Callable[[str], None]) -> None:
        self.rich_proxied_file = stream
        self._take = take
        self._begun = ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            if shown := Text.from_ansi(line).plain.strip():
                self._take(shown)
        return len(text)

    def flush(self) -> None:
        """Unfinished lines wait for their end."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


class LiveConsole:
    """The live view on a terminal's alternate screen. `notify` only takes note; a thread draws a few times a second."""

    may_be_told_late = True

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._board = Board(clock=clock)
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._stack = contextlib.ExitStack()

    def _frame(self) -> RenderableType:
        width, height = self._console.size
        with self._lock:
            return dashboard(self._board, width=width, height=height)

    def __enter__(self) -> Self:
        # The view is closed first and the streams are given back last.
        for redirect, stream in ((contextlib.redirect_stdout, sys.stdout), (contextlib.redirect_stderr, sys.stderr)):
            stray: Any = _StrayText(stream, lambda line: self.notify(Notice(message=line)))
            self._stack.enter_context(redirect(stray))
        view = Live(get_renderable=self._frame, console=self._console, screen=True, auto_refresh=False,
                    redirect_stdout=False, redirect_stderr=False)  # fmt: skip
        self._stack.enter_context(view)
        painter = threading.Thread(target=self._paint, args=(view,), name="neulite-sim console", daemon=True)
        painter.start()
        self._stack.callback(painter.join)
        self._stack.callback(self._ended.set)
        return self

    def _paint(self, view: Live) -> None:
        look_s = due_s = 0.0
        while not self._ended.wait(look_s):
            is_resized, look_s = self._follow_size(), _LOOK_S
            if is_resized or time.monotonic() >= due_s:
                began_s = time.thread_time()
                self._draw(view, is_resized=is_resized)
                due_s = time.monotonic() + max(_FRAME_S, (time.thread_time() - began_s) / _DRAWING_SHARE)

    def _draw(self, view: Live, *, is_resized: bool) -> None:
        """Draw one frame, on an empty screen where the old frame was of another size."""
        with self._console:
            if is_resized:
                # A frame that was being written while the size changed may have wrapped and scrolled.
                self._console.control(Control.clear())
            view.refresh()

    def _follow_size(self) -> bool:
        """Take the size of the terminal that is written to; return whether it differs from the last frame's.

        Rich takes that of standard input where it is a terminal, and never changes one from `COLUMNS` and `LINES`.
        """
        try:
            size = tuple(os.get_terminal_size(self._console.file.fileno()))
        except (OSError, ValueError):
            return False
        if 0 in size or size == self._console.size:
            return False
        self._console.size = ConsoleDimensions(*size)
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._follow_size()
        for told in self._board.notices:
            _say(self._console, f"! {told.text}")
        if error is not None and self._board.started is not None:
            _say(self._console, stopped_line(self._board))

    def notify(self, event: Event) -> None:
        """Take note of an event; the view shows it at its next frame."""
        with self._lock:
            self._board.notify(event)

    def finish(self, summary: Mapping[str, Any], *, run_dir: str | None = None) -> None:
        """Print the summary where the live view was."""
        self._console.print(summary_panel(summary, run_dir=run_dir))


def run_console(console: Console, *, quiet: bool) -> RunConsole:
    """Return the observer that suits where `console` writes: live on a terminal, plain lines elsewhere, or nothing."""
    if quiet:
        return QuietConsole()
    return LiveConsole(console) if _draws(console) else PlainConsole(lambda text: _say(console, text))


def _rehearse(rounds: int, pause_s: float) -> None:
    """Play the made-up run of `rehearsal` on this terminal or pipe."""
    with run_console(screen(), quiet=False) as console:
        for event in rehearsal.events(rounds):
            console.notify(event)
            time.sleep(pause_s)
    console.finish(rehearsal.summary(rounds), run_dir="runs/rehearsal-42")


if __name__ == "__main__":
    _rehearse(rounds=int(sys.argv[1]) if len(sys.argv) > 1 else 400, pause_s=0.01)
