"""What a command prints with `--json`: one object on standard output, at its end, however it ends.

A command hands its answer over with `answer`; where it fails, the object has the key `error` as well. Until then
whatever is printed on standard output, by whichever library, goes to standard error.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from neulite_sim.stopping import heed_no_more

_WRITTEN_AS_IT_IS = ("utf-8", "utf8")


class Answer:
    """The object of one command: what it holds so far, and whether it was asked for."""

    def __init__(self, *, may_be_asked: bool = False) -> None:
        self.is_asked = False
        self._is_read = False
        self._may_be_asked = may_be_asked
        self._content: dict[str, Any] = {}
        self._indent: int | None = None
        self._is_ascii = False
        self._stack = contextlib.ExitStack()

    def read(self, *, is_asked: bool) -> None:
        """Take note whether the object is wanted; from then on standard output is its own."""
        self._is_read = True
        if is_asked and not self.is_asked:
            self.is_asked = True
            self._stack.enter_context(contextlib.redirect_stdout(sys.stderr))

    def hold(self, content: Mapping[str, Any], *, indent: int | None, is_ascii: bool) -> None:
        """Take what the object holds, in the place of what it held."""
        self._content, self._indent, self._is_ascii = dict(content), indent, is_ascii

    def abandon(self) -> None:
        """Give standard output back, without an object."""
        self._stack.close()

    def finish(self, error: Mapping[str, Any] | None = None) -> None:
        """Print the object, with the error if there is one; nothing where none was asked for.

        An error may keep a command from reading its options; then it counts whether one of them looks like `--json`.
        """
        self._stack.close()
        if not (self.is_asked if self._is_read or error is None else self._may_be_asked):
            return
        content = self._content if error is None else {**self._content, "error": error}
        heed_no_more()
        _write(content, indent=self._indent, is_ascii=self._is_ascii)


def _write(content: Mapping[str, Any], *, indent: int | None = None, is_ascii: bool = True) -> None:
    is_ascii = is_ascii or (getattr(sys.stdout, "encoding", None) or "").lower() not in _WRITTEN_AS_IT_IS
    text = json.dumps(content, indent=indent, ensure_ascii=is_ascii) + "\n"
    # Half a character of a file's name becomes the escape that JSON has for it.
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode("utf-8"))
    sys.stdout.flush()


_ANSWER: ContextVar[Answer | None] = ContextVar("answer", default=None)


@contextlib.contextmanager
def answering(given: Answer) -> Iterator[Answer]:
    """Make an answer that of the command inside."""
    token = _ANSWER.set(given)
    try:
        yield given
    finally:
        _ANSWER.reset(token)


def answer(content: Mapping[str, Any], *, indent: int | None = 2, is_ascii: bool = False) -> None:
    """Have the command print this as its object when it ends; at once where it was called as a function."""
    given = _ANSWER.get()
    if given is None:
        _write(content, indent=indent, is_ascii=is_ascii)
    else:
        given.hold(content, indent=indent, is_ascii=is_ascii)


def command_line() -> str:
    """Return the command as it was typed, to type it again."""
    return shlex.join(["neulite-sim", *sys.argv[1:]])


def wants_json() -> bool:
    """Whether the command at work was asked for an object."""
    given = _ANSWER.get()
    return given is not None and given.is_asked


def ask_for_json(is_asked: bool) -> bool:
    """Take the option `--json` when it is read: its callback."""
    if (given := _ANSWER.get()) is not None:
        given.read(is_asked=is_asked)
    return is_asked
