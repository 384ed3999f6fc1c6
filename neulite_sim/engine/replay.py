"""Resume is replay: the timeline runs again from the journal, without training, up to the checkpoint, then goes on.

No generator and no queue is ever stored. Everything random is drawn from streams keyed by what it is for, so the
replay makes the same flights; what the outside returned (losses, tests, the method's own decisions) comes from the
journal, and the weights from the checkpoint.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from neulite_sim.engine.untrained import Untrained
from neulite_sim.errors import NotResumableError, SimulationError
from neulite_sim.methods.contract import Update
from neulite_sim.results.checkpoint import Found, Saved, read_checkpoint, write_checkpoint
from neulite_sim.results.journal import (
    BEGINNING,
    ROUNDS,
    STREAMS,
    TESTS,
    UPDATES,
    Entry,
    Journal,
    read_journal,
)
from neulite_sim.results.places import CHECKPOINT, JOURNAL
from neulite_sim.timeline.flights import Flight
from neulite_sim.training.diagnostics import Diagnostic
from neulite_sim.training.evaluation import EvaluationResult

PAUSE = 20.0
"""Where the scenario leaves it open, checkpoints take no more than one part in so many of a run's wall time."""
KEPT_METRICS = ("squared_loss", "num_skipped_terms")
"""The metrics of an update that rows and selectors go by."""
_OF_ANOTHER = "the journal belongs to another scenario or version"


