"""Ctrl-C during a run, or another request to stop: it stops at once, and the line to type to go on is printed."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from neulite_sim.cli.answers import answer, wants_json
from neulite_sim.cli.failures import KILLED, UNFORESEEN, Failed, Failure, failure_of, interruption, message_of
from neulite_sim.cli.last_word import LastWord
from neulite_sim.errors import BackendLostError
from neulite_sim.stopping import is_asked_to_stop

ENDED = (
    "error: this process was ended in the middle of the run, by Ray or by the system; was a process of Ray killed, or "
    "did the machine run out of memory? Use fewer workers (backend.workers) if so"
)


class Whereabouts:
    """An observer that remembers where the run is kept, and that a request to stop was lost.

    Where Ray could end this process it leaves a last word with somebody else.
    """

    may_be_told_late = True

    def __init__(self) -> None:
        self.run_dir: str | None = None
        self._last_word: LastWord | None = None

    def notify(self, event: object) -> None:
        """Take note of the run folder when the run starts.

        Raises:
            KeyboardInterrupt: one was raised before, and swallowed by a library that happened to be at work.
        """
        self.run_dir = getattr(event, "run_dir", None) or self.run_dir
        if getattr(event, "backend", None) == "ray" and self._last_word is None and self.run_dir is not None:
            in_json = _killed(self.run_dir) if wants_json() else ""
            self._last_word = LastWord(f"{ENDED}\n{_how_to_go_on(self.run_dir)}\n", in_json)
        is_stopping = sys.exc_info()[0] is not None
        if is_asked_to_stop() and not is_stopping:
            raise KeyboardInterrupt

    def close(self) -> None:
        """Leave no last word behind: what had to be said was said."""
        if self._last_word is not None:
            self._last_word.drop()
            self._last_word = None


@contextmanager
def interruptible() -> Iterator[None]:
    """Take every error that follows a request to stop for its consequence: it broke off whatever was at work.

    Raises:
        KeyboardInterrupt: in the place of such an error.
    """
    try:
        yield
    except typer.Exit:
        raise
    except Exception:
        if is_asked_to_stop():
            raise KeyboardInterrupt from None
        raise


@contextmanager
def resumable(run_dir: str | None = None) -> Iterator[Whereabouts]:
    """Yield an observer for the run inside; a run that is interrupted or loses its backend there says how to go on.

    Raises:
        typer.Exit: with code 130 after a request to stop, with 1 where the backend was lost.
    """
    place = Whereabouts()
    place.run_dir = run_dir
    try:
        with interruptible():
            yield place
    except KeyboardInterrupt:
        message = _how_to_go_on(place.run_dir)
        typer.echo(message, err=True)
        raise Failed(interruption(message, hint=_wish(place.run_dir))) from None
    except BackendLostError as lost:
        typer.echo(message_of(lost), err=True)
        typer.echo(_how_to_go_on(place.run_dir), err=True)
        raise Failed(failure_of(lost, hint=_wish(place.run_dir))) from None
    finally:
        if place.run_dir is not None and wants_json():
            answer({"run_dir": place.run_dir}, indent=None, is_ascii=True)
        place.close()


def _killed(run_dir: str) -> str:
    """Return the object of `--json` of a run that was ended without a word."""
    failure = Failure(
        kind=KILLED, message=ENDED.removeprefix("error: "), hint=_wish(run_dir), exit_code=UNFORESEEN
    )  # fmt: skip
    return json.dumps({"run_dir": run_dir, "error": failure.to_json()}) + "\n"


def _wish(run_dir: str | None) -> str:
    """Return how to go on with a run; empty where there is nothing to go on with."""
    from neulite_sim.results.places import COMPLETE

    if run_dir is None or Path(run_dir, COMPLETE).exists():
        return ""
    return f"go on with: neulite-sim resume {shlex.quote(run_dir)}"


def _how_to_go_on(run_dir: str | None) -> str:
    if run_dir is None:
        return "interrupted before the run began"
    if wish := _wish(run_dir):
        return f"interrupted; {wish}"
    return f"interrupted when the run was complete: {run_dir}"
