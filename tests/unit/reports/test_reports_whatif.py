"""Tables and figure of a memory-budget study."""

from __future__ import annotations

from pathlib import Path

import pytest
from pdf_words import needs_pdftotext, pdf_text
from whatif_fleet import entrant, written_profiles

from neulite_sim.errors import OutputError, ScenarioError
from neulite_sim.reports.plot_options import plot_options
from neulite_sim.reports.whatif_plot import draw_whatif, whatif_figure
from neulite_sim.reports.whatif_table import unit_of_bytes, whatif_tables
from neulite_sim.studies.whatif import Budgets, study
from neulite_sim.units import format_bytes

METHODS = ("neulite", "fedavg", "exclusivefl", "heterofl", "progfed")
SIZES = (90, 100, 299, 300, 450, 451, 500, 899, 900, 950, 1000, 2000)


def studied(kind="memory", values=SIZES):
    with written_profiles():
        return study([entrant(method) for method in METHODS], Budgets(kind=kind, values=values))


@pytest.fixture(scope="module")
def report():
    return studied()


@pytest.mark.parametrize("width", [80, 140])
def test_tables_fit_the_width_and_lose_no_budget(report, width):
    tables = whatif_tables(report, width=width, details=True)
    assert (
        max(len(line) for table in tables for line in table.text().splitlines() if line.startswith("neulite")) <= width
    )
    first = [table for table in tables if "neulite" in {row[0] for row in table.rows}]
    heads = [head for table in first[: 3 if width == 80 else 1] for head in table.headers]
    assert {format_bytes(size) for size in SIZES} <= set(heads)


def test_nearly_everybody_is_not_everybody():
    report = studied("scale", (1.0,))
    report["rows"][0] |= {"participation_rate": 0.996, "data_share": 0.004}
    assert "99.6 (0.4)" in whatif_tables(report)[0].text()


def test_traffic_of_seeds_beside_that_of_models_is_not_zero():
    report = studied("scale", (1.0, 2.0))
    for row, num_bytes in zip(report["rows"], (40e9, 1234.0, 2.5e6, None), strict=False):
        row["bytes_per_round"] = num_bytes
    (traffic,) = (table for table in whatif_tables(report) if table.title.startswith("expected traffic"))
    assert traffic.title == "expected traffic of a round, down and up"
    assert [row[1:] for row in traffic.rows[:2]] == [("40 GB", "1.234 kB"), ("2.5 MB", "-")]


def test_a_run_that_cannot_reach_its_last_stage_is_marked(report):
    (rounds,) = (table for table in whatif_tables(report) if table.title.startswith("expected time"))
    progfed = dict(zip(rounds.headers, next(row for row in rounds.rows if row[0] == "progfed"), strict=True))
    assert progfed["450 B"].endswith("*")
    assert not progfed["900 B"].endswith("*")
    assert any(note.startswith("*: the run ends before its last round") for note in rounds.notes)


def test_the_needs_of_a_class_are_counted_from_its_own_budgets(report):
    needs = whatif_tables(report)[-1]
    (row,) = needs.rows
    # 300 - 200 and 900 - 200 at the smallest device, 900 - 475 at the median one; progfed's first stage needs 400.
    assert dict(zip(needs.headers, row, strict=True)) == {
        "device": "jetson-nano-4gb x6", "own memory": "200 B / 475 B", "neulite": "100 B / 0 B", "heterofl": "0",
        "progfed": "200 B / 0 B", "full model": "700 B / 425 B",
    }  # fmt: skip


def test_what_was_left_out_stands_below_the_first_table(report):
    told = whatif_tables({**report, "not_applicable": {"a": "too wide", "b": "too wide", "c": "no"}})[0].notes
    assert told[-2:] == ("a and 1 more: not in this study: too wide", "c: not in this study: no")


def test_accuracy_stands_in_tables_of_its_own_where_runs_learned(report):
    rows = [
        {**row, "tail_accuracy": 0.5 if row["participation_rate"] else None, "time_to_accuracy_s": {"0.5": 60.0}}
        for row in report["rows"]
    ]
    tables = {table.title: table for table in whatif_tables({**report, "rows": rows})}
    accuracy = dict(zip(tables["accuracy"].headers, tables["accuracy"].rows[0], strict=True))
    assert (accuracy["299 B"], accuracy["300 B"]) == ("NA", "50.0")
    assert tables["virtual time to 50% accuracy (s)"].rows[0][1] == "60"


