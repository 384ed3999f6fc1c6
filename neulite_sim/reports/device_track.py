"""The time of a run as one line of text per track: when a device was online, and when it flew."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from neulite_sim.reports.device_history import History
from neulite_sim.timeline.flights import ARRIVED
from neulite_sim.units import format_seconds

ONLINE, FLEW, LOST, NOTHING = "=", "#", "x", "."
LEAST_CELLS = 20


def track_lines(history: History, width: int) -> list[str]:
    """Return the tracks of a device over the virtual time of its run, in lines of up to `width` characters.

    A cell shows what was so at any moment of its stretch of time: rather a flight that was lost than one that arrived.
    """
    if history.end_s <= 0:
        return []
    label = len("flights ")
    cells = max(LEAST_CELLS, width - label - 1)
    arrived = [(row.dispatched_s, row.ended_s) for row in history.flights if row.outcome == ARRIVED]
    lost = [(row.dispatched_s, row.ended_s) for row in history.flights if row.outcome != ARRIVED]
    lines = []
    if history.online is not None:
        lines.append("online  " + _drawn(cells, history.end_s, ((ONLINE, history.online),)))
    lines.append("flights " + _drawn(cells, history.end_s, ((FLEW, arrived), (LOST, lost))))
    begin, end = "0s", format_seconds(history.end_s)
    lines.append(" " * label + begin + end.rjust(cells - len(begin)))
    known = [f"{ONLINE} online"] if history.online is not None else []
    known += [f"{FLEW} flight that arrived"] if arrived else []
    known += [f"{LOST} flight that did not"] if lost else []
    if known:
        lines.append(" " * label + ", ".join([*known, f"a cell is {format_seconds(history.end_s / cells)}"]))
    return lines


def _drawn(cells: int, end_s: float, layers: Iterable[tuple[str, Sequence[tuple[float, float]]]]) -> str:
    drawn = [NOTHING] * cells
    for mark, spans in layers:
        for start_s, stop_s in spans:
            first = min(cells - 1, int(start_s / end_s * cells))
            after = min(cells, max(first + 1, math.ceil(min(stop_s, end_s) / end_s * cells)))
            drawn[first:after] = mark * (after - first)
    return "".join(drawn)
