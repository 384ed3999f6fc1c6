"""Which time of a file becomes virtual time 0."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from neulite_sim.arrays import Floats, Integers
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.traces.intervals import LAST_S
from neulite_sim.traces.tables import TraceKind
from neulite_sim.units import seconds_or

Origin = float | Literal["first"]
OriginOption = Annotated[
    Literal["first"] | Annotated[float, Field(ge=0, le=LAST_S)], BeforeValidator(seconds_or("first"))
]
"""The origin as an option: seconds, or `first` for the earliest time in the file."""


def origin_of(origin: Origin, times_s: Floats, lines: Integers, *, kind: TraceKind, path: Path) -> float:
    """Return the time of a file that becomes virtual time 0; times that are no numbers are NaN.

    Raises:
        ScenarioError: some of `times_s` lie before it.
    """
    known = np.flatnonzero((times_s >= 0) & (times_s <= LAST_S))
    if not len(known) or origin == 0:
        return 0.0
    first = known[np.argmin(times_s[known])]
    if origin == "first":
        return float(times_s[first])
    if origin > times_s[first]:
        finding = (
            f"{origin:.16g} s is after the earliest time of {path}, {times_s[first]:.16g} s on line {lines[first]}"
        )
        hint = "use at most that, or first"
        raise ScenarioError([Problem.advising(key=kind.key.removesuffix("path") + "origin", found=finding, hint=hint)])
    return origin
