"""The table of a comparison: as in papers, accuracy, participation, memory, time to accuracy, traffic and energy.

A column has one unit, named in its head. Where the columns do not fit the width, they stand in blocks below each
other, each with the names of the runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from neulite_sim.reports.baseline import difference, pairing_notes
from neulite_sim.reports.comparison import NOT_APPLICABLE, Line, Spread, notes_of, spread
from neulite_sim.reports.intervals import Kind
from neulite_sim.reports.lines import target as target_text
from neulite_sim.reports.table import TextTable
from neulite_sim.units import format_bytes

UNITS_S = ((7200.0, "h", 3600.0), (120.0, "min", 60.0), (0.0, "s", 1.0))
UNITS_J = ((10**9, "GJ", 1e9), (10**6, "MJ", 1e6), (10**3, "kJ", 1e3), (0, "J", 1.0))
UNITS_BYTES = ((10**9, "GB", 1e9), (10**6, "MB", 1e6), (10**3, "kB", 1e3), (0, "B", 1.0))
_TARGETS_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A head and a cell per line."""

    head: str
    cells: tuple[str, ...]
    is_numeric: bool = True


def comparison_tables(
    lines: Sequence[Line],
    *,
    notes: Sequence[str] = (),
    width: int | None = None,
    baseline: Line | None = None,
    kind: Kind = "t",
) -> list[TextTable]:
    """Return the comparison as one table, or as several below each other that fit `width` characters.

    The first has the title, the last what has to be said about the runs, and `notes`. With a `baseline`, the accuracy
    of each group also stands as its paired difference.
    """
    name, *columns = _columns(lines)
    if baseline is not None:
        after = 1 + [column.head for column in columns].index("accuracy %")
        columns[after:after] = _differences(lines, baseline, kind)
        notes = [
            f"difference: to {baseline.name}, paired by seed, {_interval_words(columns)}.",
            *pairing_notes(lines, baseline),
            *notes,
        ]
    num_runs = sum(len(line.runs) for line in lines)
    title = f"{num_runs} run{'' if num_runs == 1 else 's'}{_constant(lines, 'selection', ', {} selection')}"
    said = [*_legend(lines, columns), *notes, *notes_of(lines)]
    return tables_of([name, *columns], title=title, notes=said, width=width)


def _interval_words(columns: Sequence[Column]) -> str:
    """Return how differences tell their intervals: a bootstrap's ends are not equally far from the mean."""
    (cells,) = (column.cells for column in columns if column.head == "difference")
    has_ends, has_halves = (any(mark in cell for cell in cells) for mark in (" to ", "±"))
    if has_ends and has_halves:
        return "the ends of a 95 % interval (BCa bootstrap), or ± half of one (Student's t)"
    return "the ends of a 95 % interval (BCa bootstrap)" if has_ends else "± half of a 95 % interval"


def tables_of(
    columns: Sequence[Column], *, title: str, notes: Sequence[str] = (), width: int | None = None
) -> list[TextTable]:
    """Return columns as one table, or as several below each other, each with the first column, that fit `width`."""
    table = TextTable(
        title=title,
        headers=tuple(column.head for column in columns),
        rows=tuple(zip(*(column.cells for column in columns), strict=True)),
        numeric=frozenset(column.head for column in columns if column.is_numeric),
        notes=tuple(notes),
    )
    return [table] if width is None else table.blocks(width)


def _columns(lines: Sequence[Line]) -> Iterator[Column]:
    yield Column(head="run", cells=tuple(map(_marked, lines)), is_numeric=False)
    yield Column(head="method", cells=tuple(str(line.same("method")) for line in lines), is_numeric=False)
    if not _constant(lines, "selection", "{}"):
        cells = tuple(str(line.same("selection") or "differs") for line in lines)
        yield Column(head="selection", cells=cells, is_numeric=False)
    if any(line.is_group for line in lines):
        yield Column(head="seeds", cells=tuple(str(len(line.seeds)) for line in lines))
    else:
        yield Column(head="seed", cells=tuple(str(line.seeds[0]) for line in lines))
    yield _numbers("accuracy %", lines, lambda line: _scaled(line.of("tail_accuracy"), 0.01), _accuracy_word)
    if any(line.of("final_perplexity").count for line in lines):
        yield _numbers("perplexity", lines, lambda line: line.of("final_perplexity"))
    yield _numbers("part. %", lines, lambda line: _scaled(line.of("participation_rate"), 0.01))
    inclusive = {True: "yes", False: "no", None: "-"}
    yield Column(head="inclusive", cells=tuple(inclusive[line.is_inclusive] for line in lines), is_numeric=False)
    yield _numbers("data %", lines, lambda line: _scaled(line.of("data_share"), 0.01))
    yield Column(head="memory", cells=tuple(_memory(line.of("peak_memory_bytes")) for line in lines))
    yield from _times(lines)
    unit, scale = unit_of(UNITS_BYTES, [_traffic(line).mean for line in lines])
    yield _numbers(f"traffic {unit}", lines, lambda line: _scaled(_traffic(line), scale))
    yield from _energy(lines)


def _energy(lines: Sequence[Line]) -> Iterator[Column]:
    """Yield what the flights of each run took, and the share of it that was wasted; nothing where nobody knows."""
    energies = [line.of("energy_j") for line in lines]
    if not any(energy.count for energy in energies):
        return
    unit, scale = unit_of(UNITS_J, [energy.mean for energy in energies])
    yield _numbers(f"energy {unit}", lines, lambda line: _scaled(line.of("energy_j"), scale))
    if any(line.of("wasted_energy_j").mean for line in lines):
        yield _numbers("wasted %", lines, _wasted)


