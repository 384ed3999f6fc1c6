"""What runs reach within a budget, and what they cost until they reach a target, from their tested rounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.reports.baseline import pairing_notes
from neulite_sim.reports.comparison import Line
from neulite_sim.reports.intervals import Kind
from neulite_sim.reports.views import Measure, Unit, View, absences, complete_groups, refused, shown
from neulite_sim.results.cells import FILES, scan_rows
from neulite_sim.results.rows import RoundRow
from neulite_sim.results.stored import StoredRun, energy_until
from neulite_sim.units import parse_bytes, parse_joules, parse_seconds

BOUNDS: Mapping[str, Unit] = {"memory": "bytes", "time": "seconds", "traffic": "bytes", "energy": "joules"}
_PARSERS: Mapping[Unit, Callable[[object], float]] = {
    "bytes": parse_bytes, "seconds": parse_seconds, "joules": parse_joules,
}  # fmt: skip
_NO_ENERGY = "its energy is not known: nobody has told what a device draws (energy.power)"


def parse_budget(text: str) -> dict[str, float]:
    """Return bounds from `memory=300MB,time=2h,traffic=1GB,energy=500kJ`: bytes, seconds, bytes, joules.

    Raises:
        ScenarioError: another bound, no size, duration or energy, one given twice, or none above zero.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, is_pair, value = (piece.strip() for piece in part.partition("="))
        if name not in BOUNDS or not is_pair:
            hint = "write for example memory=300MB,time=2h,traffic=1GB,energy=500kJ"
            raise refused("--budget", f"{part.strip()!r} is no bound of memory, time, traffic or energy", hint)
        if name in found:
            raise refused("--budget", f"{name} is bounded twice", "remove one")
        try:
            bound = _PARSERS[BOUNDS[name]](value)
        except ValueError as error:
            raise ScenarioError([Problem(key="--budget", message=f"{name}: {error}")]) from None
        if not bound > 0:
            raise refused("--budget", f"{name} of {value} leaves nothing", "use a bound above zero")
        found[name] = float(bound)
    return found


def parse_target(text: str) -> float:
    """Return an accuracy, 0 to 1, from `0.9` or `90%`.

    Raises:
        ScenarioError: no number above 0 and at most 1.
    """
    number = text.strip()
    try:
        target = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        target = math.nan
    if not 0 < target <= 1:
        raise refused("--target", f"{text!r} is no accuracy above 0 and at most 1", "write for example 0.9 or 90%")
    return target


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """A tested round: what the run had cost until then, and its accuracy."""

    accuracy: float
    memory: float
    time: float
    traffic: float
    energy: float | None
    """None where nobody knows it, or nobody asked."""

    def beyond(self, budget: Mapping[str, float]) -> list[str]:
        """Return which bounds it is beyond, as people read them."""
        costs = {name: getattr(self, name) for name in budget}
        return [f"{name} {shown(cost, BOUNDS[name])}" for name, cost in costs.items()
                if cost is not None and cost > budget[name]]  # fmt: skip


def _points(run: StoredRun, *, with_energy: bool = True) -> Iterator[_Point]:
    """Yield the tested rounds of a run with peak memory, virtual seconds, bytes both ways and joules up to each."""
    memory = traffic = 0
    energies = energy_until(run) if with_energy else None
    for row in scan_rows(run.path / FILES[RoundRow], RoundRow):
        memory = max(memory, row["peak_memory_bytes"])
        traffic += row["bytes_down"] + row["bytes_up"]
        accuracy = row["test_accuracy"]
        if accuracy is not None and math.isfinite(accuracy):
            energy = None if energies is None else energies.get(row["round"], 0.0)
            yield _Point(accuracy=accuracy, memory=memory, time=row["virtual_time_s"], traffic=traffic, energy=energy)


