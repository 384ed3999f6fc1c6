"""Every exception a user can meet, as one tree.

    NeuliteError
    ├── ScenarioError              the scenario is wrong; holds every problem found at once
    ├── UnknownComponentError      a name that no registered component carries
    ├── DataNotFoundError          a dataset or trace is not where the scenario says
    │   └── NotResumableError      what a run left behind is damaged, or belongs to another run
    ├── AppError                   a Flower app is not what it should be, or cannot be loaded
    ├── InfeasibleError            the set-up is valid but nothing can ever happen in it
    ├── OutputError                results cannot be written where they should go
    ├── BackendUnavailableError    the chosen backend cannot start on this machine
    └── SimulationError            the run itself failed
        ├── BackendLostError       what the backend runs on went away in the middle of the run
        └── RunsFailedError        some runs of a sweep or a study failed

The command line answers the last three with exit code 1, the others with 2 (the input is wrong). With `--json` it
prints each as an object, of which `kind` is the stable word for scripts.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self


class NeuliteError(Exception):
    """Any other error of this package.

    `what` is what was found, `hint` what to do about it, empty where that is not known apart from the rest; the text of
    the error is both, with a semicolon between them.
    """

    exit_code = 2
    kind: ClassVar[str] = "error"
    hint: str = ""

    def __init__(self, *parts: object, hint: str = "") -> None:
        if hint:
            parts = (f"{parts[0]}; {hint}", *parts[1:])
            self.hint = hint
        super().__init__(*parts)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:
        # An error may come from another process, and no subclass has to take its text as its only argument.
        return _same_error, (type(self), self.args), vars(self)

    @property
    def what(self) -> str:
        """The text without what to do."""
        return str(self).removesuffix(f"; {self.hint}") if self.hint else str(self)

    def details(self) -> Mapping[str, Any]:
        """Return what an error of this kind tells in JSON beside kind, message and hint."""
        return {}


def _same_error(kind: type[NeuliteError], parts: tuple[Any, ...]) -> NeuliteError:
    error = kind.__new__(kind)
    error.args = parts
    return error


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong in a scenario: where it stands, what was found and what is allowed.

    `hint` repeats the part of the message that says what to do, where that is known apart from the rest.
    """

    key: str
    message: str
    file: str | None = None
    line: int | None = None
    hint: str = ""

    @classmethod
    def advising(cls, *, key: str, found: str, hint: str, file: str | None = None, line: int | None = None) -> Self:
        """Return a problem whose message says what was found and what to do."""
        return cls(key=key, message=f"{found}; {hint}", file=file, line=line, hint=hint)

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        key = self.key if self.key.isprintable() else self.key.encode("unicode_escape").decode()
        return f"{where}{key}: {self.message}" if key else f"{where}{self.message}"

    def to_json(self) -> dict[str, Any]:
        """Return it for scripts: `key`, `message`, and `file` and `line` where they are known."""
        return {"key": self.key, "message": self.message, "file": self.file, "line": self.line}


class ScenarioError(NeuliteError):
    """The scenario or an option is wrong. `problems` holds all that was found, in the order of the file."""

    kind = "scenario"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))
        self.hint = "\n".join(dict.fromkeys(problem.hint for problem in self.problems if problem.hint))

    @property
    def what(self) -> str:
        """The problems without what to do."""
        return "\n".join(
            str(problem).removesuffix(f"; {problem.hint}") if problem.hint else str(problem)
            for problem in self.problems
        )

    def details(self) -> Mapping[str, Any]:
        """Return the problems, each with its place."""
        return {"problems": [problem.to_json() for problem in self.problems]}


class UnknownComponentError(NeuliteError):
    """A name that no registered component carries."""

    kind = "unknown-component"


class DataNotFoundError(NeuliteError):
    """A dataset, a trace or a run is not where it should be, or cannot be read."""

    kind = "data-not-found"


class NotResumableError(DataNotFoundError):
    """What a run left behind is damaged or belongs to another run, and cannot be resumed.

    `because` is what that shows, such as "it was cut"; the text ends with it and its consequence.
    """

    kind = "not-resumable"

    def __init__(self, found: str, *, because: str = "") -> None:
        reason = f"{because}, and " if because else ""
        super().__init__(f"{found}; {reason}the run cannot be resumed")
        self._found = found

    @property
    def what(self) -> str:
        """What was found, without its consequence."""
        return self._found

    def details(self) -> Mapping[str, Any]:
        """Return what was found, without its consequence."""
        return {"what": self.what}


class AppError(NeuliteError):
    """A Flower app is not what it should be, or cannot be loaded."""

    kind = "app"


class InfeasibleError(NeuliteError):
    """The set-up is valid, but no device can ever take part in it."""

    kind = "infeasible"


class OutputError(NeuliteError):
    """Results cannot be written where they should go, or something else stands there."""

    kind = "output"


class BackendUnavailableError(NeuliteError):
    """The chosen backend cannot start on this machine."""

    kind = "backend-unavailable"
    exit_code = 1


class SimulationError(NeuliteError):
    """The run itself failed."""

    kind = "simulation"
    exit_code = 1


class BackendLostError(SimulationError):
    """What the backend runs on went away in the middle of the run, which can be resumed."""

    kind = "backend-lost"


class RunsFailedError(SimulationError):
    """Some of the runs of a sweep or a study failed; `runs` says which and why.

    Each item of `runs` has `run` and what that run answered: `kind`, `message` and `hint`. `result` is what came out of
    the others.
    """

    kind = "runs-failed"

    def __init__(
        self, message: str, *, hint: str = "", runs: Sequence[Mapping[str, Any]] = (), result: object = None
    ) -> None:
        super().__init__(message)
        self.hint, self.runs, self.result = hint, tuple(runs), result
        for run in self.runs:
            self.add_note(f"{run.get('run')}: {run.get('message', '')}")

    def details(self) -> Mapping[str, Any]:
        """Return the runs that failed, each with its error."""
        return {"runs": list(self.runs)}


def kinds() -> dict[str, tuple[int, str]]:
    """Return the kinds of errors of this file, in the order of the tree, with their exit code and their meaning."""
    found: dict[str, tuple[int, str]] = {}
    waiting: list[type[NeuliteError]] = [NeuliteError]
    while waiting:
        error = waiting.pop(0)
        waiting = [sub for sub in error.__subclasses__() if sub.__module__ == __name__] + waiting
        found[error.kind] = (error.exit_code, (error.__doc__ or "").partition("\n")[0].partition(". `")[0].rstrip("."))
    found[NeuliteError.kind] = found.pop(NeuliteError.kind)
    return found


_LONGEST_NAME = 200


def close_matches(name: str, choices: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the choices near `name`, or an empty string."""
    if len(name) > _LONGEST_NAME:
        return ""
    # What differs in capitals only is the nearest of all.
    small = {choice.lower(): choice for choice in choices}
    near = [small[choice] for choice in difflib.get_close_matches(name.lower(), list(small), n=2, cutoff=0.6)]
    return f"; did you mean {' or '.join(repr(choice) for choice in near)}?" if near else ""
