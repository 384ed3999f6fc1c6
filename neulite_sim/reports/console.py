"""The run on a terminal: a live view, sparse lines where there is no terminal, or nothing.

    with run_console(Console(), quiet=False) as console:
        ...                                   # the engine calls console.notify(event)
    console.finish(summary, run_dir="runs/example-42")

`python -m neulite_sim.reports.console` plays a made-up run, to look at the view without running anything.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import IO, Any, Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from neulite_sim.reports import rehearsal
from neulite_sim.reports.board import Board
from neulite_sim.reports.figures import BLANK, Mark, Plot, bar, counted, memory_ladder, plot, sparkline
from neulite_sim.reports.lines import (
    number,
    percent,
    proxy_note,
    short_stages,
    stopped_line,
    summary_facts,
    summary_title,
)
from neulite_sim.reports.plain import PlainConsole, QuietConsole, RunConsole
from neulite_sim.reports.table import TextTable
from neulite_sim.results.rows import Event, Notice, RunStarted
from neulite_sim.units import format_bytes, format_seconds

# At most four frames a second, and at most this share of one core for drawing them.
_FRAME_S, _DRAWING_SHARE = 0.25, 0.03
_TWO_COLUMNS = 76
_BORDER = "bright_black"
# The backend that trains nothing, so that nothing is ever tested.
_DRY_RUN = "dry-run"


def _panel(content: RenderableType, *title: str | tuple[str, str]) -> Panel:
    head = Text.assemble(*title, style="white")
    return Panel(content, title=head, title_align="left", border_style=_BORDER, box=box.ROUNDED, padding=(0, 1))


def _line(text: Text | str, style: str = "") -> Text:
    line = Text(text, style=style) if isinstance(text, str) else text
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


# ---- the parts of the live view: each draws one panel from a board -------------------------------------------------


def _header(started: RunStarted, width: int) -> RenderableType:
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    method, selection, protocol, backend = started.method, started.selection, started.protocol, started.backend
    # Who can train matters more than how: where there is little room, the least of that is left out.
    runs = [(method, selection, protocol, backend, f"seed {started.seed}"), (method, selection, protocol, backend),
            (method, selection, protocol), (method, protocol), (method,)]  # fmt: skip
    facts = [Text.assemble(" ", (started.name, "bold cyan"), f"  {' · '.join(parts)}") for parts in runs]
    devices = f" {counted(started.num_devices)} devices"
    fleets = (f"{devices}, {percent(started.participation_rate)} can train ", f"{devices} ")
    fitting = ((fact, fleet) for fleet in fleets for fact in facts if fact.cell_len + len(fleet) <= width)
    fact, fleet = next(fitting, (facts[0], ""))
    grid.add_row(fact, Text(fleet, "dim"))
    if started.proxy is None:
        return grid
    return Group(grid, _line(f" {proxy_note(started.proxy)}", "yellow"))


def _progress_rows(board: Board) -> list[tuple[str, RenderableType, str]]:
    started = board.started
    if started is None:
        return []

    def measure(done: float, total: float) -> ProgressBar:
        return ProgressBar(total=total, completed=min(done, total), complete_style="cyan", finished_style="green")

    rows: list[tuple[str, RenderableType, str]] = []
    rows.append(("rounds", measure(board.num_rounds, started.max_rounds), f"{board.num_rounds} / {started.max_rounds}"))
    if started.stop_accuracy is not None:
        best = board.best_accuracy or 0.0
        rows.append(("accuracy", measure(best, started.stop_accuracy), f"{best:.3f} / {started.stop_accuracy:g}"))
    virtual = format_seconds(board.virtual_s)
    limit_s = started.max_virtual_time_s
    if limit_s is None:
        rows.append(("virtual", Text(""), virtual))
    else:
        rows.append(("virtual", measure(board.virtual_s, limit_s), f"{virtual} / {format_seconds(limit_s)}"))
    before = f" ({format_seconds(board.wall_before_s)} before)" if board.wall_before_s else ""
    rows.append(("wall", Text(""), f"{format_seconds(board.wall_s)}{before}"))
    return rows


def _progress(board: Board) -> Panel:
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(ratio=1, no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    for row in _progress_rows(board):
        grid.add_row(*row)
    current = board.progress.round if board.progress else board.num_rounds
    panel = _panel(grid, f"round {current}", " · " if board.stage else "", (board.stage, "bold"))
    if board.is_replaying and board.started is not None:
        what = f"replaying rounds 1 to {board.started.replays_until}"
        panel.subtitle, panel.subtitle_align = Text(what, "yellow"), "right"
        return panel
    pace_s, left_s = board.round_wall_s, board.wall_left_s
    if pace_s is not None and left_s is not None and board.started is not None:
        bound = "about" if board.started.stop_accuracy is None else "at most"
        left = (f"{bound} {format_seconds(left_s)} left", "cyan")
        panel.subtitle, panel.subtitle_align = Text.assemble(f"{format_seconds(pace_s)} a round, ", left), "right"
    return panel


def _plot_lines(drawn: Plot, target: float | None) -> list[Text]:
    target_row = None if target is None else drawn.row_of(target)
    lines = []
    for row, dots in enumerate(drawn.rows):
        scale = f"{drawn.value_at(row):.2f} " if row in (0, len(drawn.rows) // 2, len(drawn.rows) - 1) else " " * 5
        line = Text.assemble((scale, "dim") if row != target_row else (f"{target:g}".ljust(5), "yellow"))
        for is_blank, run in itertools.groupby(dots, BLANK.__eq__):
            piece = "".join(run)
            if is_blank:
                line.append(("┄" if row == target_row else " ") * len(piece), style="yellow dim")
            else:
                line.append(piece, style="green")
        lines.append(_line(line))
    return lines


def _accuracy(board: Board, width: int, height: int) -> Panel:
    title: list[str | tuple[str, str]] = ["accuracy"]
    if board.last_accuracy is not None:
        title += [" ", (number(board.last_accuracy), "bold green"), f" · best {number(board.best_accuracy)}"]
    history = board.curve.values()
    target, inner = board.next_target, width - 4
    if board.started is not None and board.started.backend == _DRY_RUN:
        return _panel(_line("a dry run trains and tests nothing", "dim"), *title)
    lines: list[Text] = []
    if height >= 6:
        lines += _plot_lines(plot(history, width=max(inner - 5, 1), height=height - 3), target)
    elif height >= 4:
        lines.append(_line(sparkline(history, inner), "green"))
    if not history:
        lines.append(_line("no test yet", "dim"))
    elif target is None:
        lines.append(_line("every target reached", "dim"))
    else:
        away_s = board.next_target_in_s
        away = "not in sight" if away_s is None else f"in about {format_seconds(away_s)} of virtual time"
        lines.append(_line(Text.assemble((f"{target:g} ", "yellow"), away)))
    panel = _panel(Group(*lines), *title)
    panel.subtitle, panel.subtitle_align = f"{board.num_tests} tests" if board.num_tests > 1 else None, "right"
    return panel


def _devices(board: Board, width: int) -> Panel:
    now = board.progress
    if now is None:
        return _panel(_line("nothing dispatched yet", "dim"), "devices")
    # A flight may be in the air while its device is away: such devices count as in flight, not as offline.
    flying, denied = board.num_in_flight, now.denied_by_memory
    idle = max(now.online - flying - denied, 0)
    offline = max(now.online + now.offline - flying - denied - idle, 0)
    counts = ((flying, "green"), (idle, "cyan"), (denied, "red"), (offline, _BORDER))
    total, inner = max(sum(count for count, _ in counts), 1), width - 4
    shares, used, reached = Text(), 0, 0
    for count, style in counts:
        reached += count
        cells = round(reached / total * inner) - used
        shares.append("█" * cells, style=style)
        used += cells
    here = (
        f"in flight {counted(flying)}, back {counted(now.trained)}  ",
        ("■ ", "cyan"),
        f"idle {counted(idle)}",
    )
    away = (f"denied by memory {counted(denied)}  ", ("■ ", _BORDER), f"offline {counted(offline)}")
    legend = (_line(Text.assemble(("■ ", "green"), *here)), _line(Text.assemble(("■ ", "red"), *away)))
    return _panel(Group(_line(shares), *legend), f"devices · {counted(now.online)} online")


def _memory(board: Board, width: int, height: int) -> Panel:
    title = "memory of the fleet"
    if board.started is None or not len(board.budgets) or height < 3:
        return _panel("", title)
    ladder = memory_ladder(board.budgets, board.started.thresholds, rows=height - 2)
    rungs = [step for step in ladder if not isinstance(step, Mark)]
    labels = max(len(rung.label()) for rung in rungs)
    counts = max(len(counted(rung.devices)) for rung in rungs)
    most, inner = max(rung.devices for rung in rungs), width - 4
    lines = []
    for step in ladder:
        if isinstance(step, Mark):
            name = step.text(inner)
            style = "bold yellow" if step.name == board.stage else "yellow"
            lines.append(_line(Text.assemble((f"{name} ", style), ("─" * (inner - len(name) - 1), "yellow dim"))))
            continue
        fits_all = step.submodels == len(board.started.thresholds)
        style = "green" if fits_all else "cyan" if step.submodels else "red"
        drawn = bar(step.devices / most, max(inner - labels - counts - 2, 1))
        label = f"{step.label():>{labels}} "
        lines.append(_line(Text.assemble((label, "dim"), (drawn, style), f" {counted(step.devices)}")))
    return _panel(Group(*lines), title)


def _rounds(board: Board, width: int, height: int) -> Panel:
    wide = width >= 110
    grid = Table(box=None, expand=True, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    heads = ["round", "virtual", "stage", "arrived", "denied", "loss", "accuracy"]
    # What only late updates have is shown only where there are some.
    is_stale, is_discarding = (
        any(getattr(row, name) for row in board.rounds) for name in ("staleness_mean", "discarded")
    )
    heads += [*(["stale"] if is_stale else []), *(["discarded"] if is_discarding else [])]
    for head in [*heads, *(["online", "memory", "down", "up", "wall"] if wide else [])]:
        grid.add_column(head, justify="left" if head == "stage" else "right", no_wrap=True)
    for row in list(board.rounds)[-max(height - 3, 0) :]:
        tested = Text(number(row.test_accuracy), style="" if row.test_accuracy is None else "green")
        arrived = Text(f"{row.arrived}/{row.selected}", style="yellow" if row.dropped else "")
        cells: list[Text | str] = [str(row.round), format_seconds(row.virtual_time_s)]
        cells += [short_stages(row.stage), arrived]
        cells += [f"{row.denied:,}", number(row.train_loss), tested]
        cells += [
            *([number(row.staleness_mean, 1)] if is_stale else []),
            *([f"{row.discarded:,}"] if is_discarding else []),
        ]
        if wide:
            cells += [f"{row.online:,}", format_bytes(row.peak_memory_bytes), format_bytes(row.bytes_down)]
            cells += [format_bytes(row.bytes_up), format_seconds(row.wall_time_s)]
        grid.add_row(*cells)
    return _panel(grid, "last rounds")


def _footer(board: Board, width: int, height: int) -> Group:
    place = board.started.run_dir if board.started is not None else None
    is_placed = place is not None and (height > 1 or not len(board.notices))
    head = [_line(f" results go to {place}", "dim")] if is_placed else []
    room = height - len(head)
    shown = list(board.notices)[-room:]
    # One that stands alone may take all the lines.
    lines = [
        line
        for told in shown
        for line in textwrap.wrap(told.text, max(width, 10), initial_indent=" ! ", subsequent_indent="   ",
                                  max_lines=room // len(shown), placeholder=" …")
    ]  # fmt: skip
    return Group(*head, *(_line(line, "yellow") for line in lines))


# ---- the whole view ----------------------------------------------------------------------------------------------


def dashboard(board: Board, *, width: int, height: int) -> Layout:
    """Return the live view for a terminal of this size: fewer panels where there is less room."""
    whole = Layout(name="whole")
    if board.started is None:
        whole.update(Padding(_line("preparing the run ...", "dim"), (0, 1)))
        return whole
    head = 1 if board.started.proxy is None else 2
    foot = 1 if height < 32 else 3
    progress, devices, accuracy = len(_progress_rows(board)) + 2, 5, 4
    room = height - head - foot
    columns = width >= _TWO_COLUMNS and room >= progress + devices + accuracy
    spare = room - progress - devices - accuracy
    rounds = min(spare, max(6, height // 4)) if spare >= 5 else 0
    middle = room - rounds
    left_width = width // 2 + 2 if columns else width
    memory = 0 if columns else min(middle - progress - devices - accuracy, 14)
    memory = memory if memory >= 8 else 0

    left: list[Layout] = [Layout(_progress(board), size=progress)]
    rest = middle - progress - memory
    if rest >= devices + accuracy:
        rest -= devices
        left.append(Layout(_accuracy(board, left_width, rest), size=rest))
        left.append(Layout(_devices(board, left_width), size=devices))
    elif rest >= 3:
        left.append(Layout(_accuracy(board, left_width, rest), size=rest))
    if memory:
        left.append(Layout(_memory(board, width, memory), size=memory))
    body = Layout(size=middle)
    if columns:
        sides = (Layout(size=left_width), Layout(_memory(board, width - left_width, middle), size=width - left_width))
        sides[0].split_column(*left)
        body.split_row(*sides)
    else:
        body.split_column(*left)
    parts = [Layout(_header(board.started, width), size=head), body]
    if rounds:
        parts.append(Layout(_rounds(board, width, rounds), size=rounds))
    whole.split_column(*parts, Layout(_footer(board, width, foot), size=foot))
    return whole


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
    """Print a table: drawn on a terminal, aligned plain text elsewhere."""
    if _draws(console):
        console.print(rich_table(table))
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
        pause_s = 0.0
        while not self._ended.wait(pause_s):
            began_s = time.thread_time()
            view.refresh()
            pause_s = max(_FRAME_S, (time.thread_time() - began_s) / _DRAWING_SHARE)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
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
    with run_console(Console(), quiet=False) as console:
        for event in rehearsal.events(rounds):
            console.notify(event)
            time.sleep(pause_s)
    console.finish(rehearsal.summary(rounds), run_dir="runs/rehearsal-42")


if __name__ == "__main__":
    _rehearse(rounds=int(sys.argv[1]) if len(sys.argv) > 1 else 400, pause_s=0.01)
