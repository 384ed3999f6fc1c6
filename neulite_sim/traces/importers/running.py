"""One import from beginning to end: settings checked, file read, table written and read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from neulite_sim.errors import OutputError, Problem, ScenarioError
from neulite_sim.registry import TRACE_FORMAT, Component, Options, component
from neulite_sim.scenario.problems import in_words
from neulite_sim.traces.availability import read_trace
from neulite_sim.traces.importers.contract import ReadForeign
from neulite_sim.traces.individuals import read_individuals
from neulite_sim.traces.tables import write_table
from neulite_sim.traces.throughput import read_throughput


def import_trace(
    format_name: str, paths: Sequence[Path], *, settings: Mapping[str, Any] | None = None, out: Path | None = None
) -> dict[str, Any]:
    """Turn foreign files into one of the project's own; return what it holds.

    `settings` are options of the format; `out` is by default called after the first file, in the current directory.
    The result has `out`, `format`, `kind`, `notes`, the facts of the importer, and a summary of the table read back.

    Raises:
        UnknownComponentError: no such format.
        ScenarioError: wrong settings, or a file that is not of the format.
        DataNotFoundError: a file is not there or cannot be read.
        OutputError: the table exists already, or cannot be written.
    """
    found = component(TRACE_FORMAT, format_name)
    summary: dict[str, Any] = {}
    reader: ReadForeign = found.build(_options(found, settings or {}))
    imported = reader(paths)
    target = out or Path(f"{paths[0].name.split('.')[0] or 'trace'}.{imported.kind}.csv")
    if target.exists():
        raise OutputError(f"{target} exists already", hint="remove it, or name another with --out")
    names = ", ".join(path.name for path in paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
    write_table(
        target,
        kind=imported.kind,
        source=f"{names}, imported as {format_name}; {found.source}",
        notes=imported.notes,
        header=imported.header,
        rows=imported.rows,
    )
    try:
        summary = SUMMARIES[imported.kind](target)
    except ScenarioError as wrong:
        raise ScenarioError(_of_source(problem, paths[0]) for problem in wrong.problems) from None
    finally:
        if not summary:
            target.unlink()
    return {"out": str(target), "format": format_name, "kind": imported.kind, **summary,
            **imported.facts, "notes": list(imported.notes)}  # fmt: skip


def _of_source(problem: Problem, path: Path) -> Problem:
    """Return a problem of the table that was written as one of the file that it was made from."""
    message = f"gives a table that is wrong at its line {problem.line}: {problem.message}"
    return replace(problem, message=message, file=str(path), line=None)


def _options(found: Component, settings: Mapping[str, Any]) -> Options:
    try:
        return found.options.model_validate(dict(settings))
    except ValidationError as error:
        problems = [
            Problem(key=".".join(map(str, keys)), message=message, file="--set")
            for keys, message in in_words(error, dict(settings), found.options)
        ]
        raise ScenarioError(problems) from None


def _availability(path: Path) -> dict[str, Any]:
    trace = read_trace(path)
    counts = np.diff(trace.intervals.offsets)
    rows = np.repeat(np.arange(len(counts)), counts)
    online_s = np.bincount(rows, trace.intervals.end_s - trace.intervals.start_s, minlength=len(counts))
    share = online_s / (np.full(len(counts), trace.last_end_s) if trace.period_s is None else trace.period_s)
    return {
        "devices": len(counts),
        "intervals": int(counts.sum()),
        "online_share": float(share.mean()),
        "online_share_quartiles": _quartiles(share),
    }


def _throughput(path: Path) -> dict[str, Any]:
    traces = read_throughput(path, "out").traces
    means = np.array([trace.total_bits / trace.span_s for trace in traces])
    spans_s = np.array([trace.span_s for trace in traces])
    return {
        "traces": len(traces),
        "steps": sum(len(trace.rates) for trace in traces),
        "span_s_quartiles": _quartiles(spans_s),
        "bits_per_second_quartiles": _quartiles(means),
    }


def _devices(path: Path) -> dict[str, Any]:
    table = read_individuals(path, "out")
    summary: dict[str, Any] = {"devices": len(table.models)}
    return summary | {f"{name}_quartiles": _quartiles(values) for name, values in table.columns.items()}


def _quartiles(values: Any) -> list[float]:
    return [float(value) for value in np.quantile(values, [0.25, 0.5, 0.75])]


SUMMARIES: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    "availability": _availability,
    "throughput": _throughput,
    "devices": _devices,
}
