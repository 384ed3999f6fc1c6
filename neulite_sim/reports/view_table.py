"""The table of a view: a line per group, its numbers with their intervals, and its differences to a baseline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from neulite_sim.reports.comparison import notes_of
from neulite_sim.reports.comparison_table import UNITS_BYTES, UNITS_J, UNITS_S, Column, tables_of, unit_of
from neulite_sim.reports.intervals import Interval
from neulite_sim.reports.table import TextTable
from neulite_sim.reports.views import ROBUSTNESS, Measure, View, verdict_of

_NONE = "-"


def view_tables(view: View, *, notes: Sequence[str] = (), width: int | None = None) -> list[TextTable]:
    """Return a view as one table, or as several below each other that fit `width` characters."""
    lines = view.lines
    columns = [
        Column(head="run", cells=tuple(line.name for line in lines), is_numeric=False),
        Column(head="method", cells=tuple(str(line.same("method")) for line in lines), is_numeric=False),
    ]
    if view.twins:
        columns.append(Column(head="against", cells=tuple(twin.name for twin in view.twins), is_numeric=False))
        columns.append(Column(head="churn", cells=view.churn, is_numeric=False))
    for measure in view.measures:
        columns += _columns(view, measure)
    said = [*_legend(view), *view.notes, *notes, *notes_of(lines, names_setups=view.name != ROBUSTNESS)]
    return tables_of(columns, title=view.title, notes=list(dict.fromkeys(said)), width=width)


def _columns(view: View, measure: Measure) -> Iterator[Column]:
    places = range(len(view.lines))
    found = [measure.interval(place, view.kind) for place in places]
    unit, scale = unit_of_measure(measure)
    texts = tuple(interval_text(one, scale, is_signed=measure.is_difference) for one in found)
    yield Column(head=f"{measure.name} {unit}", cells=texts)
    totals = [len(measure.values[place]) + len(measure.absent[place]) for place in places]
    counts = tuple(f"{len(measure.values[place])}/{totals[place]}" for place in places)
    if measure is view.measures[0]:
        yield Column(head="seeds", cells=counts)
    if measure.is_difference:
        words = tuple(_NONE if one is None else one.verdict(larger_is_better=measure.larger_is_better) for one in found)
        yield Column(head="so it is", cells=words, is_numeric=False)
    base = view.baseline_place
    if base is not None:
        differences = [None if place == base else measure.difference(place, base, view.kind) for place in places]
        yield Column(head="difference",
                     cells=tuple(interval_text(one, scale, is_signed=True) for one in differences))  # fmt: skip
        yield Column(head="pairs", cells=tuple(_NONE if one is None else str(one.count) for one in differences))
        words = tuple(_NONE if one is None else verdict_of(measure, place, base, one)
                      for place, one in zip(places, differences, strict=True))  # fmt: skip
        yield Column(head="compared", cells=words, is_numeric=False)


def unit_of_measure(measure: Measure) -> tuple[str, float]:
    """Return the unit in which a measure is read, that of its largest value, and how much one of it is."""
    if measure.unit == "accuracy":
        return "%", 0.01
    sizes = [abs(value) for values in measure.values for value in values.values()]
    return unit_of({"seconds": UNITS_S, "joules": UNITS_J}.get(measure.unit, UNITS_BYTES), sizes)


def interval_text(found: Interval | None, scale: float, *, is_signed: bool = False) -> str:
    """Return a mean with its interval, in as many digits as can be read; a dash without one."""
    if found is None:
        return _NONE
    mean = abs(found.mean / scale)
    digits = 0 if mean >= 1000 else 1 if mean >= 10 or is_signed or scale == 0.01 else 2
    return found.text(scale, digits=digits, is_signed=is_signed)


def _legend(view: View) -> Iterator[str]:
    how = "BCa bootstrap; Student's t of fewer than eight seeds" if view.kind == "bca" else "Student's t"
    yield f"intervals: 95 %, of the mean over the seeds ({how}); seeds: how many have the number, of all."
    if any(len(values) == 1 for measure in view.measures for values in measure.values):
        yield "A number of one seed has no interval."
    if view.baseline is not None:
        yield f"difference: to {view.baseline.name}, paired by seed; compared: only where every seed has the number."
