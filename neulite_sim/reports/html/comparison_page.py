"""The page of several runs: who reached what, and which differences are more than luck."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neulite_sim.reports.baseline import baseline_of, difference
from neulite_sim.reports.comparison import Line, lines_of, notes_of
from neulite_sim.reports.comparison_table import comparison_tables
from neulite_sim.reports.html.asking import asked
from neulite_sim.reports.html.blocks import (
    Block,
    Commands,
    Facts,
    Grid,
    Page,
    Prose,
    Section,
    Tile,
    with_content,
)
from neulite_sim.reports.html.compared import tests_of_lines, wall_of_lines
from neulite_sim.reports.html.differences import ACCURACY, Compared, differences
from neulite_sim.reports.html.measured import said_measures
from neulite_sim.reports.html.wording import NONE, count, duration, listed, percent, points, size
from neulite_sim.reports.intervals import mean_interval
from neulite_sim.reports.lines import accuracy
from neulite_sim.reports.measures import PERPLEXITY, measures_of
from neulite_sim.reports.run_names import names_of
from neulite_sim.reports.table import TextTable
from neulite_sim.results.stored import StoredRun

_MOST_TILES = 6
_MOST_WARNINGS = 4
_MOST_RUNS = 400


def comparison_page(runs: Sequence[StoredRun], *, baseline: str | None, shown_as: Sequence[str]) -> Page:
    """Return the page of runs; `shown_as` are their folders as commands have them.

    Raises:
        ScenarioError: no group is called as the baseline.
        DataNotFoundError: the rows of a run are missing or damaged.
    """
    lines, notes = lines_of(runs, grouped=True)
    groups = [line for line in lines if line.is_group]
    held = baseline_of(lines, baseline) if baseline is not None else groups[0] if len(groups) > 1 else None
    compared = Compared(
        lines=lines,
        names=_names(lines),
        notes=notes,
        baseline=held,
    )
    sections = (
        Section(name="differences", title="What differs, and by how much", blocks=differences(compared)),
        Section(name="accuracy", title=said_measures(runs), blocks=tests_of_lines(lines, compared.names)),
        Section(name="numbers", title="All numbers", blocks=_numbers(compared)),
        Section(name="memory", title="The memory wall", blocks=wall_of_lines(lines, compared.names)),
        Section(name="question", title="What was asked", blocks=_asked(compared)),
        Section(name="runs", title="Runs", blocks=_runs(compared)),
        Section(name="repeat", title="Repeat it", blocks=_repeat(compared, shown_as)),
    )
    names = list(dict.fromkeys(str(run.summary["name"]) for run in runs))
    return Page(
        title=names[0] if len(names) == 1 else f"{count(len(lines), 'group')} compared",
        subtitle=f"{count(len(runs), 'run')}: {listed([compared.name(line) for line in lines[:8]])}"
        f"{'' if len(lines) <= 8 else ' and more'}",
        answer=answer(compared),
        tiles=_tiles(compared),
        sections=with_content(sections),
        made_of=count(len(runs), "run folder"),
        # What begins with the name of a run keeps its letters.
        warnings=tuple([*notes, *(f"{note[:1].upper()}{note[1:]}" for note in notes_of(lines))][:_MOST_WARNINGS]),
    )


def _names(lines: Sequence[Line]) -> dict[str, str]:
    """Return what each line is called."""
    return {line.name: name for line, name in zip(lines, names_of(lines), strict=True)}


def _values(line: Line) -> list[float]:
    return [
        float(run.summary[ACCURACY])
        for run in line.runs
        if run.not_applicable is None and run.summary.get(ACCURACY) is not None
    ]


def answer(compared: Compared) -> str:
    """Return the result of a comparison in a few sentences."""
    means = {line.name: mean_interval(values).mean for line in compared.lines if (values := _values(line))}
    if not means:
        return "None of these runs was tested."
    best = next(line for line in compared.lines if line.name == max(means, key=lambda name: means[name]))
    seeds = len(_values(best))
    over = f" in the mean of {seeds} seeds" if seeds > 1 else " with one seed"
    said = f"{compared.name(best)} reached {accuracy(means[best.name])} accuracy{over}"
    said += ", more than any other." if len(means) > 1 else "."
    held = compared.baseline
    if held is None:
        return said
    verdicts: dict[str, list[str]] = {"better": [], "worse": [], "not told apart": []}
    for line in compared.others:
        found = difference(line, held, ACCURACY)
        if found is not None:
            verdicts[found.verdict()].append(f"{compared.name(line)} ({points(found.mean)})")
    words = {"better": "better", "worse": "worse", "not told apart": "not told apart from it"}
    parts = [
        f"{listed(names)} {'is' if len(names) == 1 else 'are'} {words[verdict]}"
        for verdict, names in verdicts.items()
        if names
    ]
    if parts:
        said += f" Against {compared.name(held)}, {'; '.join(parts)}."
    nobody = [compared.name(line) for line in compared.lines if line.status == "NA"]
    return said + (f" No device could train with {listed(nobody)}." if nobody else "")


def _tiles(compared: Compared) -> tuple[Tile, ...]:
    lines = list(compared.lines)
    if len(lines) > _MOST_TILES:
        means = {line.name: mean_interval(values).mean if (values := _values(line)) else -1.0 for line in lines}
        lines = sorted(lines, key=lambda line: -means[line.name])[:_MOST_TILES]
    return tuple(_tile(compared, line) for line in lines)


def _tile(compared: Compared, line: Line) -> Tile:
    values = _values(line)
    if not values:
        return Tile(title=compared.name(line), value="NA" if line.status == "NA" else NONE, details=(line.status,))
    found = mean_interval(values)
    if found.half_width is None:
        details = [count(1, "seed")]
    else:
        details = [f"± {found.half_width * 100:.1f} (95 % interval, {found.count} seeds)"]
    if compared.baseline is line:
        details.append("others are compared with this")
    elif compared.baseline is not None and line.is_group:
        against = difference(line, compared.baseline, ACCURACY)
        if against is not None:
            details.append(f"{points(against.mean)}: {against.verdict()}")
    perplexity = line.of(PERPLEXITY.summarised).mean
    if perplexity is not None:
        details.append(f"perplexity {PERPLEXITY.say(perplexity)} at the end")
    memory = line.of("peak_memory_bytes").mean
    rate = line.of("participation_rate").mean
    if memory is not None and rate is not None:
        details.append(f"{percent(rate)} of devices can take part, peak {size(memory)}")
    return Tile(title=compared.name(line), value=accuracy(found.mean), details=tuple(details))


def _numbers(compared: Compared) -> tuple[Block, ...]:
    tables = comparison_tables(compared.lines, notes=compared.notes, width=None, baseline=compared.baseline)
    return tuple(Grid(table=table) for table in tables)


def _asked(compared: Compared) -> tuple[Block, ...]:
    """Return what all runs have in common, and what they do not."""
    told = [dict(asked(line.runs[0].scenario)) for line in compared.lines]
    terms = list(dict.fromkeys(term for each in told for term in each))
    same = [(term, told[0][term]) for term in terms if len({each.get(term) for each in told}) == 1]
    blocks: list[Block] = [Facts(items=tuple(same))] if same else []
    differing = [term for term in terms if term not in dict(same)]
    if differing and len(told) > 1:
        heads = ("", *differing)
        rows = tuple(
            (compared.name(line), *(each.get(term, NONE) for term in differing))
            for line, each in zip(compared.lines, told, strict=True)
        )
        blocks.append(Grid(table=TextTable(title="Where they differ", headers=heads, rows=rows)))
    elif len(told) > 1 and len({line.runs[0].study.text for line in compared.lines}) > 1:
        blocks.append(Prose(paragraphs=("They differ in details; compare their scenario.yaml.",), is_note=True))
    return tuple(blocks)


def _runs(compared: Compared) -> tuple[Block, ...]:
    pairs = [(line, run) for line in compared.lines for run in line.runs]
    has_perplexity = PERPLEXITY in measures_of([run for _, run in pairs])
    found = ("accuracy", *([PERPLEXITY.name] if has_perplexity else []), "virtual time", "peak memory")
    heads = ("run", "of", "seed", *found, "state", "digest")
    rows, values = [], []
    for line, run in pairs[:_MOST_RUNS]:
        summary = run.summary
        state = "complete" if run.is_complete else "cut off"
        perplexity = summary.get(PERPLEXITY.summarised)
        cells: tuple[Any, ...] = (
            summary.get(ACCURACY),
            *([perplexity] if has_perplexity else []),
            summary.get("virtual_time_s"),
            summary.get("peak_memory_bytes"),
        )
        rows.append(
            (
                run.path.resolve().name,
                compared.name(line),
                str(summary.get("seed")),
                accuracy(cells[0]),
                *([PERPLEXITY.say(perplexity)] if has_perplexity else []),
                duration(cells[-2]),
                size(cells[-1]),
                "NA" if run.not_applicable else state,
                str(summary.get("digest") or NONE)[:12],
            )
        )
        values.append((None, None, summary.get("seed"), *cells, None, None))
    note = (f"{len(pairs) - _MOST_RUNS:,} more runs are not listed.",) if len(pairs) > _MOST_RUNS else ()
    table = TextTable(headers=heads, rows=tuple(rows), numeric=frozenset(heads[2:-2]), notes=note)
    return (Grid(table=table, is_tool=len(rows) > 8, values=tuple(values)),)


def _repeat(compared: Compared, shown_as: Sequence[str]) -> tuple[Block, ...]:
    folders = " ".join(shown_as[:60]) + (" ..." if len(shown_as) > 60 else "")
    held = "" if compared.baseline is None else f" --baseline {compared.baseline.name}"
    items = (
        ("The numbers of this comparison", f"neulite-sim compare {folders} --group{held}"),
        ("This page", f"neulite-sim report {folders}{held} --out report.html"),
        (
            "One of the runs again: equal digests mean equal runs, bit for bit",
            "neulite-sim run RUN_DIR/scenario.yaml --out again",
        ),
    )
    return Prose(paragraphs=("From the folder of this file.",)), Commands(items=items)
