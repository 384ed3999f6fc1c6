"""Showing a run without a terminal: what every console can do, sparse lines for pipes and logs, and nothing at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from neulite_sim.reports.board import Board
from neulite_sim.reports.lines import below_zero, round_line, start_lines, stopped_line, summary_text
from neulite_sim.results.rows import Event, Notice, Progress, RoundRow, RunStarted

_TESTED_EVERY_S = 5.0
_SAID_EVERY_S = 30.0


class RunConsole(Protocol):
    """An observer for the command line: entered before the run, left after it, then told the summary."""

    def __enter__(self) -> Self:
        """Begin to show the run."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the view; where the run failed, say how far it came."""
        ...

    def notify(self, event: Event) -> None:
        """Take note of an event."""
        ...

    def finish(self, summary: Mapping[str, Any], *, run_dir: str | None = None) -> None:
        """Leave the summary of a finished run on the screen."""
        ...


class PlainConsole:
    """Sparse lines for pipes and logs: the start, a round now and then, every new notice, the end."""

    may_be_told_late = True

    def __init__(self, say: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._board = Board(clock=clock)
        self._began_s = clock()
        self._said_at_s: float | None = None
        self._unsaid: RoundRow | None = None
        self._has_explained = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._unsaid is not None:
            self._say_round(self._unsaid)
        for told in self._board.notices:
            if not told.is_news:
                self._say(f"! {told.text}")
        if error is not None and self._board.started is not None:
            self._say(stopped_line(self._board))

    def _say_round(self, row: RoundRow) -> None:
        self._say(round_line(self._board, row))
        self._said_at_s, self._unsaid = self._clock(), None
        if self._board.has_negative_losses and not self._has_explained and self._board.started is not None:
            self._has_explained = True
            self._say(f"! {below_zero(self._board.started.method)[0]}")

    def notify(self, event: Event) -> None:
        """Take note of an event, and print a line where one is due."""
        self._board.notify(event)
        silent_s = self._clock() - (self._began_s if self._said_at_s is None else self._said_at_s)
        match event:
            case RunStarted():
                for line in start_lines(self._board, event):
                    self._say(line)
            case Notice() if (told := self._board.notices.latest).is_news:
                self._say(f"! {told.text}")
            case RoundRow() if self._board.is_replaying:
                self._unsaid = event
            case RoundRow():
                self._unsaid = event
                is_due = silent_s >= (_TESTED_EVERY_S if event.test_accuracy is not None else _SAID_EVERY_S)
                if is_due or self._said_at_s is None:
                    self._say_round(event)
            case Progress() if silent_s >= _SAID_EVERY_S:
                flying = self._board.num_in_flight
                self._say(f"round {event.round} | {event.stage} | {event.trained} back, {flying} in flight")
                self._said_at_s = self._clock()

    def finish(self, summary: Mapping[str, Any], *, run_dir: str | None = None) -> None:
        """Print the summary as plain text."""
        self._say(summary_text(summary, run_dir=run_dir))


class QuietConsole:
    """Shows nothing."""

    may_be_told_late = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def notify(self, event: Event) -> None:
        """Do nothing."""

    def finish(self, summary: Mapping[str, Any], *, run_dir: str | None = None) -> None:
        """Do nothing."""
