"""Where the time of rounds goes: shares of the phases, the slowest flight, stragglers; per round and per device class.

The time of a flight is counted from its dispatch to the aggregation of its round: download, compute, upload and
waiting are the flight's own, the rest is idle, because the round went on without it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import Any

from neulite_sim.reports.table import TextTable
from neulite_sim.reports.timeline_window import Window
from neulite_sim.results.rows import FlightRow
from neulite_sim.units import format_percent, format_seconds

PHASES = ("download", "compute", "upload", "waiting")
ARRIVED = "arrived"
STRAGGLES = 2.0
"""A flight is a straggler where it took longer than this many times the median flight of its round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Seconds of flights, added up: what they did between dispatch and aggregation."""

    download: float
    compute: float
    upload: float
    waiting: float
    idle: float

    def shares(self) -> dict[str, float]:
        """Return each part as a share of all, 0 to 1; zeros where no time passed."""
        parts = {part.name: getattr(self, part.name) for part in fields(self)}
        whole = math.fsum(parts.values())
        return {name: seconds / whole if whole > 0 else 0.0 for name, seconds in parts.items()}


def split(flights: Iterable[FlightRow], ends_s: dict[int, float]) -> Split:
    """Return the seconds of flights; `ends_s` says when each round was aggregated."""
    rows = list(flights)
    spent = {phase: math.fsum(getattr(row, f"{phase}_s") for row in rows) for phase in PHASES}
    idle_s = math.fsum(max(0.0, ends_s[row.round] - row.ended_s) for row in rows)
    return Split(**spent, idle=idle_s)


def duration_s(row: FlightRow) -> float:
    """Return how long a flight was out."""
    return row.ended_s - row.dispatched_s


def longest_phase(row: FlightRow) -> str:
    """Return the phase in which a flight spent most of its time."""
    return max(PHASES, key=lambda phase: float(getattr(row, f"{phase}_s")))


def stragglers(flights: Sequence[FlightRow]) -> list[FlightRow]:
    """Return the flights that took longer than `STRAGGLES` times the median of those that were not dropped."""
    whole = [duration_s(row) for row in flights if row.outcome == ARRIVED]
    limit_s = STRAGGLES * median(whole) if whole else math.inf
    return [row for row in flights if duration_s(row) > limit_s]


def timeline_report(window: Window) -> dict[str, Any]:
    """Return what `timeline --json` prints: `rounds` and `classes`, seconds as seconds, shares from 0 to 1."""
    ends_s = {row.round: row.virtual_time_s for row in window.rounds}
    starts_s = [window.start_s, *ends_s.values()]
    late = {row.flight for number in ends_s for row in stragglers(window.of(number))}
    rounds = [
        {
            "round": row.round,
            "stage": row.stage,
            "start_s": start_s,
            "end_s": row.virtual_time_s,
            **_facts(window.of(row.round), ends_s, late),
            "slowest": _slowest(window.of(row.round)),
        }
        for row, start_s in zip(window.rounds, starts_s, strict=False)
    ]
    ended = [row for row in window.flights if row.round in ends_s]
    classes = [
        {"device_class": name, **_facts([row for row in ended if row.device_class == name], ends_s, late)}
        for name in sorted({row.device_class for row in ended})
    ]
    return {"rounds": rounds, "classes": classes}


def _facts(flights: Sequence[FlightRow], ends_s: dict[int, float], late: Collection[int]) -> dict[str, Any]:
    whole = [duration_s(row) for row in flights if row.outcome == ARRIVED]
    return {
        "flights": len(flights),
        "dropped": sum(row.outcome != ARRIVED for row in flights),
        "stragglers": sum(row.flight in late for row in flights),
        "median_flight_s": median(whole) if whole else None,
        "longest_flight_s": max(map(duration_s, flights), default=None),
        "shares": split(flights, ends_s).shares(),
    }


def _slowest(flights: Sequence[FlightRow]) -> dict[str, Any] | None:
    """Return the flight that took longest; None in a round without flights."""
    if not flights:
        return None
    row = max(flights, key=lambda flight: (duration_s(flight), -flight.flight))
    return {
        "flight": row.flight,
        "device": row.device,
        "device_class": row.device_class,
        "seconds": duration_s(row),
        "phase": longest_phase(row),
    }


def timeline_tables(report: dict[str, Any]) -> list[TextTable]:
    """Return the report as two tables, of rounds and of device classes."""
    measures = ("flights", "dropped", "stragglers", "median", *PHASES, "idle")
    rounds = TextTable(
        title="where the time of a round goes",
        headers=("round", "stage", "lasted", *measures, "slowest flight"),
        rows=tuple(
            (
                str(item["round"]),
                item["stage"],
                format_seconds(item["end_s"] - item["start_s"]),
                *_measures(item),
                _slowest_text(item["slowest"]),
            )
            for item in report["rounds"]
        ),
        numeric=frozenset(("round", "lasted", *measures)),
    )
    classes = TextTable(
        title="the same flights by class of device",
        headers=("device class", *measures, "longest"),
        rows=tuple(
            (item["device_class"], *_measures(item), _seconds(item["longest_flight_s"])) for item in report["classes"]
        ),
        numeric=frozenset((*measures, "longest")),
        notes=(
            "Shares of the time from dispatch to aggregation; idle: the flight had ended, the round went on.",
            f"median: of the flights that arrived; stragglers: flights of more than {STRAGGLES:g} times the round's "
            "median.",
        ),
    )
    return [rounds, classes]


def _measures(item: dict[str, Any]) -> tuple[str, ...]:
    shares = (format_percent(item["shares"][name]) for name in (*PHASES, "idle"))
    return (*(str(item[name]) for name in ("flights", "dropped", "stragglers")), _seconds(item["median_flight_s"]),
            *shares)  # fmt: skip


def _seconds(value: float | None) -> str:
    return "-" if value is None else format_seconds(value)


def _slowest_text(slowest: dict[str, Any] | None) -> str:
    if slowest is None:
        return "-"
    where = f"device {slowest['device']}, {slowest['device_class']}"
    return f"{format_seconds(slowest['seconds'])}, most of it {slowest['phase']}: {where}"
