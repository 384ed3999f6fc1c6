"""Every exception a user can meet, as one tree.

    NeuliteError
    ├── ScenarioError              the scenario is wrong; holds every problem found at once
    ├── UnknownComponentError      a name that no registered component carries
    ├── DataNotFoundError          a dataset or trace is not where the scenario says
    ├── InfeasibleError            the set-up is valid but nothing can ever happen in it
    ├── OutputError                results cannot be written where they should go
    ├── BackendUnavailableError    the chosen backend cannot start on this machine
    └── SimulationError            the run itself failed
        └── BackendLostError       what the backend runs on went away in the middle of the run

The command line answers the first five with exit code 2 (the input is wrong) and the last two with 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class NeuliteError(Exception):
    """Base of every error this package raises for its users."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong in a scenario: where it stands, what was found and what is allowed."""

    key: str
    message: str
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        key = self.key if self.key.isprintable() else self.key.encode("unicode_escape").decode()
        return f"{where}{key}: {self.message}" if key else f"{where}{self.message}"


class ScenarioError(NeuliteError):
    """The scenario is wrong. `problems` holds all that was found, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UnknownComponentError(NeuliteError):
    """A name that no registered component carries."""


class DataNotFoundError(NeuliteError):
    """A dataset or a trace is not where the scenario says."""


class InfeasibleError(NeuliteError):
    """The set-up is valid, but no device can ever take part in it."""


class OutputError(NeuliteError):
    """Results cannot be written where they should go."""


class BackendUnavailableError(NeuliteError):
    """The chosen backend cannot start on this machine."""

    exit_code = 1


class SimulationError(NeuliteError):
    """The run itself failed."""

    exit_code = 1


class BackendLostError(SimulationError):
    """What the backend runs on went away in the middle of the run, which can be resumed."""


_LONGEST_NAME = 200


def close_matches(name: str, choices: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the choices near `name`, or an empty string."""
    if len(name) > _LONGEST_NAME:
        return ""
    near = difflib.get_close_matches(name, list(choices), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(choice) for choice in near)}?" if near else ""
