"""Rows of flights as columns: the same lines, cells and events as rows written one by one."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neulite_sim.arrays import Repeated, taken
from neulite_sim.results.cells import column_types, decisive, values
from neulite_sim.results.digest import Digest
from neulite_sim.results.flight_rows import NAMES, FlightRows
from neulite_sim.results.memory import MemorySink
from neulite_sim.results.rows import FlightRow
from neulite_sim.results.summary import Tally
from neulite_sim.results.trace_events import TimelineFile
from neulite_sim.results.writing import Table

CELLS = {
    int: st.integers(0, 2**63 - 1),
    # Few different ones, so that many come again, and numbers whose texts differ although they are equal.
    float: st.sampled_from([0.0, -0.0, 0.1, 1e22, 1e-7, 12.5]) | st.floats(),
    str: st.sampled_from(["", "arrived", "100 %", 'so "called"', "a,b", "line\nbreak", "ü", "%s"]),
}
TYPES = column_types(FlightRow)


@st.composite
def columns(draw):
    """Columns of at most 80 rows, any of them kept once."""
    count = draw(st.sampled_from([1, 2, 5, 80]))
    cells = {}
    for name, (cast, optional) in TYPES.items():
        cell = st.none() | CELLS[cast] if optional else CELLS[cast]
        if name != "flight" and draw(st.booleans()):
            cells[name] = Repeated(draw(cell), count)
        else:
            few = draw(st.lists(cell, min_size=1, max_size=4))
            cells[name] = [few[place % len(few)] for place in range(count)]
    return FlightRows(cells)


@given(columns())
@settings(max_examples=60, deadline=None)
def test_lines_are_those_of_csv_and_json(rows):
    held = io.StringIO(newline="")
    csv.writer(held, lineterminator="\n").writerows(map(values, rows))
    assert rows.as_csv() == held.getvalue()
    assert rows.as_json() == "".join(json.dumps(decisive(row), separators=(",", ":")) + "\n" for row in rows)


@given(columns())
@settings(max_examples=30, deadline=None)
def test_rows_come_back_from_columns(rows):
    assert repr(list(FlightRows.of(rows))) == repr(list(rows))
    assert [list(record) for record in rows.records()] == [list(NAMES)] * len(rows)
    parts = [(number, list(rows.cells["round"][places])) for number, places in rows.by_round()]
    assert [each for _, members in parts for each in members] == list(rows.cells["round"])
    assert all(set(members) == {number} for number, members in parts)


def many(make_row):
    """Rows of two rounds and seven devices: smooth, cut within each phase, paused, and of no length."""
    rows = []
    for number in range(1, 41):
        phases = [(1.5, 20.000001, 2.0), (1.5, 3.25, 0.0), (0.4, 0.0, 0.0), (0.0, 0.0, 0.0), (1e-8, 2.0, 1.0)][
            number % 5
        ]
        cells = dict(zip(("download_s", "compute_s", "upload_s"), phases, strict=True))
        start_s, lost = 7.25 * number, number % 5 in (1, 2, 3)
        pauses, waited_s = ("", 0.0) if number % 4 else (f"{start_s + 0.25}-{start_s + 1.0}", 0.75)
        rows.append(
            make_row(
                FlightRow, flight=number, round=1 + number // 25, device=number % 7, dispatched_s=start_s, pauses=pauses,
                ended_s=start_s + sum(phases) + waited_s, outcome="dropped" if lost else "arrived",
                reason="went offline" if lost else "", **cells,
            )
        )  # fmt: skip
    return rows


def test_all_at_once_leave_the_bytes_of_one_by_one(make_row, tmp_path):
    rows = many(make_row)
    together, one_by_one = (TimelineFile(tmp_path / name) for name in ("together", "one_by_one"))
    tables = [Table(tmp_path / name, FlightRow) for name in ("together.csv", "one_by_one.csv")]
    digests, tallies = (Digest(), Digest()), (Tally(np.arange(7)), Tally(np.arange(7)))
    sinks = (MemorySink(), MemorySink())
    together.add_flights(FlightRows.of(rows))
    for take in (tables[0].add_flights, digests[0].add_flights, tallies[0].add_flights, sinks[0].write_flights):
        take(FlightRows.of(rows))
    for row in rows:
        for add in (one_by_one.add, tables[1].add, digests[1].add, tallies[1].add, sinks[1].write):
            add(row)
    for file in (together, one_by_one, *tables):
        if isinstance(file, Table):
            file.flush()
        file.close()
    assert (tmp_path / "together").read_bytes() == (tmp_path / "one_by_one").read_bytes()
    assert (tmp_path / "together.csv").read_bytes() == (tmp_path / "one_by_one.csv").read_bytes()
    assert digests[0].rows_hexdigest() == digests[1].rows_hexdigest()
    assert tallies[0].nothing_learned() == tallies[1].nothing_learned()
    assert tallies[0].data_share == tallies[1].data_share == 1.0
    assert sinks[0].flights == sinks[1].flights


def test_a_carriage_return_is_quoted_in_every_way(make_row, tmp_path):
    rows = [make_row(FlightRow, flight=1), make_row(FlightRow, flight=2, reason="lone\rreturn")]
    table = Table(tmp_path / "flights.csv", FlightRow)
    table.add_flights(FlightRows.of(rows))
    table.flush()
    table.close()
    with (tmp_path / "flights.csv").open(newline="") as file:
        assert [line[NAMES.index("reason")] for line in csv.reader(file)] == ["reason", "text", "lone\rreturn"]


def test_times_beyond_the_clock_are_written_as_they_are(make_row, tmp_path):
    """A moment of 10**300 s does not fit into 64 bits of microseconds; its neighbours are not touched by that."""
    usual = make_row(FlightRow, flight=1, dispatched_s=1.0, download_s=1.0, compute_s=1.0, upload_s=1.0, ended_s=4.0)
    rows = [usual, replace(usual, flight=2, dispatched_s=1e300, ended_s=1e300)]
    together, one_by_one = (TimelineFile(tmp_path / name) for name in ("together", "one_by_one"))
    together.add_flights(FlightRows.of(rows))
    for row in rows:
        one_by_one.add(row)
    for file in (together, one_by_one):
        file.close()
    assert (tmp_path / "together").read_bytes() == (tmp_path / "one_by_one").read_bytes()


@pytest.mark.parametrize("column", [Repeated("x", 4), np.array([3, 1, 2, 0]), ["a", "b", "c", "d"], range(4)])
def test_entries_are_taken_from_any_column(column):
    assert list(taken(column, np.array([2, 2, 0]))) == [column[2], column[2], column[0]]
    assert len(taken(column, np.zeros(0, np.int64))) == 0


def test_a_column_that_is_kept_once_is_a_sequence():
    column = Repeated(5, 3)
    assert (list(column), len(column), column[-1], list(column[1:])) == ([5, 5, 5], 3, 5, [5, 5])
    with pytest.raises(IndexError):
        column[3]
