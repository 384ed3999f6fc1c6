"""Reading run folders back: where they are, what they hold, and what is said of those that are none."""

import re

import pytest
from stored_runs import write_run
from tiny_scenarios import tiny

from neulite_sim.errors import DataNotFoundError
from neulite_sim.results.stored import find_runs, read_run, recorded_hash
from neulite_sim.scenario.loading import scenario_hash


def test_a_complete_run_is_its_summary_its_scenario_and_its_curve(tmp_path):
    run = write_run(tmp_path / "a", [(10.0, 0.4), (20.0, None), (30.0, 0.8)], rate=0.5)
    assert run.is_complete
    assert run.not_applicable is None
    assert run.summary["participation_rate"] == 0.5
    assert run.summary["tail_accuracy"] == pytest.approx(0.6)
    assert run.scenario == tiny().dump()
    assert run.curve() == [(1, 10.0, 0.4), (3, 30.0, 0.8)]


def test_a_cut_off_run_is_added_up_from_its_rows_and_does_not_claim_what_they_do_not_tell(tmp_path):
    whole = write_run(tmp_path / "whole")
    cut = write_run(tmp_path / "cut", is_complete=False)
    assert not cut.is_complete
    unknown = {"participation_rate", "data_share", "proxy", "wall_time_s", "digest"}
    assert {key for key, value in cut.summary.items() if value != whole.summary[key]} == unknown - {"proxy"}
    assert all(cut.summary[key] is None for key in unknown)
    assert cut.summary["time_to_accuracy_s"] == {"0.5": 20.0, "0.6": 20.0, "0.7": 30.0, "0.8": 30.0, "0.9": None}
    assert cut.curve() == whole.curve()


def test_runs_are_found_in_a_folder_and_one_level_below_it_by_name(tmp_path):
    for name in ("b", "a", "deep/inside"):
        write_run(tmp_path / "runs" / name)
    (tmp_path / "runs" / "notes").mkdir()
    assert find_runs(tmp_path / "runs") == [tmp_path / "runs" / "a", tmp_path / "runs" / "b"]
    assert find_runs(tmp_path / "runs" / "b") == [tmp_path / "runs" / "b"]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("gone", "does not exist"),
        ("file", "is a file"),
        ("empty", "is no run folder and holds none (no scenario.yaml in it)"),
    ],
)
def test_what_is_no_run_folder_is_told_with_its_path(tmp_path, name, what):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    message = f"{tmp_path / name}: {what}; name a folder that `neulite-sim run` wrote"
    with pytest.raises(DataNotFoundError, match=f"^{re.escape(message)}$"):
        find_runs(tmp_path / name)


@pytest.mark.parametrize(
    ("file", "content", "what"),
    [
        ("scenario.yaml", "a: [", "holds no scenario"),
        ("scenario.yaml", "- a list\n", "holds no scenario"),
        ("summary.json", "{", "holds no summary"),
        ("summary.json", "[1]", "holds no summary"),
        ("summary.json", None, "cannot be read: No such file or directory"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, content, what):
    write_run(tmp_path)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_text(content)
    message = f"{tmp_path / file}: {what}; the file was changed or cut, so run the scenario again"
    with pytest.raises(DataNotFoundError, match=f"^{re.escape(message)}$"):
        read_run(tmp_path)


def test_a_cut_off_run_whose_scenario_was_changed_is_refused(tmp_path):
    write_run(tmp_path, is_complete=False)
    (tmp_path / "scenario.yaml").write_text("name: other\n")
    with pytest.raises(DataNotFoundError, match=r"scenario\.yaml: lacks what a resolved scenario has; the file was ch"):
        read_run(tmp_path)


def test_the_hash_of_the_scenario_is_that_of_the_provenance_and_none_where_that_is_gone(tmp_path):
    write_run(tmp_path)
    assert recorded_hash(tmp_path) == scenario_hash(tiny())
    (tmp_path / "provenance.json").write_text("{}")
    assert recorded_hash(tmp_path) is None
    (tmp_path / "provenance.json").unlink()
    assert recorded_hash(tmp_path) is None
