"""Figures of several runs: accuracy of each line, and what each method asks of a fleet's memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from neulite_sim.arrays import Floats
from neulite_sim.reports.comparison import Line
from neulite_sim.reports.curves import joined
from neulite_sim.reports.html.accuracy import OVER, accuracy_figure
from neulite_sim.reports.html.blocks import Block, Prose, Switch
from neulite_sim.reports.html.fleet import drawn_memory, needs_of
from neulite_sim.reports.html.line_charts import Series
from neulite_sim.reports.html.run_story import read_rounds, read_story
from neulite_sim.reports.html.wall import wall_blocks
from neulite_sim.reports.html.wording import count, percent

MOST_LINES = 14
"""Lines that one figure can show so that they are told apart."""


def accuracy_of_lines(lines: Sequence[Line], names: Mapping[str, str]) -> tuple[Block, ...]:
    """Return accuracy over time, rounds and bytes: a curve per line, of a group the mean and the range of its seeds.

    Raises:
        DataNotFoundError: the rows of a run are missing or damaged.
    """
    shown = lines[:MOST_LINES]
    tests = {line.name: [_tests(run.path) for run in line.runs if run.not_applicable is None] for line in shown}
    options = []
    for over, place, axis in OVER:
        series = [
            found
            for look, line in enumerate(shown)
            if (found := _mean_curve(names[line.name], tests[line.name], place, look)) is not None
        ]
        if series:
            high = max(line.at[-1] for line in series)
            options.append((over, accuracy_figure(series, over, axis, high, caption=_caption(lines, tests))))
    if not options:
        return (Prose(paragraphs=("Nothing was tested.",)),)
    return (Switch(name="over", question="Accuracy over", options=tuple(options)),)


def _tests(path: Path) -> Floats:
    """Return the tests of a run, a row each: round, virtual seconds, bytes so far, accuracy."""
    return np.array(read_rounds(path).tests, np.float64).reshape(-1, 4)


def _mean_curve(name: str, tests: Sequence[Floats], place: int, look: int) -> Series | None:
    curve = joined([(each[:, place], each[:, 3]) for each in tests])
    if curve is None:
        return None
    is_band = bool((curve.high > curve.low).any())
    tips = [f"{name}: {percent(float(value))}" for value in curve.mean]
    limits = {"low": curve.low.tolist(), "high": curve.high.tolist()} if is_band else {}
    return Series(name=name, at=curve.at.tolist(), values=curve.mean.tolist(), tips=tips, look=look, **limits)


def _caption(lines: Sequence[Line], tests: Mapping[str, Sequence[Floats]]) -> str:
    parts = []
    if any(len(each) > 1 for each in tests.values()):
        parts.append("Line: mean of the seeds; band: from the lowest to the highest of them.")
    if len(lines) > MOST_LINES:
        parts.append(f"{count(len(lines) - MOST_LINES, 'more line')} are not drawn.")
    return " ".join(parts)


def wall_of_lines(lines: Sequence[Line], names: Mapping[str, str]) -> tuple[Block, ...]:
    """Return the fleet's memory with what the smallest submodel of each line needs; nothing of unlike fleets.

    Raises:
        DataNotFoundError: the rows of a run are missing or damaged.
    """
    fleets = {json.dumps(run.scenario.get("population"), sort_keys=True) for line in lines for run in line.runs}
    seed = lines[0].runs[0].summary.get("seed")
    if len(fleets) != 1:
        return ()
    needs: dict[str, int] = {}
    memory = None
    for line in lines[:MOST_LINES]:
        run = next((run for run in line.runs if run.summary.get("seed") == seed), None)
        if run is None or (not run.is_complete and not run.summary.get("rounds")):
            continue
        story = read_story(run.path)
        memory = memory or drawn_memory(run.path, story.flown)
        own = needs_of(story.flown, story.shortfalls, memory)
        if own:
            smallest = next(iter(own))
            needs[f"{names[line.name]} ({smallest})"] = own[smallest]
    if memory is None:
        return ()
    note = Prose(
        paragraphs=(f"The fleet of seed {seed}, and the least that each lets a device in with.",), is_note=True
    )
    return (note, *wall_blocks(memory, dict(sorted(needs.items(), key=lambda need: need[1]))))