def _wasted(line: Line) -> Spread:
    """Return the shares of energy that went into updates that nobody merged, in percent."""
    pairs = [(run.summary.get("wasted_energy_j"), run.summary.get("energy_j")) for run in line.runs]
    return spread([None if wasted is None or not energy else 100 * wasted / energy for wasted, energy in pairs])


def _memory(found: Spread) -> str:
    """Return a peak as every command shows it, each in a unit of its own."""
    if found.mean is None:
        return "-"
    around = f" ± {format_bytes(found.half_width)}" if found.half_width else ""
    some = f" ({found.count}/{found.total})" if found.count < found.total else ""
    return f"{format_bytes(found.mean)}{around}{some}"


def _marked(line: Line) -> str:
    return f"{line.name} (cut off)" if line.status == "cut off" else line.name


def _times(lines: Sequence[Line]) -> Iterator[Column]:
    unit, scale = unit_of(UNITS_S, [line.of("virtual_time_s").mean for line in lines])
    for target in _reached(lines)[-_TARGETS_SHOWN:]:

        def time_to(line: Line, target: str = target) -> Spread:
            return _scaled(line.time_to(target), scale)

        def word(line: Line, target: str = target) -> str:
            was_tested = line.of("best_accuracy").count > 0
            return "never" if target in line.targets and was_tested and line.status == "complete" else "-"

        yield _numbers(f"to {target_text(float(target))} in {unit}", lines, time_to, word)
    yield _numbers("rounds", lines, lambda line: line.of("rounds"), digits=0)
    yield _numbers(f"time {unit}", lines, lambda line: _scaled(line.of("virtual_time_s"), scale))


def _reached(lines: Sequence[Line]) -> list[str]:
    """Return the targets that a run reached, rising."""
    targets = {target for line in lines for target in line.targets if line.time_to(target).count}
    return sorted(targets, key=float)


def _traffic(line: Line) -> Spread:
    return spread(
        [
            run.summary["bytes_down"] + run.summary["bytes_up"] if run.not_applicable is None else None
            for run in line.runs
        ]
    )


def _accuracy_word(line: Line) -> str:
    return NOT_APPLICABLE if line.status == "NA" else "-"


def _constant(lines: Sequence[Line], key: str, text: str) -> str:
    values = {line.same(key) for line in lines}
    return text.format(values.pop()) if len(values) == 1 and None not in values else ""


def unit_of(units: Sequence[tuple[float, str, float]], values: Sequence[float | None]) -> tuple[str, float]:
    """Return the unit of a column, that of its largest value, and how much one of it is."""
    largest = max((value for value in values if value is not None), default=0.0)
    return next((name, scale) for least, name, scale in units if largest >= least)


def _differences(lines: Sequence[Line], baseline: Line, kind: Kind) -> Iterator[Column]:
    """Yield the difference in accuracy to the baseline, and whether its interval leaves out zero."""
    found = [None if line is baseline else difference(line, baseline, "tail_accuracy", kind=kind) for line in lines]
    cells = tuple("-" if item is None else item.text(0.01, is_signed=True, digits=1) for item in found)
    yield Column(head="difference", cells=cells)
    yield Column(head="pairs", cells=tuple("-" if item is None else str(item.count) for item in found))
    yield Column(
        head="so it is", cells=tuple("-" if item is None else item.verdict() for item in found), is_numeric=False
    )


def _scaled(found: Spread, unit: float) -> Spread:
    mean, std = (None if value is None else value / unit for value in (found.mean, found.std))
    return Spread(mean=mean, std=std, count=found.count, total=found.total)


def _numbers(
    head: str,
    lines: Sequence[Line],
    value: Callable[[Line], Spread],
    word: Callable[[Line], str] = lambda line: "-",
    *,
    digits: int | None = None,
) -> Column:
    """Return a column of means; ± half of their interval where there is one; `word` where there is no number."""
    found = [value(line) for line in lines]
    if digits is None:
        largest = max((item.mean for item in found if item.mean is not None), default=0.0)
        digits = 0 if largest >= 1000 else 1 if largest >= 10 else 2
    return Column(head=head, cells=tuple(_cell(item, digits) or word(line)
                                         for item, line in zip(found, lines, strict=True)))  # fmt: skip


def _cell(found: Spread, digits: int) -> str:
    if found.mean is None:
        return ""
    around = f" ± {found.half_width:.{digits}f}" if found.half_width else ""
    some = f" ({found.count}/{found.total})" if found.count < found.total else ""
    return f"{found.mean:.{digits}f}{around}{some}"


def _legend(lines: Sequence[Line], columns: Sequence[Column]) -> Iterator[str]:
    yield "accuracy: mean of the last three tests; part.: devices that can take part; inclusive: all of them can."
    if any(column.head.startswith("wasted") for column in columns):
        yield "wasted: share of the energy that went into flights whose update was not merged."
    cells = [cell for column in columns for cell in column.cells]
    groups = [line for line in lines if line.is_group]
    if groups and all(len(line.runs) == 1 for line in groups):
        yield "One seed each: no interval, so nothing is told apart."
    if any("±" in cell for cell in cells):
        yield "±: half of the 95 % interval of the mean over the seeds (Student's t)."
    if any(cell.endswith(")") for column in columns if column.is_numeric for cell in column.cells):
        yield "(1/3): in one of three seeds only; mean and ± are those of the seeds in which it was."
    reached = _reached(lines)
    if len(reached) > _TARGETS_SHOWN:
        left_out = ", ".join(target_text(float(name)) for name in reached[:-_TARGETS_SHOWN])
        yield f"Left out: time to accuracy {left_out}; --json has all."
    missed = {target for line in lines for target in line.targets} - set(reached)
    if missed and any(line.of("best_accuracy").count for line in lines):
        yield f"Accuracy that no run reached: {', '.join(map(target_text, sorted(map(float, missed))))}."
