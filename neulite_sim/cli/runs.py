"""`neulite-sim runs`: a list of run folders."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neulite_sim.cli.answers import answer
from neulite_sim.cli.options import AsJson

if TYPE_CHECKING:
    from neulite_sim.results.listing import ListedRun

_LEAST = float("-inf")
_SORTS: dict[str, tuple[Callable[[ListedRun], Any], bool]] = {
    "started": (lambda run: run.started_at_utc or "", True),
    "run": (lambda run: run.run, False),
    "name": (lambda run: run.name or "", False),
    "method": (lambda run: run.method or "", False),
    "state": (lambda run: run.state, False),
    "accuracy": (lambda run: _LEAST if run.tail_accuracy is None else run.tail_accuracy, True),
    "rounds": (lambda run: run.rounds or 0, True),
    "virtual": (lambda run: run.virtual_time_s or 0.0, True),
}
"""What a list can be sorted by: its key, and whether the largest comes first."""


def runs(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Folder to look in and below; runs by default.")
    ] = Path("runs"),
    method: Annotated[str | None, typer.Option(metavar="KIND", help="Only runs of this method.")] = None,
    state: Annotated[
        str | None,
        typer.Option(metavar="STATE", help="complete, NA, running, resumable, cut off, failed or damaged."),
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="TEXT", help="Only runs with this in their name or path.")] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Started since a day (2026-11-28) or in the last 90min, 2h or 7d."),
    ] = None,
    sort: Annotated[
        str, typer.Option(metavar="COLUMN", help="started, run, name, method, state, accuracy, rounds or virtual.")
    ] = "started",
    as_json: AsJson = False,
) -> None:
    """List the run folders below a folder: method, state, accuracy, and when they started; the latest first."""
    from neulite_sim.reports.console import print_table
    from neulite_sim.reports.runs_table import runs_tables
    from neulite_sim.reports.screen import screen
    from neulite_sim.results.listing import STATES, list_runs

    _check("--sort", sort, tuple(_SORTS))
    if state is not None:
        _check("--state", state, STATES)
    now = datetime.datetime.now().astimezone()
    began = None if since is None else _moment(since, now)
    listing = list_runs(folder)
    key, is_falling = _SORTS[sort]
    found = sorted(
        (run for run in listing.runs if _is_wanted(run, method=method, state=state, name=name, since=began)),
        key=key,
        reverse=is_falling,
    )
    if as_json:
        answer({"runs": [run.to_json() for run in found], "remarks": listing.remarks})
        return
    console = screen()
    if not found:
        left = f" of {len(listing.runs)} is one of these" if listing.runs else f" below {folder}"
        typer.echo("\n".join([f"no run{left}", *listing.remarks]))
        return
    width = console.width if console.is_terminal else None
    for table in runs_tables(found, remarks=listing.remarks, width=width, now=now):
        print_table(console, table)


def _is_wanted(
    run: ListedRun, *, method: str | None, state: str | None, name: str | None, since: datetime.datetime | None
) -> bool:
    if (method is not None and run.method != method) or (state is not None and run.state != state):
        return False
    if name is not None and name not in (run.name or "") and name not in run.run:
        return False
    began = run.started_at_utc
    return since is None or (began is not None and datetime.datetime.fromisoformat(began) >= since)


def _check(option: str, given: str, choices: Sequence[str]) -> None:
    from neulite_sim.errors import Problem, ScenarioError, close_matches

    if given not in choices:
        found = f"{given!r} is not known{close_matches(given, choices).removesuffix('?')}"
        hint = f"choose {', '.join(choices[:-1])} or {choices[-1]}"
        raise ScenarioError([Problem.advising(key=option, found=found, hint=hint)])


def _moment(text: str, now: datetime.datetime) -> datetime.datetime:
    """Return the moment that a user means by a day or by how long ago it was."""
    from neulite_sim.errors import Problem, ScenarioError
    from neulite_sim.units import parse_seconds

    try:
        given = datetime.datetime.fromisoformat(text)
    except ValueError:
        pass
    else:
        return given if given.tzinfo is not None else given.replace(tzinfo=now.tzinfo)
    try:
        return now - datetime.timedelta(seconds=parse_seconds(text))
    except (ValueError, OverflowError):
        hint = "write a day such as 2026-11-28, or how long ago, such as 90min, 2h or 7d"
        raise ScenarioError([Problem.advising(key="--since", found=f"{text!r} is no time", hint=hint)]) from None
