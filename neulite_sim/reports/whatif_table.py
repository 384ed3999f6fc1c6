"""The tables of a memory-budget study: a line per method, a column per budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from neulite_sim.models.names import FULL
from neulite_sim.reports.comparison_table import Column, tables_of
from neulite_sim.reports.lines import number
from neulite_sim.reports.memory_kinds import ON_THE_BOARD, memory_sentence, process_sentence
from neulite_sim.reports.table import TextTable
from neulite_sim.units import format_bytes, format_percent

_UNITS_S = ((7200.0, "h", 3600.0), (120.0, "min", 60.0), (0.0, "s", 1.0))
_UNITS_BYTES = ((20e9, "GB", 1e9), (20e6, "MB", 1e6), (20e3, "kB", 1e3), (0.0, "B", 1.0))
_NONE = "-"

BudgetRow = Mapping[str, Any]


def whatif_tables(report: Mapping[str, Any], *, width: int | None = None, details: bool = False) -> list[TextTable]:
    """Return a study (the mapping of `whatif --json`) as tables that fit `width` characters.

    Participation, what stops the others, seconds and bytes of a round, thresholds, and the needs of device classes;
    with learning, accuracy; with `details`, who holds each submodel.
    """
    return [
        *_participation(report, width),
        *_binding(report, width),
        *_rounds(report, width),
        *_learning(report, width),
        *(_submodels(report, width) if details else ()),
        *(_categories(report, width) if details else ()),
        *_classes(report, width),
    ]


def unit_of_bytes(report: Mapping[str, Any]) -> tuple[str, float]:
    """Return name and bytes of the unit in which a study's budgets and peaks are readable: MB, but for toys."""
    sizes = [*report["includes_everyone_at_bytes"].values(), *(row["budget_bytes"] for row in report["rows"])]
    return next((name, size) for least, name, size in _UNITS_BYTES if max(sizes) >= least)


def _budgets(report: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(map(_budget, report["rows"])))


def _budget(row: BudgetRow) -> str:
    return f"x{row['scale']:g}" if "scale" in row else format_bytes(row["budget_bytes"])


def _by_variant(rows: Sequence[BudgetRow]) -> dict[str, list[BudgetRow]]:
    lines: dict[str, list[BudgetRow]] = {}
    for row in rows:
        lines.setdefault(row["variant"], []).append(row)
    return lines


def _what(report: Mapping[str, Any]) -> str:
    kinds = {"memory": "every device has exactly this budget", "cap": "own budgets, at most this"}
    return kinds.get(report["budget_kind"], "own budgets times this factor")


def _table(
    report: Mapping[str, Any], cell: Callable[[BudgetRow], str], *, lead: Sequence[Column] = (), **how: Any
) -> list[TextTable]:
    lines = _by_variant(report["rows"])
    columns = [Column(head="method", cells=tuple(lines), is_numeric=False), *lead]
    for place, head in enumerate(_budgets(report)):
        columns.append(Column(head=head, cells=tuple(cell(rows[place]) for rows in lines.values())))
    return tables_of(columns, **how)


def _participation(report: Mapping[str, Any], width: int | None) -> list[TextTable]:
    lines = list(_by_variant(report["rows"]))
    differ = any(_percent(row["participation_rate"]) != _percent(row["data_share"]) for row in report["rows"])

    def cell(row: BudgetRow) -> str:
        rate, data = _percent(row["participation_rate"]), _percent(row["data_share"])
        return f"{rate} ({data})" if differ else rate

    thresholds = [
        Column(head=head, cells=tuple(format_bytes(report[key][name]) for name in lines))
        for head, key in (("all from", "includes_everyone_at_bytes"), ("all of it", "trains_everything_at_bytes"))
    ]
    process = report.get("includes_everyone_at_process_bytes", {})
    has_process = bool(lines) and all(process.get(name) is not None for name in lines)
    if has_process:
        thresholds.append(Column(head=ON_THE_BOARD, cells=tuple(format_bytes(process[name]) for name in lines)))
    notes = [
        f"% of devices that can take part{' (in brackets: of the data)' if differ else ''}; {_what(report)}.",
        "all from: the memory at which everybody first takes part; all of it: at which everybody holds every submodel.",
        memory_sentence(report.get("compared_with_memory")),
        *([f"{process_sentence().removesuffix('.')}, for the smallest submodel."] if has_process else []),
        *report["notes"],
        *_left_out(report["not_applicable"]),
    ]
    title = f"{report['scenario']}: who can take part ({report['model']}, {report['devices']} devices)"
    return _table(report, cell, lead=thresholds, title=title, notes=notes, width=width)


