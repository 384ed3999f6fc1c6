"""The panels of the live view: each function draws one of them from a board."""

from __future__ import annotations

import itertools
import textwrap

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from neulite_sim.reports.board import Board
from neulite_sim.reports.figures import BLANK, Mark, Plot, bar, counted, memory_ladder, plot, sparkline
from neulite_sim.reports.lines import (
    accuracy,
    below_zero,
    fitting,
    how_to_stop,
    number,
    proxy_note,
    short_stages,
)
from neulite_sim.reports.lines import target as target_text
from neulite_sim.results.rows import AS_FITTED, RoundRow, RunStarted
from neulite_sim.units import format_bytes, format_percent, format_seconds

_BORDER = "bright_black"
# The backend that trains nothing, so that nothing is ever tested.
_DRY_RUN = "dry-run"
_HEADS = ("round", "virtual", "stage", "arrived", "denied", "loss", "accuracy")
# The columns of the last rounds in the order in which a narrow terminal leaves them out.
_LEAST_FIRST = (
    "perplexity",
    "wall",
    "up",
    "down",
    "memory",
    "online",
    "denied",
    "virtual",
    "discarded",
    "stale",
    "loss",
    "arrived",
    "stage",
)
# Cells of a percentage on the axis of accuracies, and a blank.
_AXIS = 7


def _panel(content: RenderableType, *title: str | tuple[str, str]) -> Panel:
    head = Text.assemble(*title, style="white")
    return Panel(content, title=head, title_align="left", border_style=_BORDER, box=box.ROUNDED, padding=(0, 1))


def one_line(text: Text | str, style: str = "") -> Text:
    """Return text that stays on one line: what does not fit ends in an ellipsis."""
    line = Text(text, style=style) if isinstance(text, str) else text
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def header_lines(started: RunStarted, width: int) -> RenderableType:
    """Return what runs where, as much of it as `width` cells hold, and what stands in for what is studied."""
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    method, selection, protocol, backend = started.method, started.selection, started.protocol, started.backend
    # Who can train matters more than how: where there is little room, the least of that is left out.
    runs = [(method, selection, protocol, backend, f"seed {started.seed}"), (method, selection, protocol, backend),
            (method, selection, protocol), (method, protocol), (method,)]  # fmt: skip
    facts = [Text.assemble(" ", (started.name, "bold cyan"), f"  {' · '.join(parts)}") for parts in runs]
    devices = f" {counted(started.num_devices)} devices"
    able = f"{devices}, {format_percent(started.participation_rate)} can train "
    # What is trained may show only in the course of the run.
    fleets = (able, f"{devices} ") if started.thresholds else (f"{devices} ",)
    pairs = ((fact, fleet) for fleet in fleets for fact in facts if fact.cell_len + len(fleet) <= width)
    fact, fleet = next(pairs, (facts[0], ""))
    grid.add_row(fact, Text(fleet, "dim"))
    if started.proxy is None:
        return grid
    return Group(grid, one_line(fitting([f" {proxy_note(started.proxy)}"], width), "yellow"))


def progress_rows(board: Board) -> list[tuple[str, RenderableType, str]]:
    """Return a row per limit of the run, and per clock: its name, how far it is, and the same in figures."""
    started = board.started
    if started is None:
        return []

    def measure(done: float, total: float) -> ProgressBar:
        return ProgressBar(total=total, completed=min(done, total), complete_style="cyan", finished_style="green")

    rows: list[tuple[str, RenderableType, str]] = []
    rows.append(("rounds", measure(board.num_rounds, started.max_rounds), f"{board.num_rounds} / {started.max_rounds}"))
    if started.stop_accuracy is not None:
        best = board.best_accuracy or 0.0
        rows.append(
            (
                "accuracy",
                measure(best, started.stop_accuracy),
                f"{best * 100:.1f} / {target_text(started.stop_accuracy)}",
            )
        )
    virtual = format_seconds(board.virtual_s)
    limit_s = started.max_virtual_time_s
    if limit_s is None:
        rows.append(("virtual", Text(""), virtual))
    else:
        rows.append(("virtual", measure(board.virtual_s, limit_s), f"{virtual} / {format_seconds(limit_s)}"))
    before = f" ({format_seconds(board.wall_before_s)} before)" if board.wall_before_s else ""
    rows.append(("wall", Text(""), f"{format_seconds(board.wall_s)}{before}"))
    return rows


