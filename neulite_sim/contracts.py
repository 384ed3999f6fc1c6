"""Whose code something is, and what all conformance checks have in common: whatever goes wrong is an answer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neulite_sim.errors import NeuliteError


def is_own(value: object) -> bool:
    """Return whether a value is this project's own: an object of its classes, or one of its functions."""
    value = getattr(value, "func", value)
    module = getattr(value, "__module__", None) or type(value).__module__
    return str(module).partition(".")[0] == __package__


@contextlib.contextmanager
def held_to(contract: str) -> Iterator[None]:
    """Let a check end in an assertion that names the contract, also where a plug-in's answer cannot be looked at.

    Raises:
        AssertionError: in place of any error that is not this project's own.
    """
    try:
        yield
    except (AssertionError, NeuliteError):
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        raise AssertionError(
            f"{contract} is not kept: {type(error).__name__}{f': {said[:500]}' if said else ''}; it says what each "
            "call is given and must return"
        ) from error


def array_of(found: Any, law: str, what: str) -> NDArray[Any]:
    """Return what a plug-in returned as an array.

    Raises:
        AssertionError: it is none, with the law that asks for one and of what.
    """
    assert isinstance(found, np.ndarray), f"{law}: must be an array of {what}, is of type {type(found).__name__}"
    return found
