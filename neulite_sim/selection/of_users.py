"""A selector of a user's own: a class, an object, or the function that chooses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neulite_sim.errors import SimulationError
from neulite_sim.methods.contract import Offers
from neulite_sim.selection.contract import Selector, SelectorOptions, SelectorSetting
from neulite_sim.user_code.calls import Found
from neulite_sim.user_code.components import given, python
from neulite_sim.user_code.origins import in_a_line


class Choosing(Selector):
    """A selector that remembers nothing: each choice is that of a function."""

    def __init__(self, choose: Callable[..., Any], name: str) -> None:
        self._choose = choose
        self.name = name

    def choose(self, offers: Offers, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the positions that the function returns, ascending."""
        try:
            made = self._choose(offers, count, rng)
            chosen = np.asarray(made)
        except Exception as error:
            raise SimulationError(f"selection {self.name} fails: {in_a_line(error)}") from error
        if chosen.ndim == 0:
            what = "nothing" if made is None else f"one {type(made).__name__}"
            wish = f"it must return a list or an array of positions from 0 to {len(offers) - 1}"
            raise SimulationError(f"selection {self.name} returned {what}; {wish}")
        if chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer):
            # What is wrong with it is said where every choice is checked.
            return chosen
        return np.sort(chosen).astype(np.int64)


def selector_of(found: Found, options: SelectorOptions, setting: SelectorSetting) -> Selector:
    """Return the selector that a user's value is or makes.

    Raises:
        ScenarioError: it is neither a selector, nor a class of one, nor a function.
    """
    supplied = {"setting": setting, "options": options, "num_devices": setting.num_devices,
                "max_rounds": setting.max_rounds, "devices_per_round": options.devices_per_round}  # fmt: skip
    if (made := found.object_of(Selector, supplied)) is not None:
        return made
    if found.is_function:
        return Choosing(found.with_options(3), found.name)
    raise found.refused(
        f"{found.name} is {type(found.value).__name__}, which is no selector",
        "give a function choose(offers, count, rng) that returns positions of offers, or a class that derives from "
        "neulite_sim.selection.contract.Selector",
    )


PYTHON = python(
    "selection", "a selector of your own: a function that chooses, or a class", SelectorOptions, selector_of
)
GIVEN = given("selection", "a selector of your own: a function that chooses, or a class", SelectorOptions, selector_of)