class Keeper:
    """Keeps nothing and replays nothing: a run in memory.

    What the outside of the timeline returns goes through the keeper: each method that takes `ask` returns what that
    returns, or in a replay what it returned in the run, asked for in the same order.
    """

    @property
    def replays_until(self) -> int:
        """The last round that comes from the journal; 0 where none does."""
        return 0

    def replays(self, round_number: int) -> bool:
        """Whether what happens up to this round comes from the journal."""
        del round_number
        return False

    def ends_replay(self, round_number: int) -> bool:
        """Whether the checkpoint was made after this round and has not been restored yet."""
        return self.replays(round_number) and round_number == self.replays_until

    def is_due(self, round_number: int) -> bool:
        """Whether a checkpoint is to be made after this round."""
        del round_number
        return False

    def update(self, flight: Flight, ask: Callable[[], Update]) -> Update:
        """Return the update of a flight; a replayed one has no tensors."""
        del flight
        return ask()

    def note(self, updates: Mapping[int, Update]) -> None:
        """Take note of updates, by flight, that nobody was asked for."""

    def progress(self, round_number: int, ask: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return what the method's next offers depend on beside its version."""
        del round_number
        return ask()

    def wall_time_s(self, round_number: int, ask: Callable[[], float]) -> float:
        """Return when a round had been aggregated, in wall seconds since the run began."""
        del round_number
        return ask()

    def accuracies(self, round_number: int, ask: Callable[[], Sequence[float]]) -> Sequence[float]:
        """Return the accuracies that the selector asked for after a round."""
        del round_number
        return ask()

    def test(self, round_number: int, ask: Callable[[], EvaluationResult]) -> EvaluationResult:
        """Return the test of the model after a round."""
        del round_number
        return ask()

    def checkpoint(self, ask: Callable[[], Saved]) -> None:
        """Keep the weights, and what goes with them."""

    def restore(self, came_to: str) -> Saved:
        """Return the weights of the checkpoint; the replay, which `came_to` the digest of its end, is over."""
        raise NotImplementedError

    def close(self) -> None:
        """Close what is open."""


class _Pace:
    """When checkpoints are due: after each so many rounds, and paced no more often than `PAUSE` allows."""

    def __init__(self, every_rounds: int, *, is_paced: bool) -> None:
        self._every_rounds = every_rounds
        self._is_paced = is_paced
        self._rests_until_s = -math.inf

    def is_due(self, round_number: int) -> bool:
        """Whether a checkpoint is made after a round."""
        return round_number % self._every_rounds == 0 and time.perf_counter() >= self._rests_until_s

    def rest(self, begun_s: float) -> None:
        """Take note that one was made just now, begun at `begun_s`."""
        if self._is_paced:
            ended_s = time.perf_counter()
            self._rests_until_s = ended_s + PAUSE * (ended_s - begun_s)


class FolderKeeper(Keeper):
    """Keeps journal and checkpoints in a run folder, and replays what it finds there up to `found`.

    Until a replay has succeeded nothing of the folder is changed; then `on_success` is called.

    With `is_paced` a checkpoint that is due is left out where rounds are quicker than writing it; see `PAUSE`.

    Raises:
        OutputError: the journal cannot be written.
        NotResumableError: the journal is not the one of the checkpoint.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        every_rounds: int,
        packages: frozenset[str],
        found: Found | None = None,
        is_paced: bool = False,
    ) -> None:
        self._run_dir = run_dir
        self._pace = _Pace(every_rounds, is_paced=is_paced)
        self._packages = packages
        self._found = found
        self._is_replaying = found is not None
        self.on_success: Callable[[], None] = lambda: None
        folder = run_dir / JOURNAL
        marks = {stream: found.journal.get(stream, BEGINNING) for stream in STREAMS} if found else {}
        self._past: dict[str, Generator[Entry, None, None]] = {
            stream: read_journal(folder, stream, mark) for stream, mark in marks.items()
        }
        self._journal = Journal(folder, marks)

    def begin(self) -> None:
        """Let go of what was before the run, or behind its checkpoint; what comes now is kept."""
        self._journal.begin()
        self.on_success()

    @property
    def replays_until(self) -> int:
        """The checkpoint's round; 0 where there is no checkpoint."""
        return self._found.round if self._found else 0

    def replays(self, round_number: int) -> bool:
        """Whether a round lies before the checkpoint that is being replayed to."""
        return self._is_replaying and self._found is not None and round_number <= self._found.round

    def is_due(self, round_number: int) -> bool:
        """Whether a checkpoint is made after this round."""
        return self._pace.is_due(round_number)

    def update(self, flight: Flight, ask: Callable[[], Update]) -> Update:
        """Return an update and write what is kept of it; or read that."""
        if self._is_replaying:
            return _update_of(flight, self._next(UPDATES, "flight", flight.number, "loss"))
        update = ask()
        self.note({flight.number: update})
        return update

    def note(self, updates: Mapping[int, Update]) -> None:
        """Write what is kept of updates."""
        lines: Sequence[Entry | bytes]
        if isinstance(updates, Untrained):
            lines = list(map(UNKNOWN.__mod__, zip(updates, updates.sizes, strict=True)))
        else:
            lines = [_entry_of(number, update) for number, update in updates.items()]
        self._journal.add_all(UPDATES, lines)

    def progress(self, round_number: int, ask: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return and write what the next offers depend on; or read it."""
        if self.replays(round_number):
            kept: Mapping[str, Any] = self._next(ROUNDS, "round", round_number, "progress")["progress"]
            return kept
        progress = dict(ask())
        self._journal.add(ROUNDS, {"round": round_number, "progress": progress})
        return progress

    def wall_time_s(self, round_number: int, ask: Callable[[], float]) -> float:
        """Return and write the wall time of a round, and hand the journal to the operating system; or read it."""
        if self.replays(round_number):
            return float(self._next(ROUNDS, "round", round_number, "wall_time_s")["wall_time_s"])
        seconds = ask()
        self._journal.add(ROUNDS, {"round": round_number, "wall_time_s": seconds})
        self._journal.flush()
        return seconds

    def accuracies(self, round_number: int, ask: Callable[[], Sequence[float]]) -> Sequence[float]:
        """Return and write the accuracies that the selector asked for; or read them."""
        if self.replays(round_number):
            kept: Sequence[float] = self._next(ROUNDS, "round", round_number, "answers")["answers"]
            return kept
        accuracies = list(ask())
        self._journal.add(ROUNDS, {"round": round_number, "answers": accuracies})
        return accuracies

    def test(self, round_number: int, ask: Callable[[], EvaluationResult]) -> EvaluationResult:
        """Return and write a test; or read it."""
        if self.replays(round_number):
            return _test_of(self._next(TESTS, "round", round_number, "accuracy"))
        result = ask()
        self._journal.add(TESTS, {"round": round_number, **asdict(result)})
        return result

    def checkpoint(self, ask: Callable[[], Saved]) -> None:
        """Write a checkpoint that goes with the journal so far; what there is to write is `ask`ed for in its time."""
        begun_s = time.perf_counter()
        saved = ask()
        write_checkpoint(self._run_dir / CHECKPOINT, saved, self._journal.sync(), packages=self._packages)
        self._pace.rest(begun_s)

    def _next(self, stream: str, key: str, number: int, wanted: str) -> Entry:
        """Return the next entry, which must be of this number and hold what is `wanted`."""
        entry = next(self._past[stream], None)
        if entry is None or entry.get(key) != number or wanted not in entry:
            raise NotResumableError(
                f"{self._run_dir / JOURNAL / stream}.jsonl: the entry of {key} {number} is "
                f"{json.dumps(entry) if entry else 'missing'}",
                because=_OF_ANOTHER,
            )
        return entry

    def restore(self, came_to: str) -> Saved:
        """Return what the checkpoint holds; the replay is over.

        Raises:
            NotResumableError: the checkpoint cannot be read, or the journal goes on.
            SimulationError: the replay came to something else than the run.
        """
        assert self._found is not None
        if any(next(entries, None) is not None for entries in self._past.values()):
            raise NotResumableError(
                f"{self._run_dir / JOURNAL}: holds more than the rounds up to {self._found.round}",
                because=_OF_ANOTHER,
            )
        if came_to != self._found.came_to:
            raise SimulationError(
                f"{self._run_dir}: playing rounds 1 to {self._found.round} again did not come to what the run had come "
                "to by then, so it is not gone on with; either its method does not put all that its offers depend on "
                "into progress and follow (neulite_sim.methods.conformance checks that), or this installation is not "
                "the one that began it: run its scenario.yaml again"
            )
        saved = read_checkpoint(self._found, packages=self._packages)
        self._is_replaying = False
        _close_all(self._past)
        self.begin()
        return saved

    def close(self) -> None:
        """Close the journal, and what is read of it."""
        _close_all(self._past)
        self._journal.close()


def _entry_of(number: int, update: Update) -> Entry:
    numbers = {"loss": update.loss, **{name: update.metrics.get(name, math.nan) for name in KEPT_METRICS}}
    known = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
    return {"flight": number, **known, "num_samples": update.num_samples}


_PLAIN = json.dumps({"flight": "%d", "loss": None, **dict.fromkeys(KEPT_METRICS), "num_samples": "%d"})
UNKNOWN = _PLAIN.replace(" ", "").replace('"%d"', "%d").encode("ascii")
"""The line of an update of which nothing is known but its size: what `_entry_of` says of it, made without JSON."""


def _update_of(flight: Flight, entry: Entry) -> Update:
    return Update(
        device=flight.device,
        submodel=flight.submodel,
        num_samples=entry["num_samples"],
        tensors={},
        loss=math.nan if entry["loss"] is None else entry["loss"],
        metrics={name: entry[name] for name in KEPT_METRICS if entry[name] is not None},
        version=flight.version,
    )


def _test_of(entry: Entry) -> EvaluationResult:
    return EvaluationResult(
        loss=entry["loss"],
        accuracy=entry["accuracy"],
        num_samples=entry["num_samples"],
        diagnostics=tuple(Diagnostic(**found) for found in entry.get("diagnostics", ())),
    )


def _close_all(entries: Mapping[str, Generator[Entry, None, None]]) -> None:
    for each in entries.values():
        each.close()
