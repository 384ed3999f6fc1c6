"""Pages of runs, comparisons and studies: their numbers are those of the rows, and their text is harmless."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stored_runs
import timeline_runs
from html_pages import HOSTILE, check_sound, of_run, text_of

from neulite_sim.errors import DataNotFoundError, OutputError
from neulite_sim.reports.html import page as pages
from neulite_sim.reports.html.blocks import Grid, Page, Section
from neulite_sim.reports.html.comparison_page import comparison_page
from neulite_sim.reports.html.page import MOST_BYTES, html_of, write_page
from neulite_sim.reports.html.rounds_time import shares
from neulite_sim.reports.html.run_page import run_page
from neulite_sim.reports.html.run_story import SPENT, read_story
from neulite_sim.reports.html.study_page import study_page
from neulite_sim.reports.html.taking_part import fleet_per_round, shares_over_time
from neulite_sim.reports.table import TextTable
from neulite_sim.reports.timeline_table import timeline_report
from neulite_sim.reports.timeline_window import read_window
from neulite_sim.results.cells import scan_rows
from neulite_sim.results.rows import DenialRow, RoundRow
from neulite_sim.scenario.loading import dump_scenario

# One run.


def test_the_page_of_a_run_says_what_its_summary_and_rows_say(tmp_path: Path) -> None:
    run = stored_runs.write_run(tmp_path / "run", rate=0.5)
    page = of_run(run.path)
    check_sound(page)
    text = text_of(page)
    assert "The model reached 60.0 % accuracy in 3 rounds and 30s of virtual time." in text
    assert "50.0 % of the devices have the memory to take part; those that did hold 16.7 % of the data." in text
    assert "2 MB" in text
    for number, second, accuracy in run.curve():
        assert f"round {number}, {second:g}s, " in page
        assert f"{accuracy * 100:.1f} %" in text
    assert run.summary["digest"] in text
    assert "neulite-sim run run/scenario.yaml --out again" in text
    assert "devices.csv" in text


def test_a_proxy_is_named_wherever_the_accuracy_stands(tmp_path: Path) -> None:
    page = text_of(of_run(stored_runs.write_run(tmp_path / "run", proxy="trained: half of it; charged: all").path))
    assert "The proxy reached 60.0 % accuracy" in page
    assert "Accuracy is of a proxy: half of it; charged: all." in page


def test_perplexity_has_a_curve_and_numbers_where_the_run_has_it(tmp_path: Path) -> None:
    curve = ((10.0, 0.1), (20.0, None), (30.0, 0.2))
    run = stored_runs.write_run(tmp_path / "run", curve, perplexities=(24.0, None, 18.25))
    page = of_run(run.path)
    check_sound(page)
    text = text_of(page)
    assert "The model reached 15.0 % accuracy and a perplexity of 18.25 in 3 rounds" in text
    assert "perplexity 18.25 at the end; best 18.25" in text
    assert "Accuracy and perplexity" in text
    assert "Perplexity over virtual time" in text
    assert 'aria-label="Test perplexity over rounds: perplexity ends at 18.25."' in page
    for number, second, perplexity in run.curve("test_perplexity"):
        assert re.search(rf"round {number}, {second:g}s, \S+ k?B: {perplexity:.2f}", page)
    without = of_run(stored_runs.write_run(tmp_path / "other", curve).path)
    assert "erplexity" not in without


def test_a_run_that_was_cut_off_is_shown_as_far_as_its_rows_go(tmp_path: Path) -> None:
    run = stored_runs.write_run(tmp_path / "run", is_complete=False)
    page = text_of(of_run(run.path))
    assert "This run was cut off, or still goes on" in page
    assert "neulite-sim resume run" in page
    assert "60.0 % accuracy" in page


def test_targets_are_said_to_be_reached_or_not(tmp_path: Path) -> None:
    goals = ("evaluation.targets=[0.5, 0.9]", "stop.target_accuracy=0.9")
    page = text_of(of_run(stored_runs.write_run(tmp_path / "run", ((10.0, 0.4), (20.0, 0.6)), *goals).path))
    assert "target 90 %: not reached" in page
    assert "50 % after 20s" in page
    assert "never 90 %" in page


def test_a_run_without_a_round_has_nothing_to_report(tmp_path: Path) -> None:
    stored_runs.write_run(tmp_path / "run", (), is_complete=False)
    with pytest.raises(
        DataNotFoundError, match=r"run: no round was aggregated \(yet\), so there is nothing to report; wait"
    ):
        run_page(tmp_path / "run", most_rows=100, shown_as="run")


def test_a_run_that_was_never_tested_says_so(tmp_path: Path) -> None:
    page = of_run(stored_runs.write_run(tmp_path / "run", ((10.0, None),)).path)
    check_sound(page)
    assert "Nothing was tested in 1 round and 10s of virtual time." in text_of(page)


def test_nobody_who_could_train_is_the_answer(tmp_path: Path) -> None:
    from tiny_scenarios import tiny

    from neulite_sim.studies.sweeps import write_not_applicable

    write_not_applicable(tiny(), "NA: the full model needs 9 MB, the largest device has 2 MB", out=tmp_path / "run")
    page = of_run(tmp_path / "run")
    check_sound(page)
    assert "No device could train anything: the full model needs 9 MB, the largest device has 2 MB." in text_of(page)


def test_a_table_that_was_changed_is_refused(tmp_path: Path) -> None:
    run = stored_runs.write_run(tmp_path / "run")
    flights = run.path / "flights.csv"
    flights.write_text(flights.read_text().replace("arrived", "4rrived"))
    with pytest.raises(DataNotFoundError, match=r"flights.csv: is not what SHA256SUMS beside it says"):
        of_run(run.path)


def test_a_broken_table_of_a_run_that_still_goes_on_is_refused(tmp_path: Path) -> None:
    run = stored_runs.write_run(tmp_path / "run", is_complete=False)
    flights = run.path / "flights.csv"
    head, *rows = flights.read_text().splitlines(keepends=True)
    flights.write_text(head + rows[0].replace("1,1,0,x", "1,1,77,x"))
    with pytest.raises(
        DataNotFoundError, match=r"flights.csv: names device 77, but the scenario has 6; the file was changed or cut"
    ):
        of_run(run.path)


def test_names_from_outside_are_text_and_never_code(tmp_path: Path) -> None:
    flights = [timeline_runs.flight(1, 1, 2, 0.0, (1.0, 2.0, 1.0), device_class=HOSTILE, submodel=HOSTILE),
               timeline_runs.flight(2, 1, 3, 0.0, (1.0, 0.0, 0.0), outcome="dropped", reason=HOSTILE)]  # fmt: skip
    run = stored_runs.write_run(tmp_path / HOSTILE.replace("/", "\\"))
    folder = tmp_path / "rows"
    timeline_runs.write_rows(folder, flights, [timeline_runs.aggregation(1, 10.0, HOSTILE)], is_complete=False)
    (folder / "provenance.json").unlink()
    scenario = dump_scenario(stored_runs.tiny()).replace("name: tiny", f"name: {HOSTILE!r}")
    (folder / "scenario.yaml").write_text(scenario)
    for page in (of_run(run.path), of_run(folder)):
        check_sound(page)
        assert "<script>alert" not in page
    assert "alert(1)" in page


# What pages add up.


@pytest.fixture(scope="module")
def flown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with flights, drops and denials that are written down here."""
    folder = timeline_runs.two_rounds(tmp_path_factory.mktemp("flown") / "run", is_complete=False)
    (folder / "provenance.json").unlink()
    (folder / "scenario.yaml").write_text(dump_scenario(stored_runs.tiny("population.devices=8")))
    return folder