def _percent(share: float) -> str:
    return format_percent(share, unit="")


def _left_out(reasons: Mapping[str, str]) -> Iterator[str]:
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    for reason, alike in names.items():
        more = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        yield f"{alike[0]}{more}: not in this study: {reason}"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _binding(report: Mapping[str, Any], width: int | None) -> list[TextTable]:
    def cell(row: BudgetRow) -> str:
        if row["binding_submodel"] is None:
            return _NONE
        return f"{row['binding_submodel']} {format_bytes(row['shortfall_bytes_median'])}"

    notes = [
        "The smallest submodel that some device cannot hold, and what those that cannot are short of in the median; "
        "-: everybody holds all."
    ]
    return _table(report, cell, title="what stops the others", notes=notes, width=width)


def _rounds(report: Mapping[str, Any], width: int | None) -> list[TextTable]:
    longest_s = max((row["round_s"] for row in report["rows"] if row["round_s"] is not None), default=0.0)
    unit, scale = next((name, size) for least, name, size in _UNITS_S if longest_s >= least)
    cut = any(row["ends_after_rounds"] for row in report["rows"])

    def seconds(row: BudgetRow) -> str:
        mark = "*" if row["ends_after_rounds"] else ""
        return _NONE if row["round_s"] is None else f"{_digits(row['round_s'] / scale)}{mark}"

    sent = [row["bytes_per_round"] for row in report["rows"] if row["bytes_per_round"]]
    bytes_unit, bytes_scale = next((name, size) for least, name, size in _UNITS_BYTES if max(sent, default=0) >= least)
    # Methods that send seeds stand beside those that send the model: no unit suits both.
    is_mixed = min(sent, default=bytes_scale) < bytes_scale

    def traffic(row: BudgetRow) -> str:
        if row["bytes_per_round"] is None:
            return _NONE
        return format_bytes(row["bytes_per_round"]) if is_mixed else f"{row['bytes_per_round'] / bytes_scale:.0f}"

    drawn = report["devices_per_round"]
    notes = [
        f"The slowest of {drawn} devices drawn among those that can: the mean over all draws and all rounds of a run.",
        *(["*: the run ends before its last round, because a later stage fits nobody."] if cut else []),
    ]
    return [
        *_table(report, seconds, title=f"expected time of a synchronous round ({unit})", notes=notes, width=width),
        *_table(
            report,
            traffic,
            title=f"expected traffic of a round, down and up{'' if is_mixed else f' ({bytes_unit})'}",
            width=width,
        ),
    ]


def _learning(report: Mapping[str, Any], width: int | None) -> list[TextTable]:
    if not any("tail_accuracy" in row for row in report["rows"]):
        return []

    def cell(row: BudgetRow) -> str:
        accuracy = row["tail_accuracy"]
        return "NA" if accuracy is None else f"{accuracy * 100:.1f}"

    reached = [target for row in report["rows"] for target, at_s in (row["time_to_accuracy_s"] or {}).items() if at_s]
    notes = ["Test accuracy in %, mean of the last three tests, from real runs; NA: nobody could train."]
    tables = [*_table(report, cell, title="accuracy", notes=notes, width=width), *_perplexity(report, width)]
    if not reached:
        return tables
    target = max(reached, key=lambda each: (reached.count(each), float(each)))
    times = [(row["time_to_accuracy_s"] or {}).get(target) for row in report["rows"]]
    unit, scale = next((n, size) for least, n, size in _UNITS_S if max(at_s or 0.0 for at_s in times) >= least)

    def time(row: BudgetRow) -> str:
        at_s = (row["time_to_accuracy_s"] or {}).get(target)
        return _NONE if at_s is None else f"{at_s / scale:.3g}"

    title = f"virtual time to {float(target):.0%} accuracy ({unit})"
    return [*tables, *_table(report, time, title=title, width=width)]


def _perplexity(report: Mapping[str, Any], width: int | None) -> list[TextTable]:
    if not any("final_perplexity" in row for row in report["rows"]):
        return []

    def cell(row: BudgetRow) -> str:
        value = row["final_perplexity"]
        return "NA" if value is None else number(value, 2)

    notes = ["Test perplexity at the end of real runs; lower is better."]
    return _table(report, cell, title="perplexity", notes=notes, width=width)


