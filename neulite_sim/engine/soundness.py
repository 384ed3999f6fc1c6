"""Whose numbers are not finite: those of a method that is not this project's are told from a training that diverged.

A method that makes NaN of good updates is refused before devices are sent anything of it; they would learn nothing from
it, and their training would be blamed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor

from neulite_sim.contracts import is_own
from neulite_sim.engine.parts import Costing
from neulite_sim.errors import SimulationError
from neulite_sim.methods.contract import State, Update
from neulite_sim.methods.finite import unsound
from neulite_sim.user_code.origins import place_of

_HINT = "look at what it divides by, or draws; guides/write_a_method.md says what each function returns"


class Soundness:
    """Follows a method from state to state, as long as all numbers are finite; nobody asks it of built-in ones."""

    def __init__(self, costing: Costing, states: Iterable[State]) -> None:
        kind = type(costing.method)
        self._name = costing.scenario.method.label + ("" if is_own(kind) else place_of(kind))
        self._payloads: set[tuple[int, str]] = set()
        self._has_diverged = False
        self._is_sound = all(unsound(state.tensors) is None for state in states)

    def seen(self, updates: Iterable[Update]) -> Iterator[Update]:
        """Yield updates, and note whether one of them has numbers that are not finite."""
        for update in updates:
            self._has_diverged = self._has_diverged or unsound(update.tensors) is not None
            yield update

    def check_state(self, state: State, round_number: int) -> None:
        """Go on to the state after a digest.

        Raises:
            SimulationError: it has numbers that are not finite, and what it was made of had none.
        """
        name, is_new = unsound(state.tensors), self._is_sound and not self._has_diverged
        self._is_sound, self._has_diverged = name is None, False
        if name is not None and is_new:
            made = f"made numbers that are not finite of updates that were, first in {name!r}"
            raise SimulationError(f"round {round_number}: method {self._name} {made} (digest)", hint=_HINT)

    def check_payload(self, payload: Mapping[str, Tensor], version: int, submodel: str, round_number: int) -> None:
        """Look at what devices are sent of a version, once for each submodel.

        Raises:
            SimulationError: it has numbers that are not finite, and the state of the method has none.
        """
        if (version, submodel) in self._payloads:
            return
        self._payloads.add((version, submodel))
        if self._is_sound and (name := unsound(payload)) is not None:
            made = f"sends numbers that are not finite for {submodel}, first in {name!r}"
            raise SimulationError(f"round {round_number}: method {self._name} {made} (payload)", hint=_HINT)


def soundness(costing: Costing, states: Iterable[State]) -> Soundness | None:
    """Return what follows a method's numbers from the states that devices are sent.

    None for this project's own methods, which are tested to make none that are not finite.
    """
    is_brought = costing.scenario.method.is_brought or not is_own(type(costing.method))
    return Soundness(costing, states) if is_brought else None
