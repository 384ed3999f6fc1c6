"""Profiles that tests share: a submodel that was profiled before, by whatever test of this process, is not profiled again.

Runs in tests are so short that most of their time goes into profiling the same few submodels over and over. What a
profile depends on is its key, by value: the arguments of `profile`, and of the function that builds the trainee its
code and all that it has got hold of (method, blueprint, options). Whatever cannot be put into such a key is profiled
anew, and so is everything in tests that do not ask for the fixture `shared_profiles`. That profiles of equal things are
equal, without which none of this would be right, is a law of its own (test_profile_laws.py).
"""

from __future__ import annotations

import functools
import io
import pickle
from collections.abc import Callable
from types import CodeType, FunctionType, ModuleType
from typing import Any

from neulite_sim.profiling import profile as home
from neulite_sim.profiling.profile import Profile

plainly = home.profile


class Key(pickle.Pickler):
    """Writes values by what they hold, classes and code by which they are."""

    def __init__(self, file: io.BytesIO, known: dict[int, Any]) -> None:
        super().__init__(file)
        self.known = known
        # So that equal values give equal bytes, no matter which of them are one object.
        self.fast = True

    def persistent_id(self, value: Any) -> int | None:
        if isinstance(value, (type, CodeType, ModuleType)):
            # Kept, so that no other object ever gets its number.
            self.known[id(value)] = value
            return id(value)
        return None

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, FunctionType):
            return NotImplemented
        held = tuple(cell.cell_contents for cell in value.__closure__ or ())
        return tuple, ((value.__code__, held, value.__defaults__, value.__kwdefaults__),)


class Shared:
    """`profile`, which remembers while it `is_on`."""

    def __init__(self) -> None:
        self.is_on = False
        self.found: dict[bytes, Profile] = {}
        self.known: dict[int, Any] = {}

    def __call__(self, submodel: str, build: Callable[[], Any], **how: Any) -> Profile:
        key = self.key(submodel, build, how) if self.is_on else None
        if key is None:
            return plainly(submodel, build, **how)
        if key not in self.found:
            self.found[key] = plainly(submodel, build, **how)
        return self.found[key]

    def key(self, *given: Any) -> bytes | None:
        """Return what a profile depends on, as bytes; None where that cannot be said."""
        written = io.BytesIO()
        try:
            Key(written, self.known).dump(given)
        except (pickle.PicklingError, TypeError, ValueError, AttributeError, RecursionError):
            return None
        return written.getvalue()


SHARED = Shared()


@functools.wraps(plainly)
def profile(submodel: str, build: Callable[[], Any], **how: Any) -> Profile:
    return SHARED(submodel, build, **how)


# Before anybody imports it by its name.
home.profile = profile
