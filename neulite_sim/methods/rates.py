"""The widths of a width-scaled method: which may be given, and what the submodels are called.

Names are "full" for rate 1 and "width-R" for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, Field

from neulite_sim.bounds import Share
from neulite_sim.models.names import FULL

LEVELS = (1.0, 0.5, 0.25, 0.125, 0.0625)
"""The five levels of HeteroFL, a to e."""

MOST_RATES = 64
"""Each rate is a submodel that is profiled."""


def falling(what: str, given: tuple[float, ...], *, num_names: int) -> tuple[float, ...]:
    """Return numbers that begin with 1, fall, and have as many names as they are.

    Raises:
        ValueError: they do not; `what` is the option.
    """
    listed = f"[{', '.join(f'{number:g}' for number in given)}]"
    if not given or given[0] != 1:
        raise ValueError(f"{what} is {listed}, but the first must be 1, the full model; put 1 in front")
    if any(after >= before for before, after in pairwise(given)):
        raise ValueError(f"{what} is {listed}, but {what} must fall and stay above 0; for example [1, 0.5, 0.25]")
    if num_names < len(given):
        raise ValueError(f"{what} is {listed}, but two of them agree in six digits; remove one of them")
    return given


def _checked(rates: tuple[float, ...]) -> tuple[float, ...]:
    return falling("rates", rates, num_names=len(names_of(rates)))


Rates = Annotated[tuple[Share, ...], Field(max_length=MOST_RATES), AfterValidator(_checked)]
"""Widths relative to the full model, largest first, beginning with 1."""


def names_of(rates: Sequence[float]) -> dict[str, float]:
    """Return the rates by the names of their submodels, in order."""
    return {FULL if rate == 1 else f"width-{rate:g}": rate for rate in rates}
