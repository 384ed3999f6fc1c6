"""What the numbers of a run are called in other tools, and their units: the one place that says so.

Parquet files keep the columns of the rows, with these names beside them; the trackers, which show curves, have the
names alone. A part before a slash puts curves that belong together into one group; the unit stands at the end of a
name, unless the number is a share or has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from neulite_sim.results.rows import DenialRow, DeviceRow, DiagnosticRow, FlightRow, RoundRow, Row

METRICS: Mapping[str, str] = {
    "test_accuracy": "accuracy/test",
    "test_perplexity": "perplexity/test",
    "train_loss": "loss/train",
    "test_loss": "loss/test",
    "peak_memory_bytes": "memory/peak_bytes",
    "online": "participation/online_devices",
    "offered": "participation/offered_devices",
    "denied": "participation/denied_devices",
    "selected": "participation/selected_flights",
    "arrived": "participation/arrived_flights",
    "dropped": "participation/dropped_flights",
    "discarded": "participation/discarded_flights",
    "staleness_mean": "participation/staleness_mean_aggregations",
    "bytes_down": "traffic/down_bytes",
    "bytes_up": "traffic/up_bytes",
    "energy_j": "energy/total_J",
    "wasted_energy_j": "energy/wasted_J",
    "virtual_time_s": "time/virtual_s",
    "wall_time_s": "time/wall_s",
    "learning_rate": "training/learning_rate",
    "skipped_terms": "training/skipped_terms",
    "workers_replaced": "training/workers_replaced",
}
"""Names of the numbers of `rounds.csv`; a round's number is the step."""

OUTCOMES: Mapping[str, str] = {
    "final_accuracy": "accuracy/final",
    "tail_accuracy": "accuracy/tail",
    "best_accuracy": "accuracy/best",
    "final_perplexity": "perplexity/final",
    "best_perplexity": "perplexity/best",
    "participation_rate": "participation/rate",
    "data_share": "participation/data_share",
    "peak_memory_bytes": "memory/run_peak_bytes",
    "bytes_down": "traffic/run_down_bytes",
    "bytes_up": "traffic/run_up_bytes",
    "energy_j": "energy/run_total_J",
    "wasted_energy_j": "energy/run_wasted_J",
    "flights_arrived": "participation/run_arrived_flights",
    "flights_dropped": "participation/run_dropped_flights",
    "rounds": "time/run_rounds",
    "virtual_time_s": "time/run_virtual_s",
    "wall_time_s": "time/run_wall_s",
}
"""Names of the numbers of `summary.json`: one of each for a whole run."""

_COUNTS: Mapping[str, str] = {
    **dict.fromkeys(("online", "offered", "denied", "devices"), "devices"),
    **dict.fromkeys(("selected", "arrived", "dropped", "discarded", "flights"), "flights"),
    **dict.fromkeys(("staleness", "staleness_mean"), "aggregations"),
    **dict.fromkeys(("samples", "batch_size"), "samples"),
    **dict.fromkeys(("test_accuracy", "online_share", "value"), "share"),
    "skipped_terms": "terms",
    "workers_replaced": "workers",
}
_FAMILIES = (
    (r"(^|_)bytes(_|$)", "bytes"),
    (r"_bits_per_second$", "bits per second"),
    (r"(^|_)energy_j$", "J"),
    (r"_s$", "s"),
    (r"^(offered|denied)_", "rounds"),
    (r"^dropped_", "flights"),
)
"""Units of columns by how they are called."""


def unit_of(column: str) -> str:
    """Return the unit of a column: `s`, `bytes`, `share` (0 to 1) or what it counts; empty where it has none."""
    if column in _COUNTS:
        return _COUNTS[column]
    for pattern, unit in _FAMILIES:
        if re.search(pattern, column):
            return unit
    return ""


def round_points(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield name and value of each number of a round; what is not known is left out."""
    for column, name in METRICS.items():
        if (value := row.get(column)) is not None:
            yield name, value


def _denial_points(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    stem = f"denied/{re.sub('[^A-Za-z0-9]+', '_', row['reason'])}"
    yield f"{stem}/devices", row["devices"]
    for which in ("min", "median", "max"):
        if (missing := row[f"shortfall_bytes_{which}"]) is not None:
            yield f"{stem}/shortfall_{which}_bytes", missing


def _diagnostic_points(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    if row["value"] is not None:
        yield f"diagnostics/{row['name']}/block-{row['block']}", row["value"]


POINTS = {RoundRow: round_points, DenialRow: _denial_points, DiagnosticRow: _diagnostic_points}
"""Of which kinds of rows the trackers have curves, and the points of a row; flights are no curves."""


def outcomes_of(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a summary by name, times to each target accuracy too; what is not known is left out."""
    known = {name: summary[key] for key, name in OUTCOMES.items() if summary.get(key) is not None}
    times = summary.get("time_to_accuracy_s") or {}
    return known | {f"time/to_accuracy_{target}_s": at_s for target, at_s in times.items() if at_s is not None}


def metric_of(kind: type[Row], column: str) -> str:
    """Return the name that a column has in a tracker; empty where it has none."""
    return METRICS.get(column, "") if kind is RoundRow else ""


TABLES: Mapping[type[Row], str] = {
    RoundRow: "rounds",
    FlightRow: "flights",
    DeviceRow: "devices",
    DenialRow: "denials",
    DiagnosticRow: "diagnostics",
}
"""What each table is called."""
