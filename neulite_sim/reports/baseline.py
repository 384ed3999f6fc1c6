"""Groups of runs against one of them: differences paired by seed, and what their intervals say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.reports.comparison import Line
from neulite_sim.reports.intervals import Interval, paired_difference
from neulite_sim.results.stored import StoredRun

OPTION = "--baseline"
LARGER_IS_BETTER: Mapping[str, bool] = {
    "final_accuracy": True, "tail_accuracy": True, "best_accuracy": True, "participation_rate": True,
    "data_share": True, "virtual_time_s": False, "peak_memory_bytes": False, "bytes_down": False, "bytes_up": False,
}  # fmt: skip
"""Numbers of a summary that are compared, and which way is better."""


def baseline_of(lines: Sequence[Line], name: str) -> Line:
    """Return the group that is called so, or the only one whose method is.

    Raises:
        ScenarioError: no group is, or several are.
    """
    groups = [line for line in lines if line.is_group]
    found = [line for line in groups if line.name == name] or [line for line in groups if line.same("method") == name]
    if len(found) == 1:
        return found[0]
    names = ", ".join(line.name for line in (found or groups)) or "none, as no run is complete"
    finding = f"{name} is {'several groups' if found else 'no group'} of these runs"
    raise ScenarioError([Problem.advising(key=OPTION, found=finding, hint=f"name one of the groups: {names}")])


def difference(line: Line, baseline: Line, key: str) -> Interval | None:
    """Return the paired difference of a number of the summary; None where no seed has it in both."""
    return paired_difference(_by_seed(line, key), _by_seed(baseline, key))


def difference_row(line: Line, baseline: Line) -> dict[str, Any]:
    """Return what `compare --baseline --json` adds to a group.

    That is the baseline's name, and of each number that both have the mean difference (`KEY_difference`), the ends of
    its interval (`_low`, `_high`), the number of pairs (`_count`) and `KEY_verdict`.
    """
    row: dict[str, Any] = {"baseline": baseline.name}
    for key, larger_is_better in LARGER_IS_BETTER.items():
        found = difference(line, baseline, key)
        if found is not None:
            name = f"{key}_difference"
            row |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
            row |= {f"{name}_count": found.count, f"{key}_verdict": found.verdict(larger_is_better=larger_is_better)}
    return row


def _by_seed(line: Line, key: str) -> dict[int, float]:
    runs = {run.summary["seed"]: _number(run, key) for run in line.runs if run.is_complete}
    return {seed: value for seed, value in runs.items() if value is not None}


def _number(run: StoredRun, key: str) -> float | None:
    value = run.summary.get(key)
    return None if value is None or run.not_applicable is not None else float(value)
