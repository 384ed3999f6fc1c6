"""Runs side by side: lines of runs, their means and spreads, as rows for scripts and what has to be said below."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from neulite_sim.reports.families import Families, unlike_section
from neulite_sim.reports.intervals import t_half_width
from neulite_sim.reports.lines import proxy_note
from neulite_sim.results.stored import StoredRun
from neulite_sim.results.study import not_told_apart

NOT_APPLICABLE = "NA"
AVERAGED = (
    "rounds", "virtual_time_s", "final_accuracy", "tail_accuracy", "best_accuracy", "final_perplexity",
    "best_perplexity", "participation_rate", "data_share", "peak_memory_bytes", "bytes_down", "bytes_up",
    "flights_arrived", "flights_dropped", "energy_j", "wasted_energy_j", "wall_time_s",
)  # fmt: skip
"""Numbers of a summary of which a group has a mean and a sample standard deviation."""

_SHARES = ("participation_rate", "data_share")
_TIMES = "time_to_accuracy_s"
_MOST_NAMED = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Mean and sample standard deviation of the numbers there are, in their own unit; None where there are too few."""

    mean: float | None
    std: float | None
    count: int
    """How many numbers there are, of `total` runs."""
    total: int

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % t-interval of the mean; None of fewer than two numbers."""
        return None if self.std is None else t_half_width(self.std, self.count)

    @property
    def ends(self) -> tuple[float | None, float | None]:
        """The ends of that interval."""
        if self.mean is None or self.half_width is None:
            return None, None
        return self.mean - self.half_width, self.mean + self.half_width


def spread(values: Sequence[float | None]) -> Spread:
    """Return mean and sample standard deviation (divided by n - 1) of the values that are not None."""
    known = [value for value in values if value is not None]
    return Spread(
        mean=statistics.fmean(known) if known else None,
        std=statistics.stdev(known) if len(known) > 1 else None,
        count=len(known),
        total=len(values),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a comparison: a run, or complete runs whose scenarios differ in the seed only."""

    name: str
    runs: tuple[StoredRun, ...]
    is_group: bool = False

    @property
    def status(self) -> Literal["complete", "cut off", "NA"]:
        """`NA` where no run of the line could train anything."""
        if not self.runs[0].is_complete:
            return "cut off"
        return "NA" if all(run.not_applicable is not None for run in self.runs) else "complete"

    @property
    def seeds(self) -> list[int]:
        """The seeds of its runs, in their order."""
        return [run.summary.get("seed", 0) for run in self.runs]

    @property
    def targets(self) -> list[str]:
        """The target accuracies of its runs, as `time_to_accuracy_s` names them."""
        return list(dict.fromkeys(target for run in self.runs for target in run.summary.get(_TIMES) or {}))

    @property
    def is_inclusive(self) -> bool | None:
        """Whether every device of every fleet could take part; None where a run does not tell."""
        rates = [run.summary.get("participation_rate") for run in self.runs]
        return None if None in rates else all(rate == 1 for rate in rates)

    def same(self, key: str) -> Any:
        """Return what all runs have under a key of the summary, None where they differ."""
        values = [run.summary.get(key) for run in self.runs]
        return values[0] if all(value == values[0] for value in values) else None

    def of(self, key: str) -> Spread:
        """Return the spread of a number of the summary; where nobody could train, only shares of the fleet count."""
        return spread(
            [run.summary.get(key) if run.not_applicable is None or key in _SHARES else None for run in self.runs]
        )

    def time_to(self, target: str) -> Spread:
        """Return the spread of the virtual seconds to a target, over the runs that reached it."""
        return spread([(run.summary.get(_TIMES) or {}).get(target) for run in self.runs])

    def row(self) -> dict[str, Any]:
        """Return the line as `compare --json` has it: the summary of a run, or means and `..._std` of a group."""
        first = self.runs[0].summary
        head = {"run": self.name, "method": self.same("method"), "seed": self.same("seed")}
        tail: dict[str, Any] = {"inclusive": self.is_inclusive, "status": self.status}
        if not self.is_group:
            tail |= {"not_applicable": self.runs[0].not_applicable, "run_dir": str(self.runs[0].path)}
            return {**head, **first, **tail}
        body: dict[str, Any] = {}
        for key in first:
            body[key] = self.of(key).mean if key in AVERAGED else self.same(key)
            if key in AVERAGED:
                found = self.of(key)
                body[f"{key}_std"] = found.std
                body[f"{key}_low"], body[f"{key}_high"] = found.ends
            elif key == _TIMES:
                times = {target: self.time_to(target) for target in self.targets}
                body[key] = {target: time.mean for target, time in times.items()}
                body[f"{key}_std"] = {target: time.std for target, time in times.items()}
                body[f"{key}_count"] = {target: time.count for target, time in times.items()}
        reasons = [run.not_applicable for run in self.runs if run.not_applicable is not None]
        tail |= {"not_applicable": reasons[0] if reasons else None, "not_applicable_count": len(reasons)}
        return {**head, "seeds": self.seeds, **body, **tail, "runs": [str(run.path) for run in self.runs]}


