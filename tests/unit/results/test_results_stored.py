"""Reading run folders back: where they are, what they hold, and what is said of those that are none."""

import json
import re
import subprocess

import pytest
from stored_runs import write_run
from tiny_scenarios import tiny

from neulite_sim.errors import DataNotFoundError
from neulite_sim.results.places import OWN_FILES
from neulite_sim.results.stored import find_runs, read_run


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


def as_of_an_older_version(folder):
    """Take away what shows changes: older versions wrote none of it."""
    (folder / "SHA256SUMS").unlink(missing_ok=True)
    made = {key: value for key, value in json.loads((folder / "provenance.json").read_text()).items()
            if key not in ("sha256", "inputs", "scenario_sha256")}  # fmt: skip
    (folder / "provenance.json").write_text(json.dumps({**made, "schema_version": 1}))


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
    as_of_an_older_version(tmp_path)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_text(content)
    message = f"{tmp_path / file}: {what}; the file was changed or cut, so run the scenario again"
    with pytest.raises(DataNotFoundError, match=f"^{re.escape(message)}$"):
        read_run(tmp_path)


def test_a_cut_off_run_whose_scenario_was_changed_is_refused(tmp_path):
    write_run(tmp_path, is_complete=False)
    as_of_an_older_version(tmp_path)
    (tmp_path / "scenario.yaml").write_text("name: other\n")
    with pytest.raises(DataNotFoundError, match=r"scenario\.yaml: lacks what a resolved scenario has; the file was ch"):
        read_run(tmp_path)


@pytest.mark.parametrize("file", ["COMPLETE", "provenance.json", "scenario.yaml", "summary.json", "rounds.csv"])
@pytest.mark.parametrize("is_lost", [False, True])
def test_a_complete_run_of_which_something_was_changed_is_refused(tmp_path, file, is_lost):
    write_run(tmp_path)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).unlink() if is_lost else (tmp_path / file).write_bytes(bytes([content[0] ^ 1]) + content[1:])
    if (file, is_lost) == ("COMPLETE", True):
        assert not read_run(tmp_path).is_complete
        return
    with pytest.raises(DataNotFoundError) as refused:
        read_run(tmp_path)
    why = "is gone" if is_lost else "is not what SHA256SUMS beside it says: one of the two was changed"
    assert str(refused.value) == f"{tmp_path / file}: {why}; put it back, or run the scenario again"


def test_the_sums_are_those_that_sha256sum_checks(tmp_path):
    write_run(tmp_path)
    found = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert {line.split(":")[0] for line in found.stdout.splitlines()} == {
        "COMPLETE", "denials.csv", "flights.csv", "model.safetensors", "provenance.json", "rounds.csv", "scenario.yaml",
        "summary.json", "timeline.json.gz",
    }  # fmt: skip


def test_lost_or_changed_sums_are_told(tmp_path):
    write_run(tmp_path)
    (tmp_path / "SHA256SUMS").write_text("nonsense\n")
    with pytest.raises(DataNotFoundError, match=r"COMPLETE: is not what SHA256SUMS beside it says: one of the two"):
        read_run(tmp_path)
    (tmp_path / "SHA256SUMS").unlink()
    with pytest.raises(DataNotFoundError, match=r"SHA256SUMS: is gone; the file was changed or cut, so run the scenar"):
        read_run(tmp_path)


def test_a_cut_off_run_of_which_the_scenario_or_the_provenance_was_changed_is_refused(tmp_path):
    write_run(tmp_path, is_complete=False)
    for file in ("provenance.json", "scenario.yaml"):
        content = (tmp_path / file).read_bytes()
        (tmp_path / file).write_bytes(content.replace(b"e", b"f", 1))
        with pytest.raises(DataNotFoundError, match=f"{file}: is not as it was written; the file was changed or cut"):
            read_run(tmp_path)
        (tmp_path / file).write_bytes(content)


@pytest.mark.parametrize("is_complete", [False, True])
@pytest.mark.parametrize("file", OWN_FILES)
def test_a_link_in_the_place_of_a_file_is_refused(tmp_path, file, is_complete):
    write_run(tmp_path / "run", is_complete=is_complete)
    (tmp_path / "precious").write_text("keep me")
    place = tmp_path / "run" / file
    place.unlink(missing_ok=True)
    place.symlink_to(tmp_path / "precious")
    with pytest.raises(
        DataNotFoundError, match=f"{file}: is a symbolic link, where a run has a file of its own; nothing"
    ):
        read_run(tmp_path / "run")
    assert (tmp_path / "precious").read_text() == "keep me"
