"""Figures of several runs: what tests of each line found, and what each method asks of a fleet's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from neulite_sim.arrays import Floats
from neulite_sim.reports.comparison import Line
from neulite_sim.reports.curves import joined
from neulite_sim.reports.families import unlike_section
from neulite_sim.reports.html.blocks import Block, Prose
from neulite_sim.reports.html.devices import read_devices
from neulite_sim.reports.html.fleet import Memory, drawn_memory, kept_memory, needs_of
from neulite_sim.reports.html.line_charts import Series
from neulite_sim.reports.html.measured import OVER, measure_figure, switch_of
from neulite_sim.reports.html.run_story import num_devices_of, read_rounds, read_story
from neulite_sim.reports.html.wall import wall_blocks
from neulite_sim.reports.html.wording import count
from neulite_sim.reports.measures import Measure, measures_of
from neulite_sim.results.stored import StoredRun

MOST_LINES = 14
"""Lines that one figure can show so that they are told apart."""


def tests_of_lines(lines: Sequence[Line], names: Mapping[str, str]) -> tuple[Block, ...]:
    """Return what tests found over time, rounds and bytes: a curve per line, of a group the mean and its seeds' range.

    Raises:
        DataNotFoundError: the rows of a run are missing or damaged.
    """
    shown = lines[:MOST_LINES]
    rounds = {line.name: [read_rounds(run.path) for run in line.runs if run.not_applicable is None] for line in shown}
    blocks: list[Block] = []
    for measure in measures_of([run for line in lines for run in line.runs]):
        tests = {name: [_columns(each.tests[measure]) for each in own] for name, own in rounds.items()}
        caption = _caption(measure, lines, tests)
        options = []
        for over, place, axis in OVER:
            series = [
                found
                for look, line in enumerate(shown)
                if (found := _mean_curve(measure, names[line.name], tests[line.name], place, look)) is not None
            ]
            if series:
                high = max(line.at[-1] for line in series)
                options.append((over, measure_figure(measure, series, over, axis, high, caption=caption)))
        if options:
            blocks.append(switch_of(measure, options))
    return tuple(blocks) or (Prose(paragraphs=("Nothing was tested.",)),)


def _columns(tests: Sequence[tuple[int, float, int, float]]) -> Floats:
    """Return tests, a row each: round, virtual seconds, bytes so far, what was found."""
    return np.array(tests, np.float64).reshape(-1, 4)


def _mean_curve(measure: Measure, name: str, tests: Sequence[Floats], place: int, look: int) -> Series | None:
    curve = joined([(each[:, place], each[:, 3]) for each in tests])
    if curve is None:
        return None
    tips = [f"{name}: {measure.say(float(value))}" for value in curve.mean]
    limits = {"low": curve.low.tolist(), "high": curve.high.tolist()} if curve.has_band else {}
    return Series(name=name, at=curve.at.tolist(), values=curve.mean.tolist(), tips=tips, look=look, **limits)


def _caption(measure: Measure, lines: Sequence[Line], tests: Mapping[str, Sequence[Floats]]) -> str:
    parts = []
    if any(len(each) > 1 for each in tests.values()):
        parts.append(
            f"Line: mean of the seeds, each counting with its last {measure.name} once it has ended; band: from the "
            "lowest to the highest of them."
        )
    if len(lines) > MOST_LINES:
        parts.append(f"{count(len(lines) - MOST_LINES, 'more line')} are not drawn.")
    return " ".join(parts)


def wall_of_lines(lines: Sequence[Line], names: Mapping[str, str]) -> tuple[Block, ...]:
    """Return the fleet's memory with what the smallest submodel of each line needs; nothing of unlike fleets.

    Raises:
        DataNotFoundError: the rows of a run are missing or damaged.
    """
    seed = lines[0].runs[0].summary.get("seed")
    if unlike_section([run.study for line in lines for run in line.runs], "fleets", "population"):
        return ()
    needs: dict[str, int] = {}
    holders: dict[str, int] = {}
    memory = None
    for line in lines[:MOST_LINES]:
        run = next((run for run in line.runs if run.summary.get("seed") == seed), None)
        if run is None or (not run.is_complete and not run.summary.get("rounds")):
            continue
        own, held = _memory_of(run)
        memory = memory or own
        if held:
            smallest, (need, num_holders) = min(held.items(), key=lambda item: (item[1][0], item[0]))
            name = f"{names[line.name]} ({smallest})"
            needs[name] = need
            if num_holders is not None:
                holders[name] = num_holders
    if memory is None:
        return ()
    note = Prose(
        paragraphs=(f"The fleet of seed {seed}, and the smallest step of each that a device takes or lacks.",),
        is_note=True,
    )
    memory = replace(memory, holders=holders)
    return (note, *wall_blocks(memory, dict(sorted(needs.items(), key=lambda need: need[1]))))


def _memory_of(run: StoredRun) -> tuple[Memory, dict[str, tuple[int, int | None]]]:
    """Return the memory of a run's fleet, and of each submodel its least need and, where it is kept, its holders."""
    devices = read_devices(run.path, num_devices=num_devices_of(run), most_rows=0)
    if devices is not None:
        return kept_memory(devices), {name: (need.least, need.holders) for name, need in devices.needs.items()}
    story = read_story(run.path)
    memory = drawn_memory(run.path, story.flown)
    return memory, {name: (need, None) for name, need in needs_of(story.flown, story.shortfalls, memory).items()}