def _submodels(report: Mapping[str, Any], width: int | None) -> list[TextTable]:
    lines: dict[tuple[str, str], dict[str, BudgetRow]] = {}
    for row in report["submodels"]:
        lines.setdefault((row["variant"], row["submodel"]), {})[_budget(row)] = row
    first = [next(iter(rows.values())) for rows in lines.values()]
    columns = [
        Column(head="submodel", cells=tuple(f"{variant} {name}" for variant, name in lines), is_numeric=False),
        Column(head="peak", cells=tuple(format_bytes(row["peak_memory_bytes"]) for row in first)),
    ]
    process = [row["process_bytes"] for row in first if row.get("process_bytes") is not None]
    if len(process) == len(lines):
        columns.append(Column(head=ON_THE_BOARD, cells=tuple(map(format_bytes, process))))
    budgets = _budgets(report)
    for head in budgets:
        shares = (_percent(rows[head]["fits_share"]) if head in rows else "NA" for rows in lines.values())
        columns.append(Column(head=head, cells=tuple(shares)))
    differ = any(len(rows) < len(budgets) for rows in lines.values())
    notes = ["NA: the method chooses its submodels by the fleet, and at this budget it has others."] if differ else []
    return tables_of(columns, title="% of devices that hold each submodel", notes=notes, width=width)


def _categories(report: Mapping[str, Any], width: int | None) -> list[TextTable]:
    """Return what the lowest peak of each submodel is made of."""
    first = {(row["variant"], row["submodel"]): row["memory"] for row in report["submodels"] if "memory" in row}
    if not first:
        return []
    columns = [Column(head="submodel", cells=tuple(f"{variant} {name}" for variant, name in first), is_numeric=False)]
    for category in next(iter(first.values())):
        cells = tuple(format_bytes(memory[category]) for memory in first.values())
        columns.append(Column(head=category, cells=cells))
    return tables_of(columns, title="lowest peak of each submodel, split", width=width)


def _classes(report: Mapping[str, Any], width: int | None) -> list[TextTable]:
    """Return what each class of device lacks: a line per class, a column per method and one for the full model."""
    rows = report["device_classes"]
    names = list(dict.fromkeys(row["device_class"] for row in rows))
    found = {(row["device_class"], row["variant"], row["submodel"]): row for row in rows}
    first = {name: next(row for row in rows if row["device_class"] == name) for name in names}
    columns = [
        Column(head="device", cells=tuple(f"{name} x{first[name]['devices']}" for name in names), is_numeric=False),
        Column(head="own memory", cells=tuple(_pair(first[name], "memory_bytes") for name in names)),
    ]
    for head, variant, submodel in _needs(rows):
        rows_of = [found[name, variant, submodel] for name in names]
        cells = tuple(_pair(row, "missing_bytes") if row["missing_bytes_min"] else "0" for row in rows_of)
        columns.append(Column(head=head, cells=cells))
    notes = [
        "memory missing to take part with a method, and to train the full model, from the fleet's own budgets as they "
        "are: at the class's device that lacks most / at its median.",
    ]
    return tables_of(columns, title="what each device class lacks", notes=notes, width=width)


def _needs(rows: Sequence[BudgetRow]) -> Iterator[tuple[str, str, str]]:
    """Yield head, variant and submodel of each column; needs that are the same as far as they are shown share one.

    Devices of a class may need different amounts, so what is missing has to be the same as well.
    """
    needs: dict[tuple[str, str], tuple[str, ...]] = {}
    for row in rows:
        at = row["variant"], row["submodel"]
        needs[at] = (*needs.get(at, ()), format_bytes(row["needed_bytes"]), _pair(row, "missing_bytes"))
    methods = {row["variant"]: row["method"] for row in rows}
    heads: dict[tuple[tuple[str, ...], bool], tuple[list[str], str, str]] = {}
    for (variant, submodel), need in needs.items():
        is_full = submodel == FULL
        names = heads.setdefault((need, is_full), ([], variant, submodel))[0]
        text = f"full model{variant.removeprefix(methods[variant])}" if is_full else variant
        if text not in names:
            names.append(text)
    for names, variant, submodel in sorted(heads.values(), key=lambda head: head[2] == FULL):
        more = f" +{len(names) - 1}" if len(names) > 1 else ""
        yield names[0] + more, variant, submodel


def _pair(row: BudgetRow, key: str) -> str:
    return f"{format_bytes(row[f'{key}_min'])} / {format_bytes(row[f'{key}_median'])}"