def test_parts_of_time_are_those_of_the_timeline(flown: Path) -> None:
    story = read_story(flown)
    report = timeline_report(read_window(flown))
    for place, item in enumerate(report["rounds"]):
        assert dict(zip(SPENT, shares(story.flown.spent_by_round[place]), strict=True)) == pytest.approx(item["shares"])
    for item in report["classes"]:
        found = shares(story.flown.spent_by_class[item["device_class"]])
        assert dict(zip(SPENT, found, strict=True)) == pytest.approx(item["shares"])
        assert story.flown.flights_by_class[item["device_class"]] == item["flights"]


def test_shares_of_devices_grow_to_those_that_arrived(flown: Path) -> None:
    devices, data = shares_over_time(read_story(flown))
    assert devices == pytest.approx([2 / 8, 2 / 8])
    assert data is None


def test_the_share_of_the_data_ends_at_that_of_the_summary(tmp_path: Path) -> None:
    run = stored_runs.write_run(tmp_path / "run")
    _, data = shares_over_time(read_story(run.path))
    assert data is not None
    assert data[-1] == pytest.approx(run.summary["data_share"])


def test_the_fleet_of_a_round_is_what_its_rows_say(tmp_path: Path) -> None:
    from neulite_sim.results.folder import RunFolder

    rounds = [timeline_runs.aggregation(number, 10.0 * number) for number in (1, 2)]
    path = tmp_path / "run"
    with RunFolder.create(
        path, name="a", seed=1, scenario_yaml=dump_scenario(stored_runs.tiny()), provenance={}
    ) as folder:
        for number, row in enumerate(rounds, start=1):
            for reason, submodel, devices in (("offline", "", 2), ("not enough memory", "full", number)):
                low = 100 * number if submodel else None
                folder.write(DenialRow(round=number, reason=reason, submodel=submodel, devices=devices,
                                       shortfall_bytes_min=low, shortfall_bytes_median=low, shortfall_bytes_max=low))  # fmt: skip
            folder.write(row)
    found = {name: list(cells) for name, cells in fleet_per_round(read_story(path))}
    counted = [
        row["devices"] for row in scan_rows(path / "denials.csv", DenialRow) if row["reason"] == "not enough memory"
    ]
    assert found["not enough memory"] == counted == [1, 2]
    assert found["offline"] == [2, 2]
    assert found["arrived"] == [row["arrived"] for row in scan_rows(path / "rounds.csv", RoundRow)]
    assert read_story(path).shortfalls == {"full": (100, 200)}


