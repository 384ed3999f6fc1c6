"""Values given from Python, as a scenario names them: by what they are called and by their fingerprint.

A scenario holds what it was given; one that is made anew from its plain values finds it as long as another one, or
whoever offered it, still does. No other process has it.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from weakref import ref

from pydantic import Field, PrivateAttr

from neulite_sim.registry import Options
from neulite_sim.user_code.calls import Found
from neulite_sim.user_code.files import loaded_modules

MOST_NAME = 200
_ARGUMENTS = {"selection": "selector"}
"""What the argument is called where the key has another name."""


@dataclass(frozen=True, eq=False)
class Holder:
    """A value given from Python for a field of the scenario."""

    field: str
    name: str
    sha256: str
    value: Any
    modules: frozenset[str] = frozenset()
    """Whose code of a user's own it leads to."""
    generators: tuple[str, ...] = ()
    """Where it holds generators of random numbers."""


_HELD: dict[int, ref[Holder]] = {}
"""By the order in which they were given, as long as they live."""
_NUMBERS = itertools.count()


def held(holder: Holder) -> Holder:
    """Return the holder by which scenarios find a value from now on, before those of equal values given earlier.

    Equal code may enclose other objects: a list in which it collects, say. Those of the last call are meant.
    """
    number = next(_NUMBERS)

    def forget(_: object, known: dict[int, ref[Holder]] = _HELD) -> None:
        known.pop(number, None)

    _HELD[number] = ref(holder, forget)
    return holder


def _all_held() -> list[Holder]:
    """Return what is held, the newest first."""
    # Copied at once: other threads are given something, or let go of it, meanwhile.
    found = (reference() for _, reference in sorted(_HELD.copy().items(), reverse=True, key=lambda item: item[0]))
    return [holder for holder in found if holder is not None]


def modules_that_travel() -> tuple[ModuleType, ...]:
    """Return the modules of users' own that other processes may not find: their code is sent with what it made."""
    names = sorted({name for holder in _all_held() for name in holder.modules} - {"__main__"})
    given = (sys.modules[name] for name in names if name in sys.modules)
    return tuple(dict.fromkeys((*loaded_modules(), *given)))


class Given(Options):
    """Options of `given`: what stands for a value that was given from Python."""

    name: str = Field(max_length=MOST_NAME)
    """What the value is called in its own code."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Fingerprint of its code and data."""
    options: Mapping[str, Any] = {}
    """What a function or class is called with, by the names of its parameters."""

    _holders: dict[str, Holder] = PrivateAttr(default_factory=dict)

    def model_post_init(self, context: Any, /) -> None:
        """Hold what is known by this fingerprint, so that it stays known."""
        super().model_post_init(context)
        for holder in _all_held():
            if holder.sha256 == self.sha256:
                self._holders.setdefault(holder.field, holder)

    @property
    def holders(self) -> tuple[Holder, ...]:
        """The values that it holds."""
        return tuple(self._holders.values())

    def found(self, field: str) -> Found:
        """Return the value.

        Raises:
            ScenarioError: this process was not given it.
        """
        here = [holder for holder in _all_held() if holder.field == field]
        holder = self._holders.get(field) or next((each for each in here if each.sha256 == self.sha256), None)
        found = Found(
            value=getattr(holder, "value", None),
            name=self.name,
            key=field,
            options=self.options,
            generators=getattr(holder, "generators", None),
        )
        if holder is None:
            others = [other.name for other in here if other.name == self.name]
            what = f"what is called {self.name} now is something else" if others else f"{self.name} is not here"
            argument = _ARGUMENTS.get(field, field.rpartition(".")[2])
            raise found.refused(
                f"was given from Python, and {what} (fingerprint {self.sha256[:12]})",
                f"give the same again, with neulite_sim.simulate(..., {argument}=...), or neulite_sim.resume(RUN_DIR, "
                f"{argument}=...)",
            )
        return found
