from dataclasses import dataclass

import numpy as np
import pytest

from neulite_sim.errors import DataNotFoundError
from neulite_sim.results.cells import FILES, column_types, record, scan_columns, scan_rows, values
from neulite_sim.results.rows import DenialRow, DiagnosticRow, FlightRow, RoundRow, columns

DENIALS = "round,reason,submodel,devices,shortfall_bytes_min,shortfall_bytes_median,shortfall_bytes_max\n"


def test_every_column_of_every_row_type_is_a_number_or_a_text():
    for kind in FILES:
        assert tuple(column_types(kind)) == columns(kind)


def test_optional_columns_are_known_as_such():
    types = column_types(RoundRow)
    assert types["train_loss"] == (float, True)
    assert types["round"] == (int, False)


def test_column_of_another_type_is_refused():
    @dataclass
    class Strange:
        flag: list

    with pytest.raises(TypeError, match=r"Strange\.flag is <class 'list'>; a column holds int, float, str"):
        column_types(Strange)


def test_optional_text_column_is_refused_because_none_and_empty_would_look_the_same():
    @dataclass
    class Ambiguous:
        reason: str | None

    with pytest.raises(TypeError, match=r"Ambiguous\.reason is str \| None"):
        column_types(Ambiguous)


def test_numpy_scalars_and_whole_floats_become_what_the_column_says(make_row):
    cells = record(make_row(FlightRow, flight=np.int64(3), dispatched_s=7, loss=np.float32(0.25)))
    assert tuple(cells) == columns(FlightRow)
    assert (cells["flight"], cells["dispatched_s"], cells["loss"]) == (3, 7.0, 0.25)
    assert [type(cells[name]) for name in ("flight", "dispatched_s", "loss")] == [int, float, float]


def test_fraction_in_a_whole_number_column_is_refused_rather_than_cut(make_row):
    with pytest.raises(TypeError):
        values(make_row(FlightRow, flight=2.5))


def test_what_depends_on_the_machine_can_be_left_out(make_row):
    row = make_row(RoundRow)
    kept = record(row, wall_clock=False)
    assert record(row).keys() - kept.keys() == {"workers_replaced", "wall_time_s"}
    assert kept == {name: value for name, value in record(row).items() if name in kept}
    assert values(row, wall_clock=False) == list(kept.values())


def test_unfinished_last_line_of_a_killed_run_is_passed_over(tmp_path):
    path = tmp_path / "denials.csv"
    for torn in ("2,mem", "2,memory,stage-1,4,1,2,34"):
        path.write_text(DENIALS + f"1,memory,stage-1,4,1,2,3\n{torn}")
        assert [row["round"] for row in scan_rows(path, DenialRow)] == [1]


def test_last_line_cut_inside_a_quoted_text_is_passed_over(tmp_path):
    path = tmp_path / "denials.csv"
    path.write_text(DENIALS + '1,memory,stage-1,4,,,\n2,"two\nlines')
    assert [row["shortfall_bytes_min"] for row in scan_rows(path, DenialRow)] == [None]


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"rounds\.csv: cannot be read: No such file"):
        list(scan_rows(tmp_path / "rounds.csv", RoundRow))


def test_missing_columns_are_named(tmp_path):
    path = tmp_path / "denials.csv"
    path.write_text("round,reason,submodel\n")
    with pytest.raises(DataNotFoundError, match="has no column devices, shortfall_bytes_min"):
        list(scan_rows(path, DenialRow))


def test_cell_that_is_no_number_is_named_with_its_line(tmp_path):
    path = tmp_path / "denials.csv"
    path.write_text(DENIALS + "1,memory,stage-1,4,,,\n2,memory,stage-1,many,,,\n")
    with pytest.raises(DataNotFoundError, match=r"denials\.csv:3: devices is 'many', not a whole number"):
        list(scan_rows(path, DenialRow))


def test_line_with_too_few_cells_in_the_middle_is_named(tmp_path):
    path = tmp_path / "denials.csv"
    path.write_text(DENIALS + "1,memory\n2,memory,stage-1,4,,,\n")
    with pytest.raises(DataNotFoundError, match=r"denials\.csv:2: has 2 cells, not 7"):
        list(scan_rows(path, DenialRow))


def test_columns_of_a_later_version_are_passed_over(tmp_path):
    path = tmp_path / "denials.csv"
    path.write_text("extra," + DENIALS + "x,1,memory,stage-1,4,,,\n")
    assert [row["round"] for row in scan_rows(path, DenialRow)] == [1]


def test_columns_are_the_rows_however_many_come_at_a_time(tmp_path, make_row):
    path = tmp_path / "flights.csv"
    rows = [make_row(FlightRow, flight=number, loss=None if number % 2 else 0.1 * number) for number in range(1, 8)]
    lines = [
        ",".join(columns(FlightRow)),
        *(",".join("" if cell is None else str(cell) for cell in values(row)) for row in rows),
    ]
    path.write_text("\n".join(lines) + "\n" + "8,1,2")
    expected = [record(row) for row in rows]
    for most_rows in (1, 3, 100):
        chunks = list(scan_columns(path, FlightRow, most_rows=most_rows))
        assert [len(chunk["flight"]) for chunk in chunks][:-1] == [most_rows] * (len(chunks) - 1)
        found = [dict(zip(chunk, row, strict=True)) for chunk in chunks for row in zip(*chunk.values(), strict=True)]
        assert found == expected == list(scan_rows(path, FlightRow))


def test_a_wrong_cell_among_columns_is_told_as_among_rows(tmp_path):
    path = tmp_path / "denials.csv"
    for cell in ("two", "", "1.5"):
        path.write_text(f"{DENIALS}1,offline,,3,,,\n2,offline,,{cell},,,\n")
        with pytest.raises(DataNotFoundError) as by_rows:
            list(scan_rows(path, DenialRow))
        with pytest.raises(DataNotFoundError) as by_columns:
            list(scan_columns(path, DenialRow))
        assert str(by_columns.value) == str(by_rows.value)
        assert f"denials.csv:3: devices is {cell!r}, not a whole number" in str(by_rows.value)


def test_numbers_that_are_not_finite_are_refused_among_columns_too(tmp_path):
    path = tmp_path / "diagnostics.csv"
    for cell in ("nan", "inf", "1e999"):
        path.write_text(f"round,virtual_time_s,name,block,value\n1,2.0,nhsic_x,1,{cell}\n")
        with pytest.raises(DataNotFoundError, match=rf"value is '{cell}', not a number"):
            list(scan_columns(path, DiagnosticRow))
