"""Where the values of a scenario stand, kept with it: what shows only when parts are built has a line, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from neulite_sim.errors import ScenarioError
from neulite_sim.scenario.tree import Keys, Node, Place


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """The tree that a scenario was read from, None of one that was made from Python.

    All are equal, for what a scenario means does not depend on where it stands; and it stays on this machine.
    """

    tree: Node | None = None

    def without(self, name: str) -> Written:
        """Return it for a scenario one of whose sections is not what stands there."""
        if self.tree is None or not isinstance(self.tree.content, dict):
            return self
        return Written(Node({**self.tree.content, name: Node(None, Place())}, self.tree.place))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Written)

    def __hash__(self) -> int:
        return hash(Written)

    def __reduce__(self) -> tuple[type[Written], tuple[()]]:
        return Written, ()


class FromFile(Protocol):
    """A scenario, as far as it matters here."""

    @property
    def written(self) -> Written:
        """Where its values stand."""


def keys_of(key: str) -> Keys:
    """Return a dotted key as the path through a tree."""
    return tuple(int(part) if part.isdecimal() else part for part in key.split(".") if part)


@contextmanager
def naming_places(scenario: FromFile) -> Iterator[None]:
    """Add file and line to the problems of a ScenarioError that comes from within and names keys of the scenario."""
    try:
        yield
    except ScenarioError as error:
        tree = scenario.written.tree
        if tree is None or all(problem.file for problem in error.problems):
            raise
        placed = []
        for problem in error.problems:
            place = tree.nearest(keys_of(problem.key)).place
            is_new = not problem.file and problem.key
            placed.append(replace(problem, file=place.file, line=place.line) if is_new else problem)
        raise ScenarioError(placed) from error
