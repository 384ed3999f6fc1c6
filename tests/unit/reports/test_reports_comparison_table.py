"""The table of a comparison: its cells, its units, and how it fits a width."""

from __future__ import annotations

import io
import math
import random
import re
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from stored_runs import write_run
from tiny_scenarios import tiny

from neulite_sim.reports.budget_views import cost_to_target
from neulite_sim.reports.comparison import AVERAGED, lines_of
from neulite_sim.reports.comparison_table import comparison_tables
from neulite_sim.reports.console import rich_table
from neulite_sim.reports.view_table import view_tables
from neulite_sim.results.stored import StoredRun, read_run
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


def _seeds(folder: Path, count: int, *, draw: random.Random) -> list[StoredRun]:
    """Return two groups of runs; every number of a summary differs from seed to seed."""
    found = []
    for name, clip in (("a", 1), ("b", 2)):
        for seed in range(1, count + 1):
            times = sorted(draw.sample(range(10**4, 10**5), 3))
            curve = list(zip(times, sorted(draw.uniform(0.3, 0.9) for _ in times), strict=True))
            run = write_run(folder / f"{name}-{seed}", curve, f"seed={seed}", f"training.clip_norm={clip}")
            drawn = {key: draw.uniform(0.2, 1) * 10**5 for key in AVERAGED}
            drawn |= {key: draw.uniform(0.2, 1) for key in AVERAGED if key.endswith(("accuracy", "rate", "share"))}
            drawn["wasted_energy_j"] = draw.random() * drawn["energy_j"]
            found.append(replace(run, summary={**run.summary, **drawn}))
    return found


def _numbers(cell: str, head: str) -> list[float]:
    """Return the numbers of a cell in the unit of its column; sizes, which have one each, in bytes."""
    units = {"GB": 1e9, "MB": 1e6, "kB": 1e3, "B": 1.0} if head == "memory" else {"": 1.0}
    return [float(number) * units[unit if head == "memory" else ""]
            for number, unit in re.findall(r"([+-]?[\d.]+)(?: ([A-Za-z]+))?", cell.split(" (")[0])]  # fmt: skip


def _assert_is_half_an_interval(head: str, cell: str, values: list[float]) -> None:
    quantile = (12.70620, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004)[len(values) - 2]
    mean, half = _numbers(cell, head)
    assert mean == pytest.approx(statistics.fmean(values), rel=5e-3, abs=0.06), head
    # The values are read as they are shown: each may be off by half of its last digit.
    step = 100 if head == "memory" else 10 ** -len(cell.split(" ")[0].partition(".")[2])
    share = quantile / math.sqrt(len(values))
    assert half == pytest.approx(share * statistics.stdev(values), rel=1e-3, abs=step * (0.51 + 0.71 * share)), head


@pytest.mark.parametrize("count", [2, 3, 4, 9])
def test_whatever_stands_behind_a_plus_minus_is_half_of_the_interval_that_the_legend_tells(tmp_path, count):
    """Of every column, against the numbers of the same column of the table of single runs."""
    runs = _seeds(tmp_path, count, draw=random.Random(count))
    (single,) = comparison_tables(lines_of(runs)[0])
    groups = lines_of(runs, grouped=True)[0]
    (table,) = comparison_tables(groups, baseline=groups[0])
    assert "±: half of the 95 % interval of the mean over the seeds (Student's t)." in table.notes
    checked = set()
    for row, start in zip(table.rows, (0, count), strict=True):
        for head, cell in zip(table.headers, row, strict=True):
            if "±" not in cell:
                continue
            of = head if head in single.headers else "accuracy %"
            column = [_numbers(each[single.headers.index(of)], of) for each in single.rows]
            values = [number for numbers in column[start : start + count] for number in numbers]
            if head == "difference":
                values = [own - other for own, (other,) in zip(values, column[:count], strict=True)]
            _assert_is_half_an_interval(head, cell, values)
            checked.add(head.split(" ")[0])
    assert checked == {"accuracy", "difference", "perplexity", "part.", "data", "memory", "to", "rounds", "time", "traffic",
                       "energy", "wasted"}  # fmt: skip


def test_the_intervals_of_a_view_are_half_of_that_as_well(tmp_path):
    runs = _seeds(tmp_path, 4, draw=random.Random(7))
    (single,) = view_tables(cost_to_target([lines_of([run], grouped=True)[0][0] for run in runs], 0.3))
    (table,) = view_tables(cost_to_target(lines_of(runs, grouped=True)[0], 0.3))
    for row, start in zip(table.rows, (0, 4), strict=True):
        place = single.headers.index("virtual time h")
        values = [float(each[place]) for each in single.rows[start : start + 4]]
        _assert_is_half_an_interval("virtual time h", row[table.headers.index("virtual time h")], values)


@pytest.mark.parametrize(
    ("count", "kind", "words"),
    [
        (9, "t", "± half of a 95 % interval"),
        (9, "bca", "the ends of a 95 % interval (BCa bootstrap)"),
        (4, "bca", "± half of a 95 % interval"),
    ],
)
def test_the_legend_of_differences_tells_what_their_cells_hold(tmp_path, count, kind, words):
    groups = lines_of(_seeds(tmp_path, count, draw=random.Random(3)), grouped=True)[0]
    (table,) = comparison_tables(groups, baseline=groups[0], kind=kind)
    cell = table.rows[1][table.headers.index("difference")]
    assert f"difference: to a, paired by seed, {words}." in table.notes
    assert ("±" in cell) == ("±" in words)
