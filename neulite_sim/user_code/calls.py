"""Calls of a user's own functions and classes: by the names of their parameters, and with one sentence if they fail."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from neulite_sim.errors import NeuliteError, Problem, ScenarioError, close_matches
from neulite_sim.user_code.origins import in_a_line

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A value of a user's own: what it is called, where in the scenario it stands, and its options."""

    value: Any
    name: str
    key: str
    options: Mapping[str, Any] = field(default_factory=dict)
    generators: tuple[str, ...] | None = None
    """Where it holds generators of random numbers, as its fingerprint has it; None where none was taken."""

    def refused(self, message: str, hint: str = "", *, at: str = "") -> ScenarioError:
        """Return the error that says what is wrong with it, at its key or at one below."""
        key = ".".join(filter(None, (self.key, at)))
        if not hint:
            return ScenarioError([Problem(key=key, message=message)])
        return ScenarioError([Problem.advising(key=key, found=message, hint=hint)])

    def object_of(self, kind: type[T], supplied: Mapping[str, Any]) -> T | None:
        """Return the object of a kind that the value is, or that it makes as a class of it; None where it is neither.

        An object is copied: it may remember, and another run begins anew. Raises what `called` raises.
        """
        if isinstance(self.value, kind):
            return copy.deepcopy(self.value)
        if isinstance(self.value, type) and issubclass(self.value, kind):
            made: T = self.called(supplied)
            return made
        return None

    def object_like(
        self, is_one: Callable[[object], bool], supplied: Mapping[str, Any], *, what: str, hint: str
    ) -> Any:
        """Return the object that the value is, copied, or that its class or function makes.

        Raises:
            ScenarioError: what `called` raises, or what comes of it is no such object.
        """
        made = copy.deepcopy(self.value) if is_one(self.value) else None
        if made is None and callable(self.value):
            made = self.called(supplied)
        if not is_one(made):
            found = type(self.value if made is None else made).__name__
            raise self.refused(f"{self.name} is or makes {found}, which is no {what}", hint)
        return made

    def called(self, supplied: Mapping[str, Any]) -> Any:
        """Return what the value returns for its options and what it names of `supplied`.

        Raises:
            ScenarioError: an option is no parameter, a parameter has no value, or the call fails (with the line).
        """
        arguments = self._arguments(supplied)
        try:
            return self.value(**arguments)
        except NeuliteError:
            raise
        except Exception as error:
            raise self.refused(f"calling {self.name} fails: {in_a_line(error)}") from error

    def _arguments(self, supplied: Mapping[str, Any]) -> dict[str, Any]:
        try:
            parameters = dict(inspect.signature(self.value).parameters)
        except (TypeError, ValueError):
            return dict(self.options)
        filled = {name: value for name, value in supplied.items() if name in parameters}
        self._require(parameters, filled, supplied)
        return {**filled, **self.options}

    def _require(
        self,
        parameters: Mapping[str, inspect.Parameter],
        filled: Mapping[str, Any] = {},
        supplied: Mapping[str, Any] = {},
    ) -> None:
        """Refuse options that are no parameters, and parameters without a value."""
        takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        stars = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        named = {name: each for name, each in parameters.items() if each.kind not in stars}
        own = [name for name in named if name not in supplied]
        for name in self.options:
            if name not in named and not takes_all:
                takes = f"it takes {', '.join(own)}" if own else "it takes no options"
                raise self.refused(f"is no parameter of {self.name}{close_matches(name, own)} ({takes})",
                                   at=f"options.{name}")  # fmt: skip
        missing = [name for name, each in named.items()
                   if each.default is each.empty and name not in {*filled, *self.options}]  # fmt: skip
        if missing:
            it = "it as an option" if len(missing) == 1 else "them as options"
            others = f", or name what is there: {', '.join(supplied)}" if supplied else ""
            what = " and ".join(map(repr, missing))
            raise self.refused(f"{self.name} needs {what}, which nothing fills", f"give {it}{others}", at="options")

    def with_options(self, num_given: int) -> Callable[..., Any]:
        """Return a function that is called with `num_given` arguments by their places, with its options filled in.

        Raises:
            ScenarioError: an option is none of its other parameters, or one of these has no value.
        """
        try:
            parameters = list(inspect.signature(self.value).parameters.values())
        except (TypeError, ValueError):
            return functools.partial(self.value, **self.options)
        by_place = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
        takes_any = any(each.kind is each.VAR_POSITIONAL for each in parameters)
        if len(by_place) < num_given and not takes_any:
            raise self.refused(f"{self.name} takes {len(by_place)} arguments and is called with {num_given}")
        given = {each.name for each in by_place[:num_given]}
        others = {each.name: each for each in parameters if each.name not in given}
        self._require(others)
        return functools.partial(self.value, **self.options)

    @property
    def is_function(self) -> bool:
        """Whether it is to be called for what it returns, and is no class."""
        return callable(self.value) and not isinstance(self.value, type)
