"""Cells of tables of paired runs: means with their intervals, differences seed by seed, and Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from neulite_sim.reports.intervals import Interval, mean_interval, paired_difference

Runs = Mapping[int, Mapping[str, Any]]
"""Summaries of an entry's complete runs, by seed."""


def accuracy(summary: Mapping[str, Any]) -> float | None:
    """Return the mean of the last three tests in percent."""
    value = summary["tail_accuracy"]
    return None if value is None else 100 * float(value)


COLUMNS: tuple[tuple[str, Callable[[Mapping[str, Any]], float | None], str], ...] = (
    ("participation, %", lambda found: 100 * found["participation_rate"], ".0f"),
    ("data, %", lambda found: 100 * found["data_share"], ".0f"),
    ("peak memory, MB", lambda found: found["peak_memory_bytes"] / 1e6, ".1f"),
    ("down + up, GB", lambda found: (found["bytes_down"] + found["bytes_up"]) / 1e9, ".1f"),
    ("virtual time, h", lambda found: found["virtual_time_s"] / 3600, ".2f"),
    ("rounds", lambda found: float(found["rounds"]), ".0f"),
)


def values(runs: Runs, of: Callable[[Mapping[str, Any]], float | None]) -> dict[int, float]:
    """Return a number of each run that has it, by seed."""
    found = {seed: of(summary) for seed, summary in runs.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def told(interval: Interval, form: str) -> str:
    """Return mean ± half width of the interval; the mean alone where all values are equal or there is one."""
    half_width = interval.half_width
    around = "" if half_width is None or half_width == 0 else f" ± {half_width:{form}}"
    return f"{interval.mean:{form}}{around}"


def mean_cell(numbers: Mapping[int, float], form: str) -> str:
    """Return the cell of a mean."""
    return told(mean_interval(list(numbers.values())), form) if numbers else "-"


def difference_cell(numbers: Mapping[int, float], baseline: Mapping[int, float], form: str) -> str:
    """Return the cell of a paired difference, with what it says."""
    found = paired_difference(numbers, baseline)
    if found is None:
        return "-"
    half_width = found.half_width
    if half_width is None:
        return f"{found.mean:+{form}} (one seed)"
    return f"{found.mean:+{form}} ± {half_width:{form}}, {found.verdict()}"


def time_cell(runs: Runs, target: str) -> str:
    """Return the cell of the hours to a target: over the runs that reached it, and how many did."""
    hours = values(runs, lambda found: found["time_to_accuracy_s"][target])
    if not hours:
        return "never"
    some = f" ({len(hours)} of {len(runs)} runs)" if len(hours) < len(runs) else ""
    return mean_cell({seed: value / 3600 for seed, value in hours.items()}, ".2f") + some


def markdown(lines: Sequence[tuple[str, ...]]) -> str:
    """Return lines of cells as a table; the first is its head."""
    head, *rest = lines
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rest))


def placed(page: str, name: str, text: str) -> str:
    """Return a page with a text between `<!-- table: NAME -->` and `<!-- end -->`."""
    marks = re.compile(rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not marks.search(page):
        raise ValueError(f"the page has no place for table {name}")
    return marks.sub(lambda match: f"{match[1]}{text}\n\n{match[2]}", page, count=1)