def lines_of(runs: Sequence[StoredRun], *, grouped: bool = False) -> tuple[list[Line], list[str]]:
    """Return the lines of a comparison in the order of the runs, and notes on what belongs together and what does not.

    Grouped, complete runs that were computed from the same but for the seed are one line (`results.study`); an equal
    run is counted once.
    """
    names = _names(runs)
    alone = [Line(name=name, runs=(run,)) for name, run in zip(names, runs, strict=True)]
    families = Families([run.study for run in runs])
    if not grouped:
        return alone, families.notes(names)
    groups: dict[object, Line] = {}
    repeats: list[str] = []
    for place, (line, family) in enumerate(zip(alone, families.of, strict=True)):
        run = line.runs[0]
        # A run that was cut off is no part of a mean.
        key = (family,) if run.is_complete else place
        known = groups.get(key)
        if known is None:
            groups[key] = replace(line, name=_stem(line) if run.is_complete else line.name, is_group=run.is_complete)
        elif run.summary.get("seed") in known.seeds:
            repeats.append(f"{line.name} repeats a run of the same scenario and seed and is not counted.")
        else:
            groups[key] = replace(known, runs=(*known.runs, run))
    lines = _told_apart(list(groups.values()))
    called = {line.runs[0].path: line.name for line in lines}
    own = [called.get(run.path, name) for name, run in zip(names, runs, strict=True)]
    untold = [f"{line.name}: {what}." for line in lines for what in not_told_apart([run.study for run in line.runs])]
    return lines, [*families.notes(own), *repeats, *untold]


def _told_apart(lines: Sequence[Line]) -> list[Line]:
    """Return groups with the same name under those of their first runs: their scenarios differ in more than a seed."""
    names = [line.name for line in lines]
    return [line if names.count(line.name) == 1 else replace(line, name=_names(line.runs)[0]) for line in lines]


def _names(runs: Sequence[StoredRun]) -> list[str]:
    short = [run.path.resolve().name for run in runs]
    return [name if short.count(name) == 1 else str(run.path) for name, run in zip(short, runs, strict=True)]


def _stem(line: Line) -> str:
    """Return the name of a run without the seed that `run` and `sweep` put at its end."""
    return re.sub(rf"-{line.seeds[0]}(-\d+)?$", "", line.name) or line.name


def notes_of(lines: Sequence[Line], *, names_setups: bool = True) -> list[str]:
    """Return what a reader of the comparison has to know: unlike set-ups, proxies, NA and its reasons, cut-off runs."""
    return [
        *(_setup_notes(lines) if names_setups else ()),
        *_proxy_notes(lines),
        *_limit_notes(lines),
        *_reasons(lines),
        *_cut_off_notes(lines),
    ]


def _setup_notes(lines: Sequence[Line]) -> Iterator[str]:
    unlike = unlike_setups([run for line in lines for run in line.runs])
    if unlike:
        yield f"Not the same study: different {', different '.join(unlike)}; mind what you compare."


def unlike_setups(runs: Sequence[StoredRun]) -> list[str]:
    """Return in which of model, data, fleet and charged workload runs differ: what is compared should be alike."""
    unlike = [f"{what}s ({', '.join(found)})" for what in ("model", "dataset")
              if len(found := list(dict.fromkeys(str(run.summary.get(what)) for run in runs))) > 1]  # fmt: skip
    studies = [run.study for run in runs]
    sections = {"models": "model", "data": "data", "fleets": "population", "charged workloads": "workload"}
    for what, key in sections.items():
        named = {"models": "models", "data": "datasets"}.get(what)
        if not (named and any(found.startswith(named) for found in unlike)):
            unlike += filter(None, [unlike_section(studies, what, key)])
    return unlike


def _proxy_notes(lines: Sequence[Line]) -> Iterator[str]:
    proxies: dict[str, list[str]] = {}
    for line in lines:
        for run in line.runs:
            if run.summary.get("proxy"):
                proxies.setdefault(run.summary["proxy"], []).append(line.name)
    complete = {line.name for line in lines if line.status != "cut off"}
    everywhere = len(proxies) == 1 and set(*proxies.values()) == complete
    for proxy, names in proxies.items():
        yield proxy_note(proxy) if everywhere else f"{_named(names)}: {proxy_note(proxy)}"


def _limit_notes(lines: Sequence[Line]) -> Iterator[str]:
    free = [line.name for line in lines for run in line.runs if _is_unlimited(run.scenario.get("method"))]
    if free:
        yield f"{_named(free)}: memory limit off, so every device takes part whatever its memory."


def _is_unlimited(method: Any) -> bool:
    return isinstance(method, Mapping) and method.get("memory_limit") is False


def _reasons(lines: Sequence[Line]) -> Iterator[str]:
    """Yield why nobody could train, of each line the reason of its first such seed."""
    reasons: dict[str, list[str]] = {}
    for line in lines:
        nobody = [run for run in line.runs if run.not_applicable is not None]
        if nobody:
            some = f" (seed {', '.join(str(run.summary.get('seed')) for run in nobody)})"
            reason = str(nobody[0].not_applicable).removeprefix(f"{NOT_APPLICABLE}: ")
            reasons.setdefault(reason, []).append(line.name + (some if len(nobody) < len(line.runs) else ""))
    for reason, names in reasons.items():
        yield f"{NOT_APPLICABLE} {_named(names)}: {reason}"


def _cut_off_notes(lines: Sequence[Line]) -> Iterator[str]:
    names = [line.name for line in lines if line.status == "cut off"]
    if names:
        yield f"Cut off, or still running (no COMPLETE): {_named(names)}; shown as far as the rows go."


def _named(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - _MOST_NAMED} more" if len(unique) > _MOST_NAMED else ""
    return ", ".join(unique[:_MOST_NAMED]) + more


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without mappings and lists, for a CSV file: keys joined by dots, items by spaces."""
    cells: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            cells |= {f"{key}.{inner}": item for inner, item in value.items()}
        else:
            cells[key] = " ".join(map(str, value)) if isinstance(value, list) else value
    return cells
