"""The live view as a whole: which panels there are room for on a terminal of some size, and where they stand."""

from __future__ import annotations

from rich.layout import Layout
from rich.padding import Padding

from neulite_sim.reports.board import Board
from neulite_sim.reports.panels import (
    accuracy_panel,
    devices_panel,
    footer_lines,
    header_lines,
    memory_panel,
    one_line,
    progress_panel,
    progress_rows,
    rounds_panel,
)

_TWO_COLUMNS = 76


def dashboard(board: Board, *, width: int, height: int) -> Layout:
    """Return the live view for a terminal of this size: fewer panels where there is less room."""
    whole = Layout(name="whole")
    if board.started is None:
        whole.update(Padding(one_line("preparing the run ...", "dim"), (0, 1)))
        return whole
    head = 1 if board.started.proxy is None else 2
    foot = 1 if height < 10 else 2 if height < 32 else 4
    progress, devices, accuracy = len(progress_rows(board)) + 2, 5, 4
    room = height - head - foot
    columns = width >= _TWO_COLUMNS and room >= progress + devices + accuracy
    spare = room - progress - devices - accuracy
    rounds = min(spare, max(6, height // 4)) if spare >= 5 else 0
    middle = room - rounds
    left_width = width // 2 + 2 if columns else width
    memory = 0 if columns else min(middle - progress - devices - accuracy, 14)
    memory = memory if memory >= 8 else 0

    left: list[Layout] = [Layout(progress_panel(board), size=progress)]
    rest = middle - progress - memory
    if rest >= devices + accuracy:
        rest -= devices
        left.append(Layout(accuracy_panel(board, left_width, rest), size=rest))
        left.append(Layout(devices_panel(board, left_width), size=devices))
    elif rest >= 3:
        left.append(Layout(accuracy_panel(board, left_width, rest), size=rest))
    if memory:
        left.append(Layout(memory_panel(board, width, memory), size=memory))
    body = Layout(size=middle)
    if columns:
        sides = (
            Layout(size=left_width),
            Layout(memory_panel(board, width - left_width, middle), size=width - left_width),
        )
        sides[0].split_column(*left)
        body.split_row(*sides)
    else:
        body.split_column(*left)
    parts = [Layout(header_lines(board.started, width), size=head), body]
    if rounds:
        parts.append(Layout(rounds_panel(board, width, rounds), size=rounds))
    whole.split_column(*parts, Layout(footer_lines(board, width, foot), size=foot))
    return whole
