"""The table of a comparison: its cells, its units, and how it fits a width."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pytest
from rich.console import Console
from stored_runs import write_run
from tiny_scenarios import tiny

from neulite_sim.reports.comparison import lines_of
from neulite_sim.reports.comparison_table import comparison_tables
from neulite_sim.reports.console import rich_table
from neulite_sim.results.stored import read_run
from neulite_sim.studies.sweeps import write_not_applicable


def cells(runs, *, grouped: bool = False) -> Mapping[str, Mapping[str, str]]:
    """Return the cells of the table by run and head."""
    (table,) = comparison_tables(lines_of(runs, grouped=grouped)[0])
    return {row[0]: dict(zip(table.headers, row, strict=True)) for row in table.rows}


@pytest.fixture
def pair(tmp_path):
    """Two seeds that reach 0.6 after 2 h and 4 h; the second does not reach 0.8."""
    hour_s = 3600.0
    return [
        write_run(tmp_path / "a-1", [(2 * hour_s, 0.6), (3 * hour_s, 0.9)], "seed=1"),
        write_run(tmp_path / "a-2", [(4 * hour_s, 0.6), (5 * hour_s, 0.7)], "seed=2", rate=0.5),
    ]


def test_every_number_stands_in_the_unit_of_its_column(pair):
    row = cells(pair)["a-1"]
    assert row["method"] == "fedavg"
    assert row["accuracy %"] == "75.0"
    assert (row["part. %"], row["inclusive"]) == ("100.0", "yes")
    assert row["memory"] == "2 MB"
    assert (row["rounds"], row["time h"], row["to 60 % in h"], row["to 80 % in h"]) == ("2", "3.00", "2.00", "3.00")
    assert row["traffic B"] == "300.0"
    assert row["data %"] == "16.7"


def test_a_group_has_its_spread_and_says_of_how_many_seeds(pair):
    """Means by hand: (0.75, 0.65), (2 h, 4 h), (100 %, 50 %); half of an interval of two is 12.706 / 2 differences."""
    row = cells(pair, grouped=True)["a"]
    assert row["seeds"] == "2"
    assert row["accuracy %"] == "70.0 ± 63.5"
    assert row["to 60 % in h"] == "3.00 ± 12.71"
    assert row["to 80 % in h"] == "3.00 (1/2)"
    assert (row["part. %"], row["inclusive"]) == ("75.0 ± 317.7", "no")
    assert row["rounds"] == "2"


def test_a_target_that_only_others_reached_is_never_and_one_that_nobody_reached_is_a_note(tmp_path):
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", [(10.0, 0.5)]), write_run(tmp_path / "c", ())]
    found = cells(runs)
    assert [found[name]["to 80 % in s"] for name in "abc"] == ["30.0", "never", "-"]
    assert "to 90 % in s" not in found["a"]
    (table,) = comparison_tables(lines_of(runs)[0])
    assert "Accuracy that no run reached: 90 %." in table.notes


def test_the_highest_of_many_targets_are_shown_and_the_rest_is_named(tmp_path):
    run = write_run(tmp_path / "a", [(10.0, 0.95)], "evaluation.targets=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]")
    (table,) = comparison_tables(lines_of([run])[0])
    assert [head for head in table.headers if head.startswith("to ")] == [
        f"to {place}0 % in s" for place in range(3, 8)
    ]
    assert "Left out: time to accuracy 10 %, 20 %; --json has all." in table.notes


def test_na_stands_in_the_accuracy_and_nothing_in_what_did_not_happen(tmp_path):
    write_not_applicable(tiny(), "NA: too big", out=tmp_path / "a")
    row = cells([read_run(tmp_path / "a"), write_run(tmp_path / "b")])["a"]
    assert (row["accuracy %"], row["part. %"], row["inclusive"], row["data %"]) == ("NA", "0.0", "no", "0.0")
    assert {row[head] for head in row if head.split()[0] in {"memory", "to", "rounds", "time", "traffic"}} == {"-"}


def test_a_cut_off_run_is_marked(tmp_path):
    run = write_run(tmp_path / "a", is_complete=False)
    assert cells([run])["a (cut off)"]["part. %"] == "-"


def test_selection_is_a_column_only_where_it_differs(tmp_path):
    uniform, oort = write_run(tmp_path / "a"), write_run(tmp_path / "b", (), "selection.kind=oort")
    (table,) = comparison_tables(lines_of([uniform])[0])
    assert table.title == "1 run, uniform selection"
    (table,) = comparison_tables(lines_of([uniform, oort])[0])
    assert table.title == "2 runs"
    assert [row[2] for row in table.rows] == ["uniform", "oort"]


@pytest.mark.parametrize("width", [80, 140])
def test_on_a_terminal_no_line_is_wider_and_no_column_is_lost(pair, width):
    lines = lines_of([*pair, write_run(pair[0].path.parent / "a_run_with_a_rather_long_name-1", [(100.0, 0.9)])])[0]
    (whole,) = comparison_tables(lines)
    blocks = comparison_tables(lines, width=width)
    heads = [head for block in blocks for head in block.headers if head != "run"]
    assert heads == [head for head in whole.headers if head != "run"]
    assert len(blocks) > 1
    console = Console(file=io.StringIO(), width=width, legacy_windows=False)
    for block in blocks:
        console.print(rich_table(block))
    drawn = console.file.getvalue()
    assert max(map(len, drawn.splitlines())) <= width
    for run, *texts in whole.rows:
        assert drawn.count(run) == len(blocks)
        assert all(text in drawn for text in texts)


def test_notes_stand_once_below_the_last_block(pair):
    first, *_, last = comparison_tables(lines_of(pair)[0], notes=["said by hand"], width=60)
    assert first.notes == ()
    assert "said by hand" in last.notes
    assert (first.title, last.title) == ("2 runs, uniform selection", "")
