"""What an observer of a run knows about it: the latest numbers, a few rows, a bounded history and the estimates.

No terminal in here: the console draws a board, and tests ask it. Its memory does not grow with the rounds.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from neulite_sim.reports.figures import History, reach_s, time_left_s
from neulite_sim.reports.notices import Notices
from neulite_sim.results.rows import Event, Notice, Progress, RoundRow, RunStarted

_PACE_ROUNDS = 32
_APART_S = 0.05
"""The pace is that between moments so far apart at least."""
_SLOPE_EVALUATIONS = 8
_KEPT_ROWS = 60


class Board:
    """The state of a run as told by its events. `clock` gives wall seconds; the run's own begin when it starts."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_s = clock()
        self.started: RunStarted | None = None
        self.progress: Progress | None = None
        self.num_in_flight = 0
        self.rounds: deque[RoundRow] = deque(maxlen=_KEPT_ROWS)
        self.notices = Notices()
        self.num_rounds = 0
        self.num_tests = 0
        self.first_test: RoundRow | None = None
        self.last_test: RoundRow | None = None
        self.has_negative_losses = False
        self.wall_before_s = 0.0  # of the rounds that a resumed run took from the journal
        self.told_wall_s = 0.0  # the run's wall time when its latest round was told
        self.curve = History()
        self.last_accuracy: float | None = None
        self.last_perplexity: float | None = None
        self.best_accuracy: float | None = None
        self.budgets: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._pace: deque[tuple[float, int, float]] = deque(maxlen=_PACE_ROUNDS)
        self._slope: deque[tuple[float, float]] = deque(maxlen=_SLOPE_EVALUATIONS)

    def notify(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case Progress():
                self._add_progress(event)
            case RoundRow():
                self._add_round(event)
            case Notice():
                self.notices.take(event.message)
            case RunStarted():
                self.started = event
                # What came before was preparation, which the run's own wall time leaves out.
                self._began_s = self._clock()
                self.budgets = np.sort(np.asarray(event.available_memory_bytes, dtype=np.int64))

    def _add_progress(self, event: Progress) -> None:
        # What has landed and waits to be merged is told as training: as many fly as at the round's first dispatch.
        is_first = event.trained == 0 and (self.progress is None or self.progress.round != event.round)
        self.num_in_flight = event.training if is_first else min(event.training, self.num_in_flight)
        self.progress = event

    def _add_round(self, row: RoundRow) -> None:
        self.rounds.append(row)
        # Counted from either zero or one, and a resumed run does not begin at the first.
        self.num_rounds = max(self.num_rounds + 1, row.round)
        now_s = self._clock()
        # The run's own clock stands where the row says, or further where a test came after.
        began_s = now_s - row.wall_time_s
        if self.started is not None and row.round <= self.started.replays_until:
            # Rounds from the journal say nothing of the pace; the last of them is where training goes on.
            self._began_s, self.wall_before_s = began_s, row.wall_time_s
            self._pace.clear()
        self._began_s = min(self._began_s, began_s)
        self.told_wall_s = now_s - self._began_s
        if not self._pace or now_s - self._pace[-1][0] >= _APART_S:
            # Of rounds that are told together the first stands for all.
            self._pace.append((now_s, self.num_rounds, row.virtual_time_s))
        self.has_negative_losses |= row.train_loss is not None and row.train_loss < 0
        if row.test_accuracy is None:
            return
        self.num_tests += 1
        self.first_test, self.last_test = self.first_test or row, row
        self.last_accuracy = row.test_accuracy
        self.last_perplexity = row.test_perplexity
        self.best_accuracy = max(row.test_accuracy, self.best_accuracy or 0.0)
        self.curve.add(row.test_accuracy)
        self._slope.append((row.virtual_time_s, row.test_accuracy))

    @property
    def fitting(self) -> dict[str, int]:
        """How many devices hold each submodel, by what each is charged; empty where that was not told."""
        if self.started is None or not self.started.fitting:
            return {}
        names = (name for name, _ in self.started.thresholds)
        return dict(zip(names, self.started.fitting, strict=True))

    @property
    def is_replaying(self) -> bool:
        """Whether the latest rounds came from the journal of a resumed run, and the next one will too."""
        return self.started is not None and self.num_rounds < self.started.replays_until

    @property
    def wall_s(self) -> float:
        """Wall seconds of the run, as its summary counts them: no preparation, no replay, but what was replayed."""
        return self._clock() - self._began_s

    @property
    def virtual_s(self) -> float:
        """The virtual clock, in seconds, as far as it was told."""
        told = self.rounds[-1].virtual_time_s if self.rounds else 0.0
        return max(told, self.progress.virtual_time_s) if self.progress else told

    @property
    def stage(self) -> str:
        """What is trained now; empty before the first event that says so."""
        latest = self.progress or (self.rounds[-1] if self.rounds else None)
        return latest.stage if latest else ""

    @property
    def next_target(self) -> float | None:
        """The smallest target accuracy that was not reached yet, the stopping one included."""
        if self.started is None:
            return None
        stop = () if self.started.stop_accuracy is None else (self.started.stop_accuracy,)
        best = -1.0 if self.best_accuracy is None else self.best_accuracy
        return min((target for target in (*self.started.targets, *stop) if target > best), default=None)

    @property
    def next_target_in_s(self) -> float | None:
        """Virtual seconds until the next target along the latest slope, or None where there is no telling."""
        target = self.next_target
        return None if target is None else reach_s(tuple(self._slope), target)

    @property
    def round_wall_s(self) -> float | None:
        """Wall seconds that a round takes lately, or None before the second round."""
        if len(self._pace) < 2 or self._pace[-1][1] == self._pace[0][1]:
            return None
        return (self._pace[-1][0] - self._pace[0][0]) / (self._pace[-1][1] - self._pace[0][1])

    @property
    def wall_left_s(self) -> float | None:
        """Wall seconds until the round limit or the virtual one, whichever comes first; None before there is a pace.

        A target accuracy may end the run earlier.
        """
        if self.started is None:
            return None
        now_s = self._clock()
        left = [time_left_s([(at_s, done) for at_s, done, _ in self._pace], self.started.max_rounds, now_s)]
        if self.started.max_virtual_time_s is not None:
            clock = [(at_s, virtual_s) for at_s, _, virtual_s in self._pace]
            left.append(time_left_s(clock, self.started.max_virtual_time_s, now_s))
        return min((seconds for seconds in left if seconds is not None), default=None)