# Several runs.


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Two methods with three seeds: the second is better in all of them, by 10, 12 and 11 points."""
    folder = tmp_path_factory.mktemp("pairs")
    found = []
    for method, accuracies in (("fedavg", (0.60, 0.64, 0.62)), ("heterofl", (0.70, 0.76, 0.73))):
        for seed, accuracy in enumerate(accuracies, start=1):
            curve = ((10.0, accuracy), (20.0, accuracy), (30.0, accuracy))
            settings = (f"seed={seed}", f"method={method}", "model=lenet", "data.image_size=12")
            found.append(stored_runs.write_run(folder / f"{method}-{seed}", curve, *settings))
    return found


def test_a_comparison_says_means_intervals_and_verdicts(pairs: list[Any]) -> None:
    page = html_of(comparison_page(pairs, baseline=None, shown_as=["runs"]))
    check_sound(page)
    text = text_of(page)
    assert "HeteroFL reached 73.0 % accuracy in the mean of 3 seeds, more than any other." in text
    assert "Against FedAvg, HeteroFL (+11.0 points) is better." in text
    # Student's t for two degrees of freedom is 4.303; the differences have a standard deviation of one point.
    assert "+8.5 points to +13.5 points" in text
    assert "neulite-sim compare runs --group --baseline fedavg" in text


def test_the_baseline_may_be_named(pairs: list[Any]) -> None:
    text = text_of(html_of(comparison_page(pairs, baseline="heterofl", shown_as=["runs"])))
    assert "Against HeteroFL, FedAvg (−11.0 points) is worse." in text


def test_one_seed_each_tells_nothing_apart(pairs: list[Any]) -> None:
    text = text_of(html_of(comparison_page([pairs[0], pairs[3]], baseline=None, shown_as=["runs"])))
    assert "HeteroFL (+10.0 points) is not told apart from it" in text
    assert "one seed: unknown" in text


def test_a_comparison_of_texts_has_perplexity_in_curves_tables_and_tiles(tmp_path: Path) -> None:
    runs = [stored_runs.write_run(tmp_path / f"{method}-{seed}", ((10.0, 0.1), (20.0, 0.2)), f"method={method}",
                                  f"seed={seed}", perplexities=(24.0, last + seed))
            for method, last in (("fedavg", 10.0), ("heterofl", 12.0)) for seed in (1, 2)]  # fmt: skip
    page = html_of(comparison_page(runs, baseline="fedavg", shown_as=["runs"]))
    check_sound(page)
    text = text_of(page)
    assert "perplexity 11.50 at the end" in text
    assert re.search(r"final perplexity\s+\+2\.00\s+\+2\.00 to \+2\.00\s+2\s+worse", text)
    assert "Perplexity over virtual time" in text
    assert "FedAvg ends at 11.50; HeteroFL ends at 13.50" in page
    assert re.search(r"heterofl-2\s+HeteroFL\s+2\s+15\.0 %\s+14\.00\s+20s", text)


def test_steps_that_are_made_to_fit_and_proxies_are_named(tmp_path: Path) -> None:
    curve, proxy = ((10.0, 0.5),), "trained: half of it; charged: all"
    runs = [stored_runs.write_run(tmp_path / "a", curve, "training.fit=auto", proxy=proxy),
            stored_runs.write_run(tmp_path / "b", curve, "method=exclusivefl", proxy=proxy)]  # fmt: skip
    text = text_of(html_of(comparison_page(runs, baseline="exclusivefl", shown_as=["runs"])))
    assert "Against ExclusiveFL, FedAvg (fit auto) (+0.0 points) is not told apart from it." in text
    assert "Note. Accuracy is of a proxy: half of it; charged: all" in text


# Studies.

ROWS = [
    {"method": name, "variant": name, "budget_bytes": budget, "participation_rate": rate, "data_share": rate,
     "binding_submodel": None if rate == 1 else "full", "shortfall_bytes_median": None if rate == 1 else 5_000_000,
     "round_s": None if rate == 0 else 30.0, "bytes_per_round": None if rate == 0 else 2_000_000.0, "ends_after_rounds": None}
    for name, rates in (("neulite", (0.25, 1.0)), (HOSTILE, (0.0, 1.0))) for budget, rate in zip((100_000_000, 300_000_000), rates, strict=True)
]  # fmt: skip
STUDY = {
    "scenario": "mine", "model": "lenet", "devices": 4, "budget_kind": "memory", "devices_per_round": 2, "rows": ROWS,
    "includes_everyone_at_bytes": {"neulite": 212_300_000, HOSTILE: 290_000_000},
    "trains_everything_at_bytes": {"neulite": 250_000_000, HOSTILE: 290_000_000},
    "device_classes": [], "not_applicable": {"depthfl": "has no depth here"}, "notes": ["A note"],
}  # fmt: skip


def study(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "study.json"
    path.write_text(json.dumps(content))
    return path


def test_a_study_says_what_its_rows_say(tmp_path: Path) -> None:
    page = html_of(study_page(study(tmp_path, STUDY), shown_as="study.json"))
    check_sound(page)
    text = text_of(page)
    assert "With NeuLite, every device takes part from 212.3 MB on" in text
    assert "25.0 %" in text
    assert "full, 5 MB short" in text
    assert "DepthFL: has no depth here" in text
    assert "<script>alert" not in page
    assert "neulite-sim whatif mine.yaml --memory 100000000,300000000 --json > study.json" in text


def test_a_study_as_csv_gives_the_same_rows(tmp_path: Path) -> None:
    from neulite_sim.cli.compare import write_csv

    write_csv(ROWS, str(tmp_path / "study.csv"))
    page = html_of(study_page(tmp_path / "study.csv", shown_as="study.csv"))
    check_sound(page)
    text = text_of(page)
    assert "every device takes part from 300 MB on, of the budgets that were asked" in text
    assert "25.0 %" in text
    assert "This file is a table of rows" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"rows": 3}, "it has no list of rows"),
        ({**STUDY, "rows": []}, "rows: must be a list of at least 1, found an empty list"),
        ({**STUDY, "rows": [{**ROWS[0], "participation_rate": 7}]}, "rows.0.participation_rate: must be at most 1, found 7"),
        ({**STUDY, "rows": [{key: value for key, value in ROWS[0].items() if key != "data_share"}]}, "rows.0.data_share: is missing"),
        ({**STUDY, "budget_kind": "disk"}, "budget_kind: .*, found 'disk'"),
        ({**STUDY, "rows": ROWS[:3]}, "are not one for each budget, in rising order"),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_study_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataNotFoundError, match=rf"study.json: holds no study of memory budgets: .*{message}"):
        study_page(study(tmp_path, content), shown_as="study.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"[" * 100_000, "it is not valid JSON"), (b"\xff\xfe", "cannot be read: it is no text"), (b"a,b\n1,2\n", "no column budget_bytes")],
)  # fmt: skip
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "study").write_bytes(content)
    with pytest.raises(DataNotFoundError, match=message):
        study_page(tmp_path / "study", shown_as="study")


# The file.


def long_page(rows: int) -> Page:
    table = TextTable(headers=("a", "b"), rows=tuple((str(number), "x" * 2000) for number in range(rows)))
    return Page(title="t", subtitle="s", answer="a", tiles=(), made_of="m",
                sections=(Section(name="long", title="Long", blocks=(Grid(table=table),)),))  # fmt: skip


def test_a_page_that_would_be_too_large_has_shorter_tables(tmp_path: Path) -> None:
    num_bytes = write_page(long_page, tmp_path / "report.html")
    assert num_bytes == (tmp_path / "report.html").stat().st_size <= MOST_BYTES
    assert (tmp_path / "report.html").read_text().count("<tr>") == 1 + pages.MOST_ROWS[1]


def test_a_page_that_stays_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        OutputError, match=r"report.html: the report would hold 4.* MB, more than 2 MB; give fewer runs"
    ):
        write_page(lambda rows: long_page(2000), tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_the_templates_belong_to_the_package() -> None:
    files = resources.files(pages.PACKAGE) / "templates"
    assert {file.name for file in files.iterdir()} == {"page.html", "blocks.html", "style.css", "script.js"}
    import tomllib

    declared = tomllib.loads((Path(pages.__file__).parents[3] / "pyproject.toml").read_text())
    assert "reports/html/templates/*" in declared["tool"]["setuptools"]["package-data"]["neulite_sim"]


def test_bins_hold_every_round_once(tmp_path: Path) -> None:
    curve = tuple((float(second), None) for second in range(1, 100))
    rounds = read_story(stored_runs.write_run(tmp_path / "run", curve).path).rounds
    bins = rounds.bins()
    assert len(bins) <= 40
    assert np.concatenate([rounds.number[part] for part in bins]).tolist() == list(range(1, 100))
