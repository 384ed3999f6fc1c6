"""What functions are called with from Python, looked at before anything is made of it."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from neulite_sim.errors import NeuliteError

_LONGEST_PART = 255
"""Bytes of a name that file systems take."""


class ArgumentError(NeuliteError, TypeError):
    """A function is called with what it does not take."""


def wrong(argument: str, given: object, wanted: str) -> ArgumentError:
    """Return the refusal of an argument: its name, its value, and what is taken."""
    return ArgumentError(f"{argument} is {reprlib.repr(given)}, of type {type(given).__name__}", hint=f"give {wanted}")


def path_of(argument: str, given: Any, wanted: str = "a path, as text or pathlib.Path") -> Path:
    """Return a path that was given.

    Raises:
        ArgumentError: it is none, or no file can have such a name.
    """
    found = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(found, str) or "\0" in found:
        raise wrong(argument, given, wanted)
    if any(len(os.fsencode(part)) > _LONGEST_PART for part in Path(found).parts):
        raise wrong(argument, given, f"{wanted} whose names have at most {_LONGEST_PART} bytes")
    return Path(found)


def listed(argument: str, given: Any, wanted: str) -> list[Any]:
    """Return what a list or another iterable holds; a text, a mapping or a class is none.

    Raises:
        ArgumentError: it is no iterable.
    """
    if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping | type):
        raise wrong(argument, given, wanted)
    return list(given)


def texts_of(argument: str, given: Any, wanted: str) -> list[str]:
    """Return a list of texts.

    Raises:
        ArgumentError: it is none.
    """
    found = listed(argument, given, wanted)
    for each in found:
        if not isinstance(each, str):
            raise wrong(f"an item of {argument}", each, wanted)
    return found


def observers_of(given: Any) -> tuple[Any, ...]:
    """Return observers, each an object that can be told.

    Raises:
        ArgumentError: there is no list of them, or one of them has no method `notify`.
    """
    wanted = "a list of objects with a method notify(event)"
    found = listed("observers", given, wanted)
    for each in found:
        if isinstance(each, type) or not callable(getattr(each, "notify", None)):
            raise wrong("an item of observers", each, wanted)
    return tuple(found)
