"""How a run that is a process of its own ended: what it answered with `--json`, checked before it is believed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neulite_sim.errors import ScenarioError
from neulite_sim.outside import plain_json, printable, read_regular

KILLED, SILENT = "killed", "internal"

_LAST_WORD_S = 6.0
"""How long somebody else may take to speak for a process that Ray ended: the watcher has five seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildFailure:
    """Why a process failed: the kind of its error, all of its message, what to do, and further keys of the error.

    A process that died without an answer has kind `killed`, or `internal` where it ended by itself.
    """

    kind: str
    message: str
    hint: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def in_a_line(self) -> str:
        """The last problem of a scenario, the first line of any other message."""
        lines = self.message.splitlines() or [""]
        return lines[-1] if self.kind == ScenarioError.kind else lines[0]

    def to_json(self) -> dict[str, Any]:
        """Return it as the command line prints it under `error`."""
        return {"kind": self.kind, "message": self.message, "hint": self.hint, **self.details}


def child_failure(answer: Path, log: Path, exit_code: int, *, may_be_spoken_for: bool) -> ChildFailure:
    """Return why a process failed that has ended with an exit code that is not 0, below 0 for a signal.

    Args:
        answer: its standard output.
        log: its standard error, of which the last line is quoted where it gave no answer.
        exit_code: as `subprocess` has it.
        may_be_spoken_for: whether another process may still answer in its place.
    """
    if exit_code < 0:
        hint = "was it killed, or did the machine run out of memory? let fewer runs work at a time if so"
        return ChildFailure(kind=KILLED, message=f"killed by signal {-exit_code}", hint=hint)
    until_s = time.monotonic() + (_LAST_WORD_S if may_be_spoken_for else 0.0)
    while (found := _read(answer)) is None and time.monotonic() < until_s:
        time.sleep(0.1)
    if found is not None:
        return found
    said = _lines(log)
    return ChildFailure(kind=SILENT, message=said[-1] if said else f"exit code {exit_code}")


def _lines(path: Path) -> list[str]:
    try:
        text = read_regular(path).decode("utf-8", "replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]


def _read(answer: Path) -> ChildFailure | None:
    """Return the error in an answer; None where there is none, or something else."""
    said = _lines(answer)
    try:
        found = plain_json(said[-1]) if said else None
    except ValueError:
        return None
    error = found.get("error") if isinstance(found, dict) else None
    if not isinstance(error, dict):
        return None
    kind, message, hint = (error.pop(key, None) for key in ("kind", "message", "hint"))
    if not (isinstance(kind, str) and isinstance(message, str) and isinstance(hint, str)):
        return None
    return ChildFailure(kind=kind, message=printable(message), hint=printable(hint), details=error)