def quality_under_budget(
    lines: Sequence[Line], budget: Mapping[str, float], *, baseline: Line | None = None, kind: Kind = "t"
) -> View:
    """Return the best accuracy of each group while all of its costs are within a budget (as `parse_budget` has it).

    Raises:
        DataNotFoundError: the rounds.csv of a run is missing or damaged.
    """
    groups, notes = complete_groups(lines)
    bounds = ", ".join(f"{name} {shown(bound, BOUNDS[name])}" for name, bound in budget.items())
    values: list[dict[int, float]] = []
    absent: list[dict[int, str]] = []
    for line in groups:
        values.append({})
        absent.append({})
        for run in line.runs:
            bounds_energy = "energy" in budget
            points = [] if run.not_applicable is not None else list(_points(run, with_energy=bounds_energy))
            is_blind = bounds_energy and any(point.energy is None for point in points)
            within = [point.accuracy for point in points if not is_blind and not point.beyond(budget)]
            if is_blind:
                absent[-1][run.summary["seed"]] = _NO_ENERGY
            elif within:
                values[-1][run.summary["seed"]] = max(within)
            else:
                absent[-1][run.summary["seed"]] = _why_not_within(run, points, budget)
    measure = Measure(key="accuracy_within_budget", name="best accuracy", unit="accuracy",
                      larger_is_better=True, values=tuple(values), absent=tuple(absent))  # fmt: skip
    notes = [*notes, *absences(groups, [measure]), *([] if baseline is None else pairing_notes(groups, baseline))]
    return View(
        name="quality-under-budget", title=f"best accuracy with {bounds}", lines=groups, measures=(measure,),
        notes=tuple(notes), asked={"budget": dict(budget)}, baseline=baseline, kind=kind,
    )  # fmt: skip


def _why_not_within(run: StoredRun, points: Sequence[_Point], budget: Mapping[str, float]) -> str:
    if run.not_applicable is not None:
        return "no device could train anything"
    return f"at its first test {' and '.join(points[0].beyond(budget))}" if points else "never tested"


def cost_to_target(
    lines: Sequence[Line], target: float | None = None, *, baseline: Line | None = None, kind: Kind = "t"
) -> View:
    """Return peak memory, time, traffic and energy of each group until an accuracy (0 to 1) was first measured.

    Without a target it is the highest of those of the scenarios that a run reached.

    Raises:
        ScenarioError: no target is given and no run reached one of its own.
        DataNotFoundError: the rounds.csv of a run is missing or damaged.
    """
    groups, notes = complete_groups(lines)
    goal = _highest_target(groups) if target is None else target
    absent: list[dict[int, str]] = []
    values: dict[str, list[dict[int, float]]] = {name: [] for name in BOUNDS}
    for line in groups:
        absent.append({})
        for of in values.values():
            of.append({})
        for run in line.runs:
            seed = run.summary["seed"]
            points = [] if run.not_applicable is not None else list(_points(run))
            first = next((point for point in points if point.accuracy >= goal), None)
            if first is None:
                best = max((point.accuracy for point in points), default=None)
                absent[-1][seed] = "never reached it" + ("" if best is None else f" (best {100 * best:.1f} %)")
            else:
                for name, of in values.items():
                    if (cost := getattr(first, name)) is not None:
                        of[-1][seed] = float(cost)
    keys = {"memory": "memory_to_target_bytes", "time": "time_to_target_s", "traffic": "bytes_to_target",
            "energy": "energy_to_target_j"}  # fmt: skip
    names = {"memory": "peak memory", "time": "virtual time", "traffic": "traffic", "energy": "energy"}
    measures = tuple(
        Measure(key=keys[name], name=names[name], unit=BOUNDS[name], larger_is_better=False,
                values=tuple(values[name]), absent=tuple(absent))
        for name in BOUNDS if name != "energy" or any(values["energy"])
    )  # fmt: skip
    notes = [*notes, *absences(groups, measures[:1]), *([] if baseline is None else pairing_notes(groups, baseline))]
    return View(
        name="cost-to-target", title=f"cost until {100 * goal:g} % accuracy", lines=groups, measures=measures,
        notes=tuple(notes), asked={"target": goal}, baseline=baseline, kind=kind,
    )  # fmt: skip


def _highest_target(groups: Sequence[Line]) -> float:
    reached = [float(target) for line in groups for target in line.targets if line.time_to(target).count]
    if not reached:
        hint = "say which accuracy is meant, for example --target 0.9"
        raise refused("--target", "is not given, and no run reached a target of its scenario", hint)
    return max(reached)