@pytest.mark.parametrize(("size", "unit"), [(900, "B"), (25_000, "kB"), (25_000_000, "MB"), (25_000_000_000, "GB")])
def test_the_unit_follows_the_largest_size(size, unit):
    report = {"includes_everyone_at_bytes": {"a": 5}, "rows": [{"budget_bytes": size}]}
    assert unit_of_bytes(report)[0] == unit


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "values"), [("memory", SIZES), ("scale", (0.1, 1.0)), ("cap", (1,))])
def test_a_study_is_drawn_the_same_each_time(kind, values, tmp_path):
    report = studied(kind, values)
    for name in ("a.svg", "b.svg"):
        draw_whatif(report, tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert "NeuLite" in text


@needs_pdftotext
def test_the_text_of_a_study_as_pdf_is_found(report, tmp_path):
    draw_whatif(report, tmp_path / "x.pdf", plot_options(style="paper", labels=["neulite=Ours"]))
    text = pdf_text(tmp_path / "x.pdf")
    for words in ("tiny: lenet, 6 devices", "Ours", "HeteroFL", "memory budget of every device (B)"):
        assert words in text


def test_names_and_titles_of_a_study_are_those_asked_for(report):
    figure = whatif_figure(report, plot_options(title="none", labels=["fedavg=Baseline"]))
    above, below = figure.axes
    assert [text.get_text() for text in above.get_yticklabels()] == [
        "NeuLite", "Baseline", "ExclusiveFL", "HeteroFL", "ProgFed"
    ]  # fmt: skip
    assert figure.get_suptitle() == ""
    assert below.get_xlabel() == "memory budget of every device (B)"
    with pytest.raises(
        ScenarioError, match="--label: 'fedavgg' is nothing in this figure; name one of: neulite, fedavg"
    ):
        whatif_figure(report, plot_options(labels=["fedavgg=x"]))


def test_budgets_from_a_megabyte_to_a_terabyte_stand_on_a_logarithmic_axis_that_names_its_sizes():
    figure = whatif_figure(studied("cap", [10**power for power in range(6, 13)]))
    above, _ = figure.axes
    assert above.get_xscale() == "log"
    assert above.xaxis.get_major_formatter()(1e-3) in ("1 MB", "1 kB")
    low, high = above.get_xlim()
    assert low < 1e6 / 1e9 < 1e12 / 1e9 < high
    assert whatif_figure(studied("cap", (100, 1000))).axes[0].get_xscale() == "linear"


def test_methods_that_agree_are_stripes_and_all_have_a_line(report):
    _, rounds = whatif_figure(report).axes
    assert len(rounds.lines) == len(METHODS)
    dashes = [line._dash_pattern for line in rounds.lines]
    assert dashes[1] == (0, None)
    assert dashes[2][1] is not None


def test_shares_that_the_eye_cannot_tell_apart_are_stripes_too():
    report = studied("scale", (0.5, 1.0, 2.0))
    shares = {"fedavg": (0.0220, 0.442, 0.767), "exclusivefl": (0.0225, 0.442, 0.767), "neulite": (0.5, 0.6, 0.9)}
    for variant, values in shares.items():
        rows = (row for row in report["rows"] if row["variant"] == variant)
        for row, value in zip(rows, values, strict=True):
            row["participation_rate"] = value
    kept = [row for row in report["rows"] if row["variant"] in shares]
    lines = whatif_figure({**report, "rows": kept}).axes[0].lines
    solid = {line.get_label(): line.is_dashed() for line in lines if line.get_marker() != "None"}
    # The first of the two lies below the other, whose gaps show it.
    assert sorted(solid.values()) == [False, False, True]


def test_where_methods_were_trained_their_accuracy_is_a_panel_in_percent(report):
    rows = [{**row, "tail_accuracy": 0.5 if row["participation_rate"] else None} for row in report["rows"]]
    panels = whatif_figure({**report, "rows": rows}).axes
    assert [axes.get_ylabel() for axes in panels] == ["", "expected round (seconds)", "test accuracy (%)"]
    assert {float(value) for line in panels[2].lines for value in line.get_ydata()} == {50.0}


def test_a_figure_that_cannot_be_written_says_where(report, tmp_path):
    with pytest.raises(
        OutputError, match=r"gone/a\.png: cannot write: No such file or directory; choose another place"
    ):
        draw_whatif(report, Path(tmp_path) / "gone" / "a.png")
