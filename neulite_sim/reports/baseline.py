"""Groups of runs against one of them: differences paired by seed, and what their intervals say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.reports.comparison import Line, unlike_setups
from neulite_sim.reports.intervals import Interval, Kind, paired_difference
from neulite_sim.results.stored import StoredRun

OPTION = "--baseline"
LARGER_IS_BETTER: Mapping[str, bool] = {
    "final_accuracy": True, "tail_accuracy": True, "best_accuracy": True, "final_perplexity": False,
    "best_perplexity": False, "participation_rate": True,
    "data_share": True, "virtual_time_s": False, "peak_memory_bytes": False, "bytes_down": False, "bytes_up": False,
    "energy_j": False, "wasted_energy_j": False,
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


def difference(line: Line, baseline: Line, key: str, *, kind: Kind = "t") -> Interval | None:
    """Return the paired difference of a number of the summary; None where no seed has it in both."""
    return paired_difference(_by_seed(line, key), _by_seed(baseline, key), kind=kind)


def difference_row(line: Line, baseline: Line, *, kind: Kind = "t") -> dict[str, Any]:
    """Return what `compare --baseline --json` adds to a group.

    That is the baseline's name, and of each number that both have the mean difference (`KEY_difference`), the ends of
    its interval (`_low`, `_high`), the number of pairs (`_count`) and `KEY_verdict`.
    """
    row: dict[str, Any] = {"baseline": baseline.name}
    for key, larger_is_better in LARGER_IS_BETTER.items():
        found = difference(line, baseline, key, kind=kind)
        if found is not None:
            name = f"{key}_difference"
            row |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
            row |= {f"{name}_count": found.count, f"{key}_verdict": found.verdict(larger_is_better=larger_is_better)}
    return row


def pairing_notes(lines: Sequence[Line], baseline: Line) -> list[str]:
    """Return what has to be said of the pairs: seeds that one of two groups lacks, and groups of another study."""
    return [note for line in lines if line.is_group and line is not baseline for note in _pairing(line, baseline)]


def _pairing(line: Line, baseline: Line) -> Iterator[str]:
    yield from seed_notes(line, baseline)
    unlike = unlike_setups([line.runs[0], baseline.runs[0]])
    if unlike:
        yield f"{line.name}: not the same study as {baseline.name} (different {', different '.join(unlike)})."


def seed_notes(line: Line, baseline: Line) -> Iterator[str]:
    """Yield which seeds one of two groups lacks, and where too few pairs are left for an interval."""
    own, its = (set(_by_seed(each, "rounds")) for each in (line, baseline))
    for lacking, seeds in ((line.name, its - own), (baseline.name, own - its)):
        if seeds:
            named = ", ".join(map(str, sorted(seeds)))
            yield f"{line.name}: seed{'s' if len(seeds) > 1 else ''} {named} missing in {lacking}, so not paired."
    if not own & its:
        yield f"{line.name}: has no seed of {baseline.name}, so there is no difference to tell."
    elif len(own & its) == 1:
        yield f"{line.name}: one pair has no interval, so it is not told apart."


def _by_seed(line: Line, key: str) -> dict[int, float]:
    runs = {run.summary["seed"]: _number(run, key) for run in line.runs if run.is_complete}
    return {seed: value for seed, value in runs.items() if value is not None}


def _number(run: StoredRun, key: str) -> float | None:
    value = run.summary.get(key)
    return None if value is None or run.not_applicable is not None else float(value)
