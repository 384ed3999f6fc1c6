"""How the command line fails: a readable message on standard error and the exit code of interface and errors.

With `--json` the same stands in the object on standard output, under `error`.
"""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from neulite_sim.cli.answers import Answer, answering
from neulite_sim.errors import NeuliteError, ScenarioError
from neulite_sim.stopping import EXIT_CODE, INTERRUPTED

UNFORESEEN = 1
USAGE, INTERNAL, NO_MEMORY, KILLED = "usage", "internal", "out-of-memory", "killed"
USERS_CODE = "user-code"

# The kinds of failures that no class of `errors` stands for: exit code, meaning.
OWN_KINDS: Mapping[str, tuple[int, str]] = {
    USAGE: (2, "The command line is wrong: an unknown command or option, a missing argument, a value of no use"),
    INTERRUPTED: (EXIT_CODE, "It was interrupted with Ctrl-C, or asked to stop by another signal"),
    KILLED: (UNFORESEEN, "The process of a run was ended without a word, by the system or by Ray"),
    NO_MEMORY: (UNFORESEEN, "The memory of this machine does not hold what was asked for"),
    USERS_CODE: (UNFORESEEN, "A Python file that the scenario names (`kind: python`) failed; says in which line"),
    INTERNAL: (UNFORESEEN, "Nobody foresaw this: a mistake of neulite-sim or of a plug-in"),
}

_ASK_FOR_LESS = "ask for less (population.devices, samples, image sizes, batch sizes), or free memory"
_MEND = "mend the file that the scenario names"
_REPORT = (
    "please report it to its authors, with the scenario and the traceback that --debug shows (neulite-sim --debug "
    "COMMAND ...)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a command failed, as scripts read it. `details` are further keys of the object."""

    kind: str
    message: str
    hint: str = ""
    exit_code: int
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the object under `error`."""
        return {"kind": self.kind, "message": self.message, "hint": self.hint, **self.details}


class Failed(typer.Exit):
    """Ends a command that has said on standard error why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.exit_code)
        self.failure = failure


def failure_of(error: NeuliteError, *, hint: str = "") -> Failure:
    """Return an error for scripts; `hint` where the error has none."""
    return Failure(
        kind=error.kind,
        message=str(error),
        hint=error.hint or hint,
        exit_code=error.exit_code,
        details=error.details(),
    )


def message_of(error: NeuliteError) -> str:
    """Return what a user reads about an error: one sentence, or one problem a line as compilers print them."""
    if not isinstance(error, ScenarioError):
        return f"error: {error}"
    return f"{error}\nerror: {len(error.problems)} problems found" if len(error.problems) > 1 else str(error)


# What Typer raises to end a command by itself; its base has moved between versions.
_WRONG_USAGE: tuple[type[BaseException], ...] = tuple(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)
_ENDINGS: tuple[type[BaseException], ...] = (typer.Exit, typer.Abort, *_WRONG_USAGE)


def words_for(error: Exception) -> str:
    """Return what a user reads about an error that nobody foresaw: what, where in this program, and what to do."""
    return f"error: {_unforeseen(error).message}"


def _unforeseen(error: BaseException) -> Failure:
    if isinstance(error, MemoryError):
        message = f"this machine's memory does not hold what was asked for; {_ASK_FOR_LESS}. --debug before the " \
                  "command shows where"  # fmt: skip
        return Failure(kind=NO_MEMORY, message=message, hint=_ASK_FOR_LESS, exit_code=UNFORESEEN)
    what = " ".join(str(error).split())
    what = f"{type(error).__name__}{f': {what[:300]}' if what else ''}"
    from neulite_sim import registry
    from neulite_sim.user_code.files import line_in_files

    if line := line_in_files(error):
        message = f"{line}: {what}; {_MEND}"
        return Failure(kind=USERS_CODE, message=message, hint=_MEND, exit_code=UNFORESEEN)

    packages = {"neulite_sim", *registry.plug_ins()}
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__)
        if packages & {*Path(frame.filename).parts, Path(frame.filename).stem}
    ]  # fmt: skip
    where = f", in {os.path.basename(frames[-1].filename)} line {frames[-1].lineno}" if frames else ""
    message = f"{what}{where}. This is a mistake of neulite-sim or of a plug-in: {_REPORT}"
    return Failure(kind=INTERNAL, message=message, hint=_REPORT, exit_code=UNFORESEEN)


def _usage(error: Any) -> Failure:
    command = getattr(getattr(error, "ctx", None), "command_path", "neulite-sim")
    return Failure(
        kind=USAGE, message=error.format_message(), hint=f"see {command} --help",
        exit_code=error.exit_code,
    )  # fmt: skip


def interruption(message: str, *, hint: str = "") -> Failure:
    """Return what scripts read where a command was asked to stop."""
    return Failure(kind=INTERRUPTED, message=message, hint=hint, exit_code=EXIT_CODE)


def _ended(error: BaseException) -> Failure | None:
    """Return why a command failed that ended itself; None where it did not fail."""
    if isinstance(error, Failed):
        return error.failure
    if isinstance(error, _WRONG_USAGE):
        return _usage(error)
    code = getattr(error, "exit_code", UNFORESEEN)
    return Failure(kind=INTERNAL, message=f"ended with exit code {code}", exit_code=code) if code else None


@contextmanager
def answered(*, debug: bool = False, may_be_json: bool = False, is_whole: bool = True) -> Iterator[None]:
    """Turn an exception, or Ctrl-C, into a message on standard error and an exit code.

    With `--json` the answer of the command is printed at the end, and why it failed in it. With `debug`, what nobody
    foresaw passes through with its traceback. `may_be_json`: whether `--json` stands somewhere in the command line;
    `is_whole`: whether a command that comes to its end inside has no more to do.

    Raises:
        typer.Exit: with the exit code of the error's class, 1 for what is none of ours, or 130 after Ctrl-C.
    """
    with answering(Answer(may_be_asked=may_be_json)) as answer:
        try:
            yield
        except BaseException as error:
            failure = _told(error, debug=debug)
            if failure is not None:
                answer.finish(failure.to_json())
            else:
                answer.abandon()
            if failure is None or isinstance(error, _ENDINGS) or _passes(error, debug=debug):
                raise
            raise typer.Exit(failure.exit_code) from None
        if is_whole:
            answer.finish()


def _passes(error: BaseException, *, debug: bool) -> bool:
    """Whether an error is left to Typer or to Python: a pipe that nobody reads any more, what ends the interpreter."""
    if isinstance(error, NeuliteError | KeyboardInterrupt):
        return False
    is_closed_pipe = isinstance(error, OSError) and error.errno == errno.EPIPE
    return debug or is_closed_pipe or not isinstance(error, Exception)


def _told(error: BaseException, *, debug: bool) -> Failure | None:
    """Say on standard error why a command failed, where nobody has yet, and return it; None where it did not."""
    if isinstance(error, _ENDINGS):
        return _ended(error)
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        return None
    if isinstance(error, NeuliteError):
        typer.echo(message_of(error), err=True)
        return failure_of(error)
    if isinstance(error, KeyboardInterrupt):
        typer.echo("interrupted", err=True)
        return interruption("interrupted")
    if isinstance(error, SystemExit) and not error.code:
        return None
    failure = _unforeseen(error)
    if not _passes(error, debug=debug):
        typer.echo(f"error: {failure.message}", err=True)
    return failure
