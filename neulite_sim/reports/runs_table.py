"""The table of `runs`: a line per run folder, in columns that fit a terminal or stand below each other."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from neulite_sim.reports.comparison_table import Column, tables_of
from neulite_sim.reports.table import TextTable
from neulite_sim.results.listing import STATES, ListedRun
from neulite_sim.units import format_seconds

_MOST_REMARKS = 10
_MOST_LETTERS = 200


def runs_tables(
    runs: Sequence[ListedRun], *, remarks: Sequence[str] = (), width: int | None = None, now: datetime.datetime
) -> list[TextTable]:
    """Return a list of runs as one table, or as several below each other that fit `width` characters.

    `now` decides which days are written without their year.
    """
    columns = (
        Column(head="run", cells=tuple(_shown(run.run) for run in runs), is_numeric=False),
        Column(head="method", cells=tuple(_shown(run.method or "-") for run in runs), is_numeric=False),
        Column(head="seed", cells=tuple(_known(run.seed) for run in runs)),
        Column(head="state", cells=tuple(run.state for run in runs), is_numeric=False),
        Column(head="rounds", cells=tuple(_known(run.rounds) for run in runs)),
        Column(head="accuracy %", cells=tuple(_percent(run.tail_accuracy) for run in runs)),
        Column(head="virtual", cells=tuple(_duration(run.virtual_time_s) for run in runs)),
        Column(head="started", cells=tuple(_day(run.started_at_utc, now) for run in runs)),
    )
    notes = [*_notes(runs), *map(_shown, remarks)]
    return tables_of(columns, title=_title(runs), notes=notes, width=width)


def _title(runs: Sequence[ListedRun]) -> str:
    counts = [(sum(run.state == state for run in runs), state) for state in STATES]
    shown = ", ".join(f"{count} {state}" for count, state in counts if count)
    return f"{len(runs)} run{'' if len(runs) == 1 else 's'}: {shown}"


def _notes(runs: Sequence[ListedRun]) -> list[str]:
    told = [_shown(f"{run.run}: {run.remark[:_MOST_LETTERS]}") for run in runs if run.remark]
    more = [f"and {len(told) - _MOST_REMARKS} more remarks: --json has all"] if len(told) > _MOST_REMARKS else []
    return [*told[:_MOST_REMARKS], *more]


def _shown(text: str) -> str:
    """Return a text of a folder as a terminal may have it."""
    return text if text.isprintable() else text.encode("unicode_escape", "surrogatepass").decode()


def _known(value: int | None) -> str:
    return "-" if value is None else str(value)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:.1f}"


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else format_seconds(seconds)


def _day(started_at_utc: str | None, now: datetime.datetime) -> str:
    if started_at_utc is None:
        return "-"
    began = datetime.datetime.fromisoformat(started_at_utc).astimezone(now.tzinfo)
    return f"{began:%m-%d %H:%M}" if began.year == now.year else f"{began:%Y-%m-%d}"
