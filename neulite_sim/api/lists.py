"""Lists of a study as options have them, `100MB,200MB`, or as Python does: checked in one way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from neulite_sim.bounds import MOST_BATCH
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.scenario.sources import value_text
from neulite_sim.units import parse_budget_bytes, written

if TYPE_CHECKING:
    from neulite_sim.api.sources import Chosen
    from neulite_sim.studies.whatif import Budgets
    from neulite_sim.studies.whatif_entrants import FitKind

BUDGET_OPTIONS = {"memory": "--memory", "scale": "--scale-memory", "cap": "--cap-memory"}

Listed = str | float | Sequence[str | float] | None
"""Values with commas between them, one value, or a list; None for none."""


DEFAULT_SCALES = (0.5, 1, 2)
"""Factors of the fleet's own budgets that a study asks about where it was given no budgets."""

Methods = str | Mapping[str, Any] | Sequence[Any] | None
"""Names of methods, mappings with options, or what was given from Python."""


def refused(option: str, found: str, hint: str = "") -> ScenarioError:
    """Return the refusal of an option."""
    if hint:
        return ScenarioError([Problem.advising(key=option, found=found, hint=hint)])
    return ScenarioError([Problem(key=option, message=found)])


def budgets_of(given: Mapping[str, Listed]) -> Budgets:
    """Return the budgets of the one kind that was given, in rising order; `DEFAULT_SCALES` where none was.

    Raises:
        ScenarioError: several kinds were given, or a value is not understood.
    """
    from neulite_sim.studies.whatif import Budgets

    chosen = {kind: listed for kind, listed in given.items() if listed is not None} or {"scale": DEFAULT_SCALES}
    if len(chosen) > 1:
        found = " and ".join(BUDGET_OPTIONS[kind] for kind in chosen)
        raise refused("", f"give only one of {', '.join(BUDGET_OPTIONS.values())}; found {found}")
    ((kind, listed),) = chosen.items()
    values = _numbers(BUDGET_OPTIONS[kind], listed, _factor if kind == "scale" else parse_budget_bytes)
    if not values:
        raise refused(BUDGET_OPTIONS[kind], f"has no value in it, found {listed!r}", "name one, or leave it out")
    return Budgets(kind=kind, values=tuple(sorted(values)))  # type: ignore[arg-type]


def counts_of(option: str, listed: Listed) -> tuple[int, ...]:
    """Return numbers of samples, each once.

    Raises:
        ScenarioError: a value is not understood, or given twice.
    """
    return () if listed is None else tuple(int(value) for value in _numbers(option, listed, _count))


def fits_of(listed: Listed) -> list[FitKind]:
    """Return the kinds of `training.fit` in a list, each once.

    Raises:
        ScenarioError: one is none of them, or given twice.
    """
    found: list[FitKind] = []
    for kind in () if listed is None else _items(listed):
        if kind not in ("none", "auto") or kind in found:
            shown = listed if isinstance(listed, str) else ",".join(_items(listed))
            raise refused("--fit", f"must be none, auto or none,auto, found {shown!r}")
        found.append(kind)  # type: ignore[arg-type]
    return found


def methods_text(methods: Methods, chosen: Chosen) -> str | None:
    """Return methods as `--methods` takes them: names, or mappings with options, with commas between them."""
    if methods is None or isinstance(methods, str):
        return methods
    listed = methods if isinstance(methods, Sequence) else [methods]
    return ",".join(value_text("method", chosen.plain("method", method)) for method in listed)


def _items(listed: Listed) -> list[str]:
    if isinstance(listed, str):
        return [item.strip() for item in listed.split(",")]
    if isinstance(listed, Iterable):
        return [str(item).strip() for item in listed]
    return [str(listed)]


def _factor(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a factor; write for example 0.5")
    return value


def _count(text: str) -> int:
    # What int() takes beyond digits, underscores among them, is a slip here, and so is what no batch can hold.
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{written(text)} is not a whole number of samples; write for example 32")
    if len(text) > len(str(MOST_BATCH)) or int(text) > MOST_BATCH:
        raise ValueError(f"{written(text)} is above {MOST_BATCH} samples")
    return int(text)


def _numbers(option: str, listed: Listed, read: Callable[[str], float]) -> list[float]:
    """Return the values of a list, each above zero and given once."""
    values: list[float] = []
    for item in _items(listed):
        try:
            value = read(item)
        except ValueError as error:
            raise refused(option, str(error)) from None
        if value <= 0:
            raise refused(option, f"{item!r} is not above zero", "leave it out")
        if value in values:
            raise refused(option, f"{item!r} is given twice", "remove one")
        values.append(value)
    return values
