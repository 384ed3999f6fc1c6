"""Code of users' own that holds a generator of random numbers: nobody seeds that for a call, so its draws are told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from neulite_sim.registry import PYTHON
from neulite_sim.scenario.schema import Scenario
from neulite_sim.user_code.files import from_file
from neulite_sim.user_code.fingerprint import NotTrackedError, fingerprint
from neulite_sim.user_code.holding import Given

_FIELDS = ("method", "selection", "protocol")
"""What is at work in every round; a model that holds one is refused, and data and fleet are drawn once."""


def generator_notices(scenario: Scenario) -> list[str]:
    """Return a sentence for each of a user's values that holds a generator of random numbers, and where."""
    return [
        f"{field} {name} holds a generator of random numbers{f' ({ways[0]})' if ways[0] else ''}, which no run seeds: "
        "equal runs and a resumed one may draw others; draw from Python's, NumPy's or PyTorch's own, which are seeded "
        "for each call"
        for field, name, ways in _held(scenario)
        if ways
    ]


def _held(scenario: Scenario) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for field in _FIELDS:
        choice = getattr(scenario, field)
        options: Any = choice.options
        if isinstance(options, Given):
            for holder in options.holders:
                yield field, holder.name, holder.generators
        elif choice.kind == PYTHON:
            try:
                found = fingerprint(from_file(options.path, options.name, key=field)).generators
            except (NotTrackedError, RecursionError):
                continue
            yield field, options.name, found