def progress_panel(board: Board) -> Panel:
    """Return how far the run is, and how long it has still to go."""
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(ratio=1, no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    for row in progress_rows(board):
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
        is_labelled = row in (0, len(drawn.rows) // 2, len(drawn.rows) - 1)
        scale = target_text(round(drawn.value_at(row), 2)) if is_labelled else ""
        label = (scale, "dim") if row != target_row or target is None else (target_text(target), "yellow")
        line = Text.assemble((label[0].rjust(_AXIS - 1) + " ", label[1]))
        for is_blank, run in itertools.groupby(dots, BLANK.__eq__):
            piece = "".join(run)
            if is_blank:
                line.append(("┄" if row == target_row else " ") * len(piece), style="yellow dim")
            else:
                line.append(piece, style="green")
        lines.append(one_line(line))
    return lines


def _rounds_axis(board: Board, width: int) -> Text:
    """Return what the plot's left and right end stand for: the rounds of the first and of the last test."""
    first, last = board.first_test, board.last_test
    if first is None or last is None or first is last:
        return Text("")
    ends = [
        (f"round {first.round} ({format_seconds(first.virtual_time_s)})",
         f"round {last.round} ({format_seconds(last.virtual_time_s)} virtual)"),
        (f"round {first.round}", f"round {last.round} ({format_seconds(last.virtual_time_s)})"),
        (f"round {first.round}", f"round {last.round}"),
        (f"{first.round}", f"{last.round}"),
    ]  # fmt: skip
    room = width - _AXIS
    left, right = next((pair for pair in ends if sum(map(len, pair)) + 2 <= room), ("", ""))
    return one_line(" " * _AXIS + left + right.rjust(room - len(left)), "dim")


def _small_curve(history: list[float], width: int) -> Text:
    """Return the history in one line, after the accuracies that its lowest and its highest block stand for."""
    if not history:
        return Text("")
    low, high = f"{min(history) * 100:.0f}", f"{max(history) * 100:.0f}"
    scale = f"{low} %" if low == high else f"{low} to {high} %"
    scale = f"{scale} " if len(scale) * 3 < width else ""
    return one_line(Text.assemble((scale, "dim"), (sparkline(history, max(width - len(scale), 1)), "green")))


def accuracy_panel(board: Board, width: int, height: int) -> Panel:
    """Return the accuracies so far as a plot, and how far the next target is."""
    title: list[str | tuple[str, str]] = ["accuracy"]
    if board.last_accuracy is not None:
        best = f" · best {accuracy(board.best_accuracy)}"
        title += [" ", (accuracy(board.last_accuracy), "bold green"), *([best] if width >= 40 else [])]
    history = board.curve.values()
    target, inner = board.next_target, width - 4
    if board.started is not None and board.started.backend == _DRY_RUN:
        return _panel(one_line("a dry run trains and tests nothing", "dim"), *title)
    lines: list[Text] = []
    if height >= 6:
        axis = int(height >= 7)
        lines += _plot_lines(plot(history, width=max(inner - _AXIS, 1), height=height - 3 - axis), target)
        lines += [_rounds_axis(board, inner)] * axis
    elif height >= 4:
        lines.append(_small_curve(history, inner))
    if not history:
        lines.append(one_line("no test yet", "dim"))
    elif target is None:
        lines.append(one_line("every target reached", "dim"))
    else:
        away_s = board.next_target_in_s
        goal, clock = target_text(target), "" if away_s is None else format_seconds(away_s)
        forms = (f"in about {clock} of virtual time", f"in about {clock}", clock) if clock else ("not in sight",)
        away = fitting([f" {form}" for form in forms], inner - len(goal))
        lines.append(one_line(Text.assemble((goal, "yellow"), away)))
    panel = _panel(Group(*lines), *title)
    panel.subtitle, panel.subtitle_align = f"{board.num_tests} tests" if board.num_tests > 1 else None, "right"
    return panel


def devices_panel(board: Board, width: int) -> Panel:
    """Return how many devices are in flight, idle, denied by memory and offline."""
    now = board.progress
    if now is None:
        return _panel(one_line("nothing dispatched yet", "dim"), "devices")
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
    is_wide = inner >= 38
    back, why = (f", back {counted(now.trained)}", " by memory") if is_wide else ("", "")
    here = (f"in flight {counted(flying)}{back}  ", ("■ ", "cyan"), f"idle {counted(idle)}")
    away = (f"denied{why} {counted(denied)}  ", ("■ ", _BORDER), f"offline {counted(offline)}")
    legend = (one_line(Text.assemble(("■ ", "green"), *here)), one_line(Text.assemble(("■ ", "red"), *away)))
    return _panel(Group(one_line(shares), *legend), f"devices · {counted(now.online)} online")


def memory_panel(board: Board, width: int, height: int) -> Panel:
    """Return how the memory of the fleet lies to what the submodels need."""
    title = "memory of the fleet"
    if board.started is None or not len(board.budgets) or height < 3:
        return _panel("", title)
    ladder = memory_ladder(board.budgets, board.started.thresholds, rows=height - 2, fitting=board.fitting)
    rungs = [step for step in ladder if not isinstance(step, Mark)]
    labels = max(len(rung.label()) for rung in rungs)
    counts = max(len(counted(rung.devices)) for rung in rungs)
    most, inner = max(rung.devices for rung in rungs), width - 4
    lines = []
    for step in ladder:
        if isinstance(step, Mark):
            name = step.text(inner)
            style = "bold yellow" if step.name.removesuffix(AS_FITTED) == board.stage else "yellow"
            lines.append(one_line(Text.assemble((f"{name} ", style), ("─" * (inner - len(name) - 1), "yellow dim"))))
            continue
        fits_all = step.submodels == len(board.started.thresholds)
        style = "green" if fits_all else "cyan" if step.submodels else "red"
        drawn = bar(step.devices / most, max(inner - labels - counts - 2, 1))
        label = f"{step.label():>{labels}} "
        lines.append(one_line(Text.assemble((label, "dim"), (drawn, style), f" {counted(step.devices)}")))
    return _panel(Group(*lines), title)


def _round_cells(row: RoundRow, *, wide: bool) -> dict[str, Text]:
    """Return what is told of a round, by column."""
    tested = Text(accuracy(row.test_accuracy), style="" if row.test_accuracy is None else "green")
    cells: dict[str, Text | str] = {
        "round": str(row.round),
        "virtual": format_seconds(row.virtual_time_s),
        "stage": short_stages(row.stage),
        "arrived": Text(f"{row.arrived}/{row.selected}", style="yellow" if row.dropped else ""),
        "denied": f"{row.denied:,}",
        "loss": number(row.train_loss),
        "accuracy": tested,
        "perplexity": number(row.test_perplexity, 2),
        "stale": number(row.staleness_mean, 1),
        "discarded": f"{row.discarded:,}",
    }
    if wide:
        cells |= {"online": f"{row.online:,}", "memory": format_bytes(row.peak_memory_bytes)}
        cells |= {"down": format_bytes(row.bytes_down), "up": format_bytes(row.bytes_up)}
        cells |= {"wall": format_seconds(row.wall_time_s)}
    return {head: cell if isinstance(cell, Text) else Text(cell) for head, cell in cells.items()}


def rounds_panel(board: Board, width: int, height: int) -> Panel:
    """Return a table of the last rounds, as many as `height` lines hold, with as many columns as need not be cut."""
    rows = [_round_cells(row, wide=width >= 110) for row in list(board.rounds)[-max(height - 3, 0) :]]
    lengths = {head: max([len(head), *(row[head].cell_len for row in rows)]) for head in (rows[0] if rows else _HEADS)}
    # What only late updates have is shown only where there are some.
    for head, name in (("stale", "staleness_mean"), ("discarded", "discarded"), ("perplexity", "test_perplexity")):
        if not any(getattr(row, name) for row in board.rounds):
            lengths.pop(head, None)
    for head in _LEAST_FIRST:
        if sum(lengths.values()) + len(lengths) - 1 > width - 4:
            lengths.pop(head, None)
    grid = Table(box=None, expand=True, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    for head in lengths:
        grid.add_column(head, justify="left" if head == "stage" else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*(row[head] for head in lengths))
    panel = _panel(grid, "last rounds")
    if board.has_negative_losses and board.started is not None:
        why = fitting([*below_zero(board.started.method), ""], width - 6)
        panel.subtitle, panel.subtitle_align = Text(why, "yellow"), "right"
    return panel


def footer_lines(board: Board, width: int, height: int) -> Group:
    """Return how to stop, where results go, and the last notices in the lines that are left."""
    place = board.started.run_dir if board.started is not None else None
    stop = how_to_stop(place if board.started is not None and board.started.is_resumable else None)
    shown = list(board.notices)
    head: list[Text] = []
    if height > 1 or not shown:
        told = fitting([f" {form}" for form in stop], width)
        head.append(one_line(told, "dim"))
        # Where the line on stopping has no room for the folder, or there is room for more.
        is_named = place is not None and told == f" {stop[0]}"
        if place is not None and (height > 3 or (not is_named and height > 1 + bool(shown))):
            head.append(one_line(_place(place, width), "dim"))
    room = height - len(head)
    shown = shown[-room:] if room else []
    # One that stands alone may take all the lines.
    lines = [
        line
        for told in shown
        for line in textwrap.wrap(told.text, max(width, 10), initial_indent=" ! ", subsequent_indent="   ",
                                  max_lines=room // len(shown), placeholder=" …", break_long_words=False)
    ]  # fmt: skip
    return Group(*head, *(one_line(line, "yellow") for line in lines))


def _place(run_dir: str, width: int) -> str:
    """Return where results go; of a long path the last parts that there is room for."""
    parts = run_dir.split("/")
    shorter = [f"…/{'/'.join(parts[first:])}" for first in range(1, len(parts))]
    return fitting([f"{words}{path}" for path in (run_dir, *shorter) for words in (" results go to ", " ")], width)
