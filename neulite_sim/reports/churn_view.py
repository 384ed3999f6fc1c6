"""What churn costs: runs against the runs of the same method and seed without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neulite_sim.reports.baseline import seed_notes
from neulite_sim.reports.comparison import Line
from neulite_sim.reports.families import Families
from neulite_sim.reports.intervals import Kind
from neulite_sim.reports.views import Measure, Unit, View, absences, complete_groups, refused

_BESIDE = ("name", "churn", "energy", "population.availability", "population.memory_motion")
"""What of their scenarios, with the files that it names, twins need not have in common.

Of `energy` nothing but the battery changes more than what is written down.
"""


def robustness(lines: Sequence[Line], *, baseline: Line | None = None, kind: Kind = "t") -> View:
    """Return what churn costs each group: accuracy and virtual time against its twin without churn, paired by seed.

    A twin has the same scenario but for `churn`, `energy`, `population.availability`, `population.memory_motion` and
    `name`, its devices are always online with constant memory and without batteries, and nothing of `churn` acts.

    Raises:
        ScenarioError: no group has a twin.
    """
    groups, notes = complete_groups(lines)
    alike = Families([line.runs[0].study.without(*_BESIDE) for line in groups])
    families: dict[int, list[Line]] = {}
    for line, number in zip(groups, alike.of, strict=True):
        families.setdefault(number, []).append(line)
    notes += alike.notes([line.name for line in groups])
    shaken: list[Line] = []
    twins: list[Line] = []
    for family in families.values():
        calm = [line for line in family if _is_calm(line.runs[0].scenario)]
        others = [line for line in family if line not in calm]
        if calm:
            shaken += others
            twins += [calm[0]] * len(others)
        if not calm or not others:
            missing = "no twin without churn" if others else "no run with churn to compare with"
            notes += [f"{line.name}: {missing}." for line in family]
        notes += [
            f"{line.name}: also without churn, and not used beside {calm[0].name}." for line in calm[1:] if others
        ]
    if not shaken:
        finding = ("needs runs that differ in churn, population.availability, population.memory_motion or "
                   "energy.battery only")  # fmt: skip
        raise refused("--view robustness", finding, "run a scenario with and without churn, with the same seeds")
    pairs = list(zip(shaken, twins, strict=True))
    for line, twin in pairs:
        notes += seed_notes(line, twin)
    measures = tuple(_change(pairs, *what) for what in (
        ("accuracy_change", "change of accuracy", "tail_accuracy", "accuracy", True),
        ("virtual_time_change_s", "change of virtual time", "virtual_time_s", "seconds", False),
    ))  # fmt: skip
    base = baseline if baseline in shaken else next((line for line, twin in pairs if twin is baseline), None)
    return View(
        name="robustness", title="what churn costs, against the same seeds without it", lines=tuple(shaken),
        measures=measures, notes=(*notes, *absences(shaken, measures[:1])), baseline=base, kind=kind,
        twins=tuple(twins), churn=tuple(_churn_text(line) for line in shaken),
    )  # fmt: skip


def _change(
    pairs: Sequence[tuple[Line, Line]], key: str, name: str, summary_key: str, unit: Unit, larger_is_better: bool
) -> Measure:
    values: list[dict[int, float]] = []
    absent: list[dict[int, str]] = []
    for line, twin in pairs:
        calm = {run.summary["seed"]: run.summary.get(summary_key) for run in twin.runs if run.not_applicable is None}
        values.append({})
        absent.append({})
        for run in line.runs:
            seed, own = run.summary["seed"], None if run.not_applicable else run.summary.get(summary_key)
            other = calm.get(seed)
            if own is None or other is None:
                absent[-1][seed] = f"no such number {'with' if own is None else 'without'} churn"
            else:
                values[-1][seed] = float(own) - float(other)
    return Measure(key=key, name=name, unit=unit, larger_is_better=larger_is_better, values=tuple(values),
                   absent=tuple(absent), is_difference=True)  # fmt: skip


def _churn_cells(scenario: Mapping[str, Any]) -> dict[str, str]:
    """Return what of a scenario makes devices come and go, memory move or flights fail; only what acts."""
    churn, population = dict(scenario.get("churn") or {}), scenario.get("population") or {}
    cells = {}
    for key, calm in (("availability", "always"), ("memory_motion", "constant")):
        section = population.get(key) or {}
        kind = section.get("kind", calm) if isinstance(section, Mapping) else section
        if kind != calm:
            cells[key.replace("_", " ")] = str(kind)
    # What going offline does to a flight is no reason to go.
    churn.pop("offline", None)
    churn["battery"] = battery_of(scenario)
    for key, value in churn.items():
        if value:
            cells[key.replace("_", " ")] = f"{value:g}" if isinstance(value, int | float) else ""
    return cells


def battery_of(scenario: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the section of the devices' batteries, which a scenario has in `churn` or in `energy`; None without."""
    for section in ("churn", "energy"):
        battery = (scenario.get(section) or {}).get("battery")
        if isinstance(battery, Mapping):
            return battery
    return None


def _is_calm(scenario: Mapping[str, Any]) -> bool:
    return not _churn_cells(scenario)


def _churn_text(line: Line) -> str:
    cells = _churn_cells(line.runs[0].scenario)
    return ", ".join(f"{key} {value}".strip() for key, value in cells.items())
