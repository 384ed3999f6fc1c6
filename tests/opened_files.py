"""Which files this process opens, whoever opens them: from the audit events of Python itself (PEP 578)."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_WATCHES: list[set[str]] = []


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _WATCHES and isinstance(arguments[0], str | bytes | os.PathLike):
        for watch in _WATCHES:
            watch.add(os.path.abspath(os.fsdecode(arguments[0])))


# An audit hook stays for the life of a process; it does nothing while nobody watches.
sys.addaudithook(_note)


@contextlib.contextmanager
def opened_below(folder: Path) -> Iterator[set[str]]:
    """Yield the files below a folder that are opened inside, by their paths from there."""
    watch: set[str] = set()
    found: set[str] = set()
    _WATCHES.append(watch)
    try:
        yield found
    finally:
        _WATCHES.remove(watch)
        own = str(folder.resolve())
        found |= {os.path.relpath(os.path.realpath(path), own) for path in watch
                  if os.path.realpath(path).startswith(own + os.sep) and os.path.isfile(path)}  # fmt: skip
