"""Where a scenario comes from: a file, plain values, or a scenario that is there already; and settings laid on it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from neulite_sim.arguments import ArgumentError, texts_of
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.scenario.loading import SET_OPTION, Check, Replacing, load_scenario, parse_scenario
from neulite_sim.scenario.schema import Scenario

AnyScenario = str | os.PathLike[str] | Mapping[str, Any] | Scenario
"""A path, a mapping of plain values as a scenario file has them, or a scenario."""
Settings = Mapping[str, Any] | Sequence[str]
"""Dotted keys with plain values, or `key=value` texts as `--set` takes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """A scenario with components in the place of its own; `held` lives as long as somebody asks for the scenario."""

    scenario: AnyScenario
    replacing: tuple[Replacing, ...]
    held: tuple[object, ...] = ()


Source = AnyScenario | Replaced


def scenario_from(
    source: Source, overrides: Settings = (), *, seed: int | None = None, checks: Sequence[Check] = ()
) -> Scenario:
    """Return the scenario of a source, with settings laid on it, as `load_scenario` does for a file.

    Raises:
        ScenarioError: with every problem found; or the source is none.
    """
    texts = setting_texts(overrides)
    given: object = source.scenario if isinstance(source, Replaced) else source
    replacing = source.replacing if isinstance(source, Replaced) else ()
    if isinstance(given, Scenario):
        if not (texts or replacing or checks) and seed is None:
            return given
        given = given.dump()
    if isinstance(given, Mapping):
        return parse_scenario(given, texts, seed=seed, checks=checks, replacing=replacing)
    if is_path(given):
        return load_scenario(given, texts, seed=seed, checks=checks, replacing=replacing)
    found = f"a scenario is wanted, found {type(given).__name__}"
    hint = "give a Scenario, the path of its file, or a mapping of plain values"
    raise ScenarioError([Problem.advising(key="", found=found, hint=hint)])


def is_path(source: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether a source is the path of a file."""
    return isinstance(source, str | os.PathLike)


def setting_texts(settings: Settings) -> list[str]:
    """Return settings as `--set` takes them.

    Raises:
        ScenarioError: a value is none that a scenario could hold.
        TypeError: one text, where a list of them is meant.
    """
    if isinstance(settings, str):
        raise ArgumentError(f"overrides are a list of key=value texts or a mapping, not one text: [{settings!r}]")
    if isinstance(settings, Mapping):
        return [f"{key}={value_text(str(key), value)}" for key, value in settings.items()]
    return texts_of("overrides", settings, "a mapping of keys to values, or a list of key=value texts")


def value_text(key: str, value: Any) -> str:
    """Return a plain value as a text that YAML reads back as the same; numbers of NumPy and paths count as plain.

    Raises:
        ScenarioError: it is no plain value; said of `key`.
    """
    try:
        return json.dumps(value, ensure_ascii=False, default=_plain)
    except (TypeError, ValueError):
        finding = f"{type(value).__name__} is no plain value"
        hint = "give texts, numbers, true or false, lists and mappings of them"
        raise ScenarioError([Problem.advising(key=key, found=finding, hint=hint, file=SET_OPTION)]) from None


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.tolist() if hasattr(value, "tolist") else _refuse(value)


def _refuse(value: Any) -> Any:
    raise TypeError(type(value).__name__)
