"""Views of a comparison: quality under a budget, cost to a target, robustness against churn.

They are those by which EdgeFlowerTune judges on real boards (arXiv 2605.08636), from the rows of runs: best accuracy
while peak memory, virtual time and traffic stay within bounds; memory, virtual time and traffic until an accuracy is
reached; and what churn costs, of each run against the run of the same seed without it. `budget_views` and `churn_view`
make them; here is what they have in common: a number per group and seed, its intervals, and what is said of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.reports.comparison import Line
from neulite_sim.reports.intervals import Interval, Kind, mean_interval, paired_difference
from neulite_sim.units import format_bytes, format_joules, format_seconds

ViewName = Literal["quality-under-budget", "cost-to-target", "robustness"]
VIEWS: tuple[ViewName, ...] = get_args(ViewName)
QUALITY, COST, ROBUSTNESS = VIEWS
Unit = Literal["accuracy", "seconds", "bytes", "joules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A number per line and seed: accuracy (0 to 1), seconds, bytes or joules."""

    key: str
    """What it is called in rows for scripts."""
    name: str
    """What it is called in tables and figures."""
    unit: Unit
    larger_is_better: bool
    values: tuple[Mapping[int, float], ...]
    """Of each line, by seed."""
    absent: tuple[Mapping[int, str], ...]
    """Of each line, by seed, why there is none."""
    is_difference: bool = False
    """Whether it is a difference already, so that its own interval says better or worse."""

    def interval(self, place: int, kind: Kind = "t") -> Interval | None:
        """Return mean and interval over the seeds of a line that have it; None where none has."""
        values = self.values[place]
        return mean_interval([values[seed] for seed in sorted(values)], kind=kind) if values else None

    def difference(self, place: int, baseline: int, kind: Kind = "t") -> Interval | None:
        """Return the paired difference of a line to another; None without a seed that has it in both."""
        return paired_difference(self.values[place], self.values[baseline], kind=kind)

    def is_whole(self, *places: int) -> bool:
        """Whether every seed of these lines has it; what is said of some of them would favour those that lack it."""
        return not any(self.absent[place] for place in places)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a view shows of the complete groups of a comparison."""

    name: ViewName
    title: str
    lines: tuple[Line, ...]
    measures: tuple[Measure, ...]
    notes: tuple[str, ...] = ()
    asked: Mapping[str, Any] = field(default_factory=dict)
    """What it was asked for: `budget` by bound, or `target`."""
    baseline: Line | None = None
    kind: Kind = "t"
    twins: tuple[Line, ...] = ()
    """Of robustness: the group without churn of each line."""
    churn: tuple[str, ...] = ()
    """Of robustness: what is otherwise in each line than in its twin."""

    @property
    def baseline_place(self) -> int | None:
        """Which line is the baseline."""
        return next((place for place, line in enumerate(self.lines) if line is self.baseline), None)

    def rows(self) -> list[dict[str, Any]]:
        """Return a mapping per line with what the view adds to a row of `compare --json`."""
        return [self._row(place) for place in range(len(self.lines))]

    def _row(self, place: int) -> dict[str, Any]:
        row: dict[str, Any] = {}
        if self.twins:
            row |= {"twin": self.twins[place].name, "churn": self.churn[place]}
        base = self.baseline_place
        for measure in self.measures:
            key, found = measure.key, measure.interval(place, self.kind)
            row |= {key: None if found is None else found.mean}
            row |= {f"{key}_{end}": None if found is None else getattr(found, end) for end in ("low", "high")}
            row |= {f"{key}_count": 0 if found is None else found.count}
            row |= {f"{key}_by_seed": {str(seed): value for seed, value in sorted(measure.values[place].items())}}
            row |= {f"{key}_absent": {str(seed): why for seed, why in sorted(measure.absent[place].items())}}
            if measure.is_difference and found is not None:
                row[f"{key}_verdict"] = found.verdict(larger_is_better=measure.larger_is_better)
            if base is not None:
                row |= _difference_row(measure, place, base, self.kind)
        return row


def _difference_row(measure: Measure, place: int, base: int, kind: Kind) -> dict[str, Any]:
    found = measure.difference(place, base, kind)
    if found is None:
        return {}
    key = f"{measure.key}_difference"
    row: dict[str, Any] = {key: found.mean, f"{key}_low": found.low, f"{key}_high": found.high}
    row |= {f"{key}_count": found.count, f"{key}_verdict": verdict_of(measure, place, base, found)}
    return row


def verdict_of(measure: Measure, place: int, base: int, found: Interval) -> str:
    """Return what is said of a difference; nothing where a seed lacks the number, which is worse than any."""
    if not measure.is_whole(place, base):
        return "not compared"
    return found.verdict(larger_is_better=measure.larger_is_better)


def refused(option: str, finding: str, hint: str) -> ScenarioError:
    """Return the refusal of an option of a view."""
    return ScenarioError([Problem.advising(key=option, found=finding, hint=hint)])


def shown(value: float, unit: Unit) -> str:
    """Return bytes, joules or seconds as people read them."""
    if unit == "joules":
        return format_joules(value)
    return format_bytes(value) if unit == "bytes" else format_seconds(value)


def complete_groups(lines: Sequence[Line]) -> tuple[tuple[Line, ...], list[str]]:
    """Return the complete groups, and what is said of the other lines."""
    cut = [line.name for line in lines if not line.is_group]
    notes = [f"Not complete, so in no mean: {', '.join(cut)}."] if cut else []
    return tuple(line for line in lines if line.is_group), notes


def absences(groups: Sequence[Line], measures: Sequence[Measure]) -> Iterator[str]:
    """Yield which seeds of which group stay out of its mean, and why."""
    for measure in measures:
        for line, absent in zip(groups, measure.absent, strict=True):
            reasons: dict[str, list[int]] = {}
            for seed, why in sorted(absent.items()):
                reasons.setdefault(why, []).append(seed)
            told = (f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}: {why}"
                    for why, seeds in reasons.items())  # fmt: skip
            if reasons:
                yield f"{line.name}: not in the mean: {'; '.join(told)}."
