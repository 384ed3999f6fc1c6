"""AI-Benchmark's table of phones as a joint distribution of memory and speed.

A. Ignatov et al., "AI Benchmark: All About Deep Learning on Smartphones in 2019", ICCV Workshops 2019. A line is a
phone with its RAM and scores; a higher score is a faster phone. Phones with little memory are slow phones, which two
independent draws would lose.
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neulite_sim.bounds import Name
from neulite_sim.errors import close_matches
from neulite_sim.population.importers.contract import Imported, Reader, counted, number, only, read_text, refused
from neulite_sim.registry import Component, Options


class BenchmarkOptions(Options):
    """Which columns of the table are taken."""

    speed: Name = "CPU_F_AI_Score"
    """Column with the speed, higher is faster; the CPU's score in 32-bit floats, in which training computes."""
    memory: Name = "ram_bytes"
    """Column with the installed memory, in bytes."""
    reference: Name | None = None
    """Model whose speed is `speed_factor` 1; the median of the table where it is not given."""


def _read(options: BenchmarkOptions, paths: Sequence[Path]) -> Imported:
    path = only(paths, "a table of phones")
    phones = _phones(path, options)
    right = [(model, memory, speed) for model, memory, speed in phones if 0 < memory < 2**60 and 0 < speed < np.inf]
    if not right:
        raise refused(path, f"none of its {counted(len(phones), 'phone')} has memory and speed above 0")
    reference = _reference(path, right, options.reference)
    rows = [(model, round(memory), speed / reference) for model, memory, speed in right]
    left_out = len(phones) - len(right)
    whose = options.reference or "the median phone"
    notes = [f"speed_factor 1 is {options.speed} {reference:g}, {whose}"]
    if left_out:
        notes.append(f"{counted(left_out, 'phone')} left out: no memory or no speed")
    return Imported(
        kind="devices",
        header=("model", "memory_bytes", "speed_factor"),
        rows=rows,
        notes=tuple(notes),
        facts={"reference_score": reference, "left_out": left_out},
    )


def _phones(path: Path, options: BenchmarkOptions) -> list[tuple[str, float, float]]:
    reader = csv.DictReader(read_text(path).splitlines())
    try:
        header, lines = reader.fieldnames or [], list(reader)
    except csv.Error as error:
        raise refused(path, f"is not a CSV table ({error})", reader.line_num) from None
    for column in ("model", options.memory, options.speed):
        if column not in header:
            near = close_matches(column, header)
            raise refused(path, f"has no column {column!r}{near} (columns: {', '.join(header)[:300] or 'none'})", 1)
    return [(line["model"] or "", number(line[options.memory] or ""), number(line[options.speed] or ""))
            for line in lines]  # fmt: skip


def _reference(path: Path, phones: Sequence[tuple[str, float, float]], model: str | None) -> float:
    if model is None:
        return statistics.median(speed for _, _, speed in phones)
    found = [speed for name, _, speed in phones if name == model]
    if not found:
        near = close_matches(model, {name for name, _, _ in phones})
        raise refused(path, f"reference {model!r} is none of its {counted(len(phones), 'phone')}{near}")
    return statistics.median(found)


def _build(options: BenchmarkOptions) -> Reader:
    return lambda paths: _read(options, paths)


COMPONENT = Component(
    kind="ai-benchmark",
    summary="AI-Benchmark's table of phones: installed memory and speed together",
    source="Ignatov et al., AI Benchmark, ICCV Workshops 2019, https://ai-benchmark.com",
    options=BenchmarkOptions,
    build=_build,
)
