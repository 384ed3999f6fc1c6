"""The runs of a sweep or a study while they are at work: who is told of them, and what became of them."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from neulite_sim.errors import RunsFailedError
from neulite_sim.notebook.progress import view_of
from neulite_sim.reports.lines import number
from neulite_sim.results.stored import read_run
from neulite_sim.studies.sweeps import EndedRun, PlannedRun, default_jobs, run_all
from neulite_sim.units import format_seconds


class Audience(Protocol):
    """Is told of runs, a line each, and of each that ended."""

    def say(self, line: str) -> None:
        """Take a line."""
        ...

    def advance(self) -> None:
        """Take note that a run ended."""
        ...


Telling = Callable[[int], AbstractContextManager[Audience]]
"""Makes an audience for so many runs, which is there while they are at work."""


def run_planned(runs: Sequence[PlannedRun], folder: Path, jobs: int | None, telling: Telling) -> tuple[EndedRun, ...]:
    """Run what is not finished, tell of each run that ends or was cut off before, and return those that failed.

    Raises:
        OutputError: the folder cannot be written, or another sweep is at work in it.
    """
    waiting = sum(run.state != "finished" for run in runs)
    before = f" ({len(runs) - waiting} of {len(runs)} finished before)" if waiting < len(runs) else ""
    jobs = max(1, min(jobs or default_jobs(runs), waiting))
    failed: list[EndedRun] = []
    num_ended = 0
    with telling(waiting) as audience, contextlib.closing(run_all(runs, out=folder, jobs=jobs)) as events:
        if waiting:
            audience.say(f"{waiting} run{'' if waiting == 1 else 's'}, {jobs} at a time, in {folder}{before}")
        else:
            audience.say(f"nothing to run in {folder}: all {len(runs)} finished before")
        for event in events:
            if isinstance(event, EndedRun):
                num_ended += 1
                failed += [event] if event.outcome == "failed" else []
                audience.say(f"[{num_ended}/{waiting}] {_told(event)}")
                audience.advance()
            elif event.state == "cut off":
                audience.say(f"{event.name}: {_begun(event)}")
    return tuple(failed)


def failure_of_runs(failed: Sequence[EndedRun], total: int, result: object) -> RunsFailedError:
    """Return the error that says which of so many runs failed, and holds what came out of the others."""
    details: list[Mapping[str, Any]] = [{"run": ended.run.name, **ended.error} for ended in failed]
    message = f"{len(failed)} of {total} runs failed: {', '.join(ended.run.name for ended in failed)}"
    return RunsFailedError(message, hint="started again, it runs what is missing", runs=details, result=result)


def _begun(run: PlannedRun) -> str:
    if run.resume_command:
        return f"cut off, resumed after round {run.checkpoint_round}"
    return f"cut off, run anew: {run.anew_because}"


def _told(ended: EndedRun) -> str:
    name = f"{ended.run.name}: "
    if ended.outcome != "done":
        return name + ("NA, no device can train anything" if ended.outcome == "NA" else f"failed: {ended.message}")
    accuracy = number(read_run(ended.run.folder).summary.get("tail_accuracy"), 4)
    since = f" from round {ended.run.checkpoint_round + 1} on" if ended.run.resume_command else ""
    return f"{name}accuracy {accuracy}, in {format_seconds(ended.wall_time_s)}{since}"


@dataclass(slots=True)
class _Shown:
    """Shows how many of the runs ended, and the last line, where a notebook or standard error shows progress."""

    total: int
    show: Callable[[str, str], None]
    ended: int = 0

    def say(self, line: str) -> None:
        bar = f'<progress value="{self.ended}" max="{max(1, self.total)}" style="width:420px"></progress>'
        self.show(line, f"<div>{html.escape(line)}<br>{bar}</div>")

    def advance(self) -> None:
        self.ended += 1


def telling_of(progress: bool | None) -> Telling:
    """Return who is told by a function: a notebook's cell, standard error, or nobody, as `progress` of `simulate`."""

    @contextlib.contextmanager
    def telling(total: int) -> Iterator[Audience]:
        view = view_of(progress)
        try:
            yield _Shown(total, (lambda line, page: None) if view is None else view.show)
        finally:
            if view is not None:
                view.close()

    return telling
