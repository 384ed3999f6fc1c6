"""The page of a memory-budget study: who could take part at which budget, what stops the others, what a round costs."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from markupsafe import Markup

from neulite_sim.reports.html.bar_charts import dumbbells
from neulite_sim.reports.html.blocks import (
    Block,
    Commands,
    Facts,
    Figure,
    Grid,
    Key,
    Page,
    Prose,
    Section,
    Tile,
    with_content,
)
from neulite_sim.reports.html.line_charts import Series, key_of_line, line_chart
from neulite_sim.reports.html.study import BudgetRow, Study, read_study
from neulite_sim.reports.html.svg import Size, both
from neulite_sim.reports.html.ticks import Axis, byte_axis, number_axis, percent_axis, time_axis
from neulite_sim.reports.html.wall import DEFINITION
from neulite_sim.reports.html.wording import NONE, count, duration, listed, percent, size
from neulite_sim.reports.lines import accuracy, number
from neulite_sim.reports.table import TextTable

_MOST_LINES = 7
_MOST_BARS = 40
_MOST_TILES = 6
_KINDS = {
    "memory": ("every device has exactly this memory", "--memory"),
    "cap": ("devices have their own memory, at most this", "--cap-memory"),
    "scale": ("devices have their own memory times this", "--scale-memory"),
}


def study_page(path: Path, *, shown_as: str) -> Page:
    """Return the page of a study; `shown_as` is its file as commands have it.

    Raises:
        DataNotFoundError: the file cannot be read, or holds no study.
    """
    return page_of(read_study(path), shown_as=shown_as)


def page_of(study: Study, *, shown_as: str) -> Page:
    """Return the page of a study that has been read."""
    content, path = study.content, study.path
    sections = (
        Section(name="question", title="What was asked", blocks=(Facts(items=tuple(_asked(study))),)),
        Section(name="part", title="Who can take part", blocks=tuple(_part(study))),
        Section(name="accuracy", title="Accuracy", blocks=tuple(_accuracy(study))),
        Section(name="round", title="What a round costs", blocks=tuple(_rounds(study))),
        Section(name="classes", title="What each class of device lacks", blocks=tuple(_classes(study))),
        Section(name="repeat", title="Repeat it", blocks=_repeat(study, shown_as)),
    )
    name = content.scenario or path.stem
    what = f"{content.model} on {count(content.devices, 'device')}" if content.model and content.devices else path.name
    return Page(
        title=f"{name}: other memory budgets",
        subtitle=what,
        answer=answer(study),
        tiles=tuple(_tiles(study)),
        sections=with_content(sections),
        made_of=path.name,
        warnings=()
        if study.is_whole
        else ("This file is a table of rows; `whatif --json` also keeps thresholds and classes of devices.",),
    )


def _label(study: Study, row: BudgetRow) -> str:
    return f"×{row.scale:g}" if row.scale is not None else size(row.budget_bytes)


def _everyone(study: Study) -> dict[str, int]:
    """Return the budget from which everybody takes part, of the variants that have one, the least first."""
    known = {name: at for name, at in study.content.includes_everyone_at_bytes.items() if name in study.lines}
    return dict(sorted(known.items(), key=lambda item: (item[1], item[0])))


def answer(study: Study) -> str:
    """Return the result of a study in a few sentences."""
    everyone = _everyone(study)
    if everyone:
        least, most = min(everyone.values()), max(everyone.values())
        first, last = ([name for name, at in everyone.items() if at == limit] for limit in (least, most))
        said = f"With {_some(first)}, every device takes part from {size(least)} on"
        return f"{said}; with {_some(last)}, from {size(most)} on." if most > least else f"{said}."
    full = {
        name: budget
        for name, rows in study.lines.items()
        for budget, row in sorted(zip(study.budgets, rows, strict=True), reverse=True, key=lambda pair: pair[0])
        if row.participation_rate >= 1
    }
    if not full:
        return "At none of these budgets can every device take part, whatever the method."
    least_budget = min(full.values())
    place = study.budgets.index(least_budget)
    at_least = _label(study, next(iter(study.lines.values()))[place])
    first = [name for name, budget in full.items() if budget == least_budget]
    return f"With {_some(first)}, every device takes part from {at_least} on, of the budgets that were asked."


def _tiles(study: Study) -> Sequence[Tile]:
    """Return a tile per budget from which everybody takes part, the least first; variants that agree share one."""
    whole = study.content.trains_everything_at_bytes
    alike: dict[tuple[int, int | None], list[str]] = {}
    for name, at in _everyone(study).items():
        alike.setdefault((at, whole.get(name)), []).append(name)
    tiles = []
    for (at, all_at), names in list(alike.items())[:_MOST_TILES]:
        details = ["and every device takes part"]
        if all_at is not None:
            details.append("and trains all of it" if all_at == at else f"and trains all of it from {size(all_at)}")
        tiles.append(Tile(title=_some(names), value=size(at), details=tuple(details)))
    return tiles


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {count(len(names) - 1, 'more', 'more')}"


def _asked(study: Study) -> Sequence[tuple[str, str]]:
    content = study.content
    rows = next(iter(study.lines.values()))
    facts = [
        ("Scenario", content.scenario),
        ("Model", content.model),
        ("Devices", f"{content.devices:,}" if content.devices else ""),
        (
            "Budgets",
            f"{listed([_label(study, row) for row in rows])}: {_KINDS[content.budget_kind][0]}"
            if study.is_whole or content.budget_kind == "scale"
            else listed([_label(study, row) for row in rows]),
        ),
        ("Methods", " · ".join(study.lines)),
        ("Memory", DEFINITION),
        ("Left out", "; ".join(f"{name}: {why}" for name, why in content.not_applicable.items())),
        ("Notes", " ".join(f"{note}." for note in content.notes)),
    ]
    return [(term, text) for term, text in facts if text]


def _by_budget(
    study: Study, title: str, cell: Callable[[BudgetRow], str], *, shares: bool = False, notes: Sequence[str] = ()
) -> Grid:
    """Return a table with a line per variant and a column per budget."""
    heads = ("method", *(_label(study, row) for row in next(iter(study.lines.values()))))
    rows = tuple((name, *map(cell, line)) for name, line in study.lines.items())
    states = tuple(("", *(f"heat-{_heat(row.participation_rate)}" for row in line)) for line in study.lines.values())
    table = TextTable(title=title, headers=heads, rows=rows, numeric=frozenset(heads[1:]), notes=tuple(notes))
    return Grid(table=table, states=states if shares else ())


def _heat(share: float) -> int:
    return 4 if share >= 1 else 0 if share <= 0 else 1 + min(2, int(share * 3))


def _part(study: Study) -> Sequence[Block]:
    blocks: list[Block] = []
    everyone, whole = _everyone(study), study.content.trains_everything_at_bytes
    if study.content.budget_kind == "memory" and everyone:
        blocks.append(_thresholds(everyone, whole))
    elif len(study.lines) <= _MOST_LINES and len(study.budgets) > 1:
        blocks.append(
            _lines(
                study,
                "Devices that can take part",
                lambda row: row.participation_rate,
                percent,
                lambda top: percent_axis("devices", 0.0, 1.0, 5),
            )
        )
    differs = any(percent(row.participation_rate) != percent(row.data_share) for row in study.content.rows)
    blocks.append(
        _by_budget(study, "Devices that can take part", lambda row: percent(row.participation_rate), shares=True)
    )
    if differs:
        blocks.append(_by_budget(study, "Data that they hold", lambda row: percent(row.data_share)))
    blocks.append(
        _by_budget(
            study,
            "What stops the others",
            lambda row: (
                NONE
                if row.binding_submodel is None
                else f"{row.binding_submodel}, {size(row.shortfall_bytes_median)} short"
            ),
            notes=(
                f"The smallest submodel that some device cannot hold, and what it is short of in the median; {NONE}: "
                "every device holds all.",
            ),
        )
    )
    return blocks


def _range(low: float, high: float) -> str:
    return size(low) if high == low else f"{size(low)} to {size(high)}"


def _thresholds(everyone: dict[str, int], whole: dict[str, int]) -> Figure:
    names = list(everyone)[:_MOST_BARS]
    rows = [
        (
            name,
            float(everyone[name]),
            float(max(whole.get(name, 0), everyone[name])),
            _range(everyone[name], max(whole.get(name, 0), everyone[name])),
        )
        for name in names
    ]
    top = max(high for _, _, high, _ in rows)
    said = "; ".join(f"{name} {words}" for name, _, _, words in rows)
    about = f"Budget from which every device takes part, to that at which it holds every submodel: {said}."

    def draw(room: Size) -> Markup:
        return dumbbells(room, rows, x=lambda most: byte_axis("memory of every device", top * 1.02, most), about=about)

    return Figure(
        title="From which memory on",
        drawing=both(draw),
        caption="Open circle: every device can take part. Full circle: every device can train all of it.",
    )


def _lines(
    study: Study,
    title: str,
    value: Callable[[BudgetRow], float | None],
    say: Callable[[float], str],
    y_of: Callable[[float], Axis],
) -> Figure:
    """Return a line per variant over the budgets, variants that agree as one; budgets without a value are left out."""
    alike: dict[tuple[float | None, ...], list[str]] = {}
    for name, rows in study.lines.items():
        alike.setdefault(tuple(value(row) for row in rows), []).append(name)
    labels = [_label(study, row) for row in next(iter(study.lines.values()))]
    lines = []
    for look, (values, names) in enumerate(alike.items()):
        name = ", ".join(names)
        known = [
            (at, found, text)
            for at, found, text in zip(study.budgets, values, labels, strict=True)
            if found is not None
        ]
        tips = [f"{name}, {text}: {say(found)}" for _, found, text in known]
        at, shown = [at for at, _, _ in known], [found for _, found, _ in known]
        lines.append(Series(name=name, at=at, values=shown, look=look, tips=tips))
    top = max((found for line in lines for found in line.values), default=1.0)
    is_scale = study.content.budget_kind == "scale"
    about = (
        f"{title}, at the largest budget: "
        + "; ".join(f"{line.name} {say(line.values[-1])}" for line in lines if line.values)
        + "."
    )

    def x(most: int) -> Axis:
        if is_scale:
            return number_axis("factor of the fleet's own memory", 0.0, study.budgets[-1], most)
        return byte_axis("memory budget", study.budgets[-1], most)

    def draw(room: Size) -> Markup:
        return line_chart(room, lines, x=x, y=y_of(top), about=about)

    keys = tuple(Key(mark=key_of_line(line.look), name=line.name) for line in lines)
    return Figure(title=title, drawing=both(draw), keys=keys)


def _accuracy(study: Study) -> Sequence[Block]:
    if not study.has_learning:
        return ()
    blocks: list[Block] = []
    if len(study.lines) <= _MOST_LINES and len(study.budgets) > 1:
        blocks.append(
            _lines(
                study,
                "Accuracy",
                lambda row: row.tail_accuracy,
                accuracy,
                lambda top: percent_axis("test accuracy", 0.0, top, 5),
            )
        )
    blocks.append(
        _by_budget(
            study,
            "Accuracy of real runs",
            lambda row: "NA" if row.tail_accuracy is None else accuracy(row.tail_accuracy),
            notes=("Mean of up to three last tests; NA: nobody could train.",),
        )
    )
    if any(row.final_perplexity is not None for row in study.content.rows):
        blocks.append(
            _by_budget(
                study,
                "Perplexity of real runs",
                lambda row: "NA" if row.final_perplexity is None else number(row.final_perplexity, 2),
                notes=("At the end; lower is better.",),
            )
        )
    return blocks


def _rounds(study: Study) -> Sequence[Block]:
    if all(row.round_s is None for row in study.content.rows):
        return ()
    blocks: list[Block] = []
    if len(study.lines) <= _MOST_LINES and len(study.budgets) > 1:
        blocks.append(
            _lines(study, "Expected time of a round", lambda row: row.round_s, duration, lambda top: _seconds_up(top))
        )
    is_cut = any(row.ends_after_rounds for row in study.content.rows)
    drawn = study.content.devices_per_round
    notes = [f"The slowest of {drawn} devices drawn among those that can, in the mean."] if drawn else []
    notes += ["*: the run ends before its last round, because a later stage fits nobody."] if is_cut else []
    blocks.append(
        _by_budget(
            study,
            "Expected time of a synchronous round",
            notes=notes,
            cell=lambda row: (
                NONE if row.round_s is None else f"{duration(row.round_s)}{'*' if row.ends_after_rounds else ''}"
            ),
        )
    )
    blocks.append(_by_budget(study, "Expected traffic of a round, down and up", lambda row: size(row.bytes_per_round)))
    return blocks


def _seconds_up(top: float) -> Axis:
    return time_axis("a round", top * 1.05, 5)


def _classes(study: Study) -> Sequence[Block]:
    rows = study.content.device_classes
    if not rows:
        return ()
    heads = (
        "device class",
        "devices",
        "method",
        "submodel",
        "needs",
        "least own",
        "median own",
        "least lacks",
        "median lacks",
    )
    seen = dict.fromkeys(
        (
            row.device_class,
            f"{row.devices:,}",
            row.variant,
            row.submodel,
            size(row.needed_bytes),
            size(row.memory_bytes_min),
            size(row.memory_bytes_median),
            *(size(missing) if missing else NONE for missing in (row.missing_bytes_min, row.missing_bytes_median)),
        )
        for row in rows[:600]
    )
    found = {tuple(map(str, cells)): row for cells, row in zip(seen, rows, strict=False)}
    table = TextTable(
        headers=heads,
        rows=tuple(found),
        numeric=frozenset((heads[1], *heads[4:])),
        notes=("Lacks: each device's need against its own memory; at the one that lacks most, and at the median.",),
    )
    return (Grid(table=table, is_tool=len(found) > 8),)


def _repeat(study: Study, shown_as: str) -> tuple[Block, ...]:
    content = study.content
    option = _KINDS[content.budget_kind][1]
    values = ",".join(f"{budget:g}" if content.budget_kind == "scale" else str(int(budget)) for budget in study.budgets)
    items = [("This page", f"neulite-sim report {shown_as} --out report.html")]
    said = "From the folder of this file."
    if study.is_whole:
        trained = " --train" if study.has_learning else ""
        scenario = shlex.quote(f"{content.scenario}.yaml")
        # A study of an earlier version does not say how it was asked for.
        asked = content.command or f"neulite-sim whatif {scenario} {option} {values}{trained} --json"
        items.insert(0, ("The study, as it was asked for" if content.command else "The study, from its scenario file",
                         f"{asked} > {shown_as}"))  # fmt: skip
        said = (
            "From the folder in which the study was made."
            if content.command
            else "From the folder of this file, where the scenario has to be; options of the study are not known here."
        )
    return Prose(paragraphs=(said,)), Commands(items=tuple(items))
