"""The list of run folders: states, what is read of each, and folders that are damaged or no runs."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from stored_runs import resealed, round_row, write_rows, write_run
from tiny_scenarios import tiny

from neulite_sim import resume, simulate
from neulite_sim.errors import DataNotFoundError, OutputError, SimulationError
from neulite_sim.results.claiming import require_free
from neulite_sim.results.folder import RunFolder
from neulite_sim.results.journal import Journal
from neulite_sim.results.listing import ListedRun, list_runs
from neulite_sim.results.stored import read_run
from neulite_sim.studies.sweeps import write_not_applicable


def listed(folder: Path) -> dict[str, ListedRun]:
    return {run.run: run for run in list_runs(folder).runs}


@pytest.fixture
def cut_off(tmp_path: Path) -> Path:
    path = write_run(tmp_path / "runs" / "cut", [(10.0, 0.4), (20.0, 0.6), (30.0, None)], is_complete=False).path
    Journal(path / "journal").close()
    return path


def test_a_complete_run_is_what_its_summary_says(tmp_path: Path) -> None:
    write_run(tmp_path / "sweep" / "a-1", [(10.0, 0.4), (20.0, 0.8)], "seed=7")
    (run,) = list_runs(tmp_path).runs
    assert (run.run, run.state, run.name, run.method, run.seed) == ("sweep/a-1", "complete", "tiny", "fedavg", 7)
    assert (run.rounds, run.final_accuracy, run.best_accuracy, run.virtual_time_s) == (2, 0.8, 0.8, 20.0)
    assert run.tail_accuracy == pytest.approx(0.6)
    assert run.started_at_utc is not None
    assert run.to_json()["accuracy"] == run.tail_accuracy


def test_a_stopped_run_is_added_up_from_its_rounds(cut_off: Path) -> None:
    run = listed(cut_off.parent)["cut"]
    assert (run.state, run.name, run.method, run.seed) == ("resumable", "tiny", "fedavg", 3)
    assert (run.rounds, run.final_accuracy, run.best_accuracy, run.virtual_time_s) == (3, 0.6, 0.6, 30.0)
    assert run.tail_accuracy == 0.5


def test_a_run_at_work_holds_its_journal(cut_off: Path) -> None:
    with Journal(cut_off / "journal"):
        assert listed(cut_off.parent)["cut"].state == "running"
    assert listed(cut_off.parent)["cut"].state == "resumable"


def test_a_run_of_another_version_is_only_cut_off(cut_off: Path) -> None:
    resealed(cut_off / "provenance.json", neulite_sim="0.0.1")
    run = listed(cut_off.parent)["cut"]
    assert (run.state, run.remark) == ("cut off", "made with neulite-sim 0.0.1 (here 0.1.0)")


def test_a_run_that_failed_says_why_until_it_is_taken_up_again(cut_off: Path) -> None:
    with pytest.raises(SimulationError), RunFolder(cut_off, ()):
        raise SimulationError("device 3 lost\nits mind")
    run = listed(cut_off.parent)["cut"]
    assert (run.state, run.remark) == ("failed", "simulation: device 3 lost its mind")
    with RunFolder.reopen(cut_off) as folder:
        folder.put_in_place()
    assert listed(cut_off.parent)["cut"].state == "resumable"


def test_an_interrupted_run_and_a_resume_that_changed_nothing_are_not_marked_as_failed(cut_off: Path) -> None:
    with pytest.raises(KeyboardInterrupt), RunFolder(cut_off, ()):
        raise KeyboardInterrupt
    with pytest.raises(SimulationError), RunFolder.reopen(cut_off):
        raise SimulationError("another journal")
    assert not (cut_off / "FAILED").exists()


def test_a_run_that_nobody_could_train_is_not_applicable(tmp_path: Path) -> None:
    write_not_applicable(tiny(), "NA: too small", out=tmp_path / "a")
    run = listed(tmp_path)["a"]
    assert (run.state, run.remark, run.final_accuracy) == ("NA", "NA: too small", None)


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


DAMAGES = {
    "no scenario": (lambda run: (run / "scenario.yaml").unlink(), "no scenario.yaml"),
    "summary gone": (lambda run: (run / "summary.json").unlink(), "summary.json cannot be read: No such file"),
    "summary cut": (lambda run: (run / "summary.json").write_text('{"name": "ti'), "summary.json is no JSON object"),
    "summary deep": (lambda run: (run / "summary.json").write_text("[" * 10**5), "summary.json is no JSON object"),
    "summary strange": (lambda run: (run / "summary.json").write_text('{"rounds": [1]}'), "summary.json: rounds is [1]"),
    "summary NaN": (lambda run: (run / "summary.json").write_text('{"rounds": NaN}'), "summary.json is no JSON object"),
    "provenance bytes": (lambda run: (run / "provenance.json").write_bytes(b"\xff\x00"), "provenance.json is no JSON object"),
    "fifo": (
        lambda run: ((run / "summary.json").unlink(), os.mkfifo(run / "summary.json")),
        "summary.json cannot be read: is not a regular file",
    ),
    "link": (
        lambda run: ((run / "summary.json").unlink(), (run / "summary.json").symlink_to("/etc/hostname")),
        "summary.json cannot be read: Too many levels",
    ),
    "rounds": (
        lambda run: ((run / "COMPLETE").unlink(), (run / "rounds.csv").write_text("round\n1\n")),
        "rounds.csv: has no column",
    ),
    "scenario": (
        lambda run: ((run / "COMPLETE").unlink(), (run / "scenario.yaml").write_text("name: [")),
        "scenario.yaml lacks what a resolved scenario has",
    ),
    "another scenario": (
        lambda run: ((run / "COMPLETE").unlink(), edited(run / "scenario.yaml", "seed: 3", "seed: 4")),
        "scenario.yaml: is not as it was written",
    ),
    "another start": (
        lambda run: ((run / "COMPLETE").unlink(), edited(run / "provenance.json", '"command"', '"Command"')),
        "provenance.json: is not as it was written",
    ),
    "another result": (
        lambda run: edited(run / "summary.json", '"tail_accuracy": 0.', '"tail_accuracy": 1.'),
        "summary.json: is not what SHA256SUMS beside it says",
    ),
    "two tables gone": (
        lambda run: ((run / "rounds.csv").unlink(), (run / "flights.csv").unlink()),
        "flights.csv and rounds.csv are gone",
    ),
    "sums gone": (lambda run: (run / "SHA256SUMS").unlink(), "SHA256SUMS: is gone"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_has_a_row_that_says_so_beside_the_others(damage: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "a").path
    shutil.copytree(run, tmp_path / "b")
    change, told = DAMAGES[damage]
    change(run)
    found = listed(tmp_path)
    assert found["a"].state == "damaged"
    assert found["a"].remark.startswith(told)
    assert found["b"].state == "complete"


def test_folders_that_are_no_runs_are_passed_over_and_counted(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "deep" / "er" / "a")
    for name in ("notes", "figures", ".hidden"):
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / "text").touch()
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs", target_is_directory=True)
    found = list_runs(tmp_path / "runs")
    assert [run.run for run in found.runs] == ["deep/er/a"]
    assert found.remarks == ["2 folders hold no run"]


def test_a_folder_that_cannot_be_looked_into_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "a")
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if path == tmp_path / "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = list_runs(tmp_path)
    assert [run.run for run in found.runs] == ["a"]
    assert found.remarks == [f"{tmp_path / 'locked'}: cannot be read: Permission denied"]


def test_a_run_folder_itself_is_listed_under_its_own_name(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a").path
    assert [run.run for run in list_runs(path).runs] == ["a"]


@pytest.mark.parametrize(("name", "what"), [("gone", "does not exist"), ("file", "is a file")])
def test_what_is_no_folder_is_refused(name: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataNotFoundError, match=rf"{name}: {what}; name the folder in which runs are, such as runs"):
        list_runs(tmp_path / name)


def test_a_thousand_folders_are_listed_in_a_moment(tmp_path: Path, cut_off: Path) -> None:
    complete = write_rows(tmp_path / "a", [round_row(1, 1.0, 0.5)]).path
    for number in range(500):
        for kind, original in (("a", complete), ("b", cut_off)):
            copy = tmp_path / "many" / f"{kind}-{number}"
            copy.mkdir(parents=True)
            for file in original.iterdir():
                if file.is_file():
                    os.link(file, copy / file.name)
    began_s = time.process_time()
    found = list_runs(tmp_path / "many").runs
    assert time.process_time() - began_s < 5
    assert [run.state for run in found].count("complete") == 500


HALVES = {
    "a scenario begun": ["scenario.yaml.partial"],
    "a scenario": ["scenario.yaml"],
    "a provenance begun": ["scenario.yaml", "provenance.json.partial"],
    "no table": ["scenario.yaml", "provenance.json"],
    "a table": ["scenario.yaml", "provenance.json", "rounds.csv"],
    "two tables": ["scenario.yaml", "provenance.json", "rounds.csv", "flights.csv"],
}


@pytest.mark.parametrize("half", HALVES)
def test_each_half_made_folder_is_told_by_all_for_what_it_is(tmp_path, half):
    """A run writes its files one after the other: whichever is the last, nobody points to a way that is closed."""
    names = HALVES[half]
    whole, run_dir = tmp_path / "whole", tmp_path / "half"
    simulate(tiny("backend=dry-run", "stop.rounds=1"), out=whole)
    run_dir.mkdir()
    for name in names:
        content = "" if name.endswith(".partial") else (whole / name).read_text()
        (run_dir / name).write_text(content.splitlines()[0] + "\n" if name.endswith(".csv") else content)
    has_begun = "provenance.json" in names
    taken = r"already holds an unfinished run \(.*; --out needs" if has_begun else (
        r"already holds a run that was cut off before it began \(.*; remove the folder, or give --out another$"
    )  # fmt: skip
    with pytest.raises(OutputError, match=taken):
        require_free(run_dir)
    if "scenario.yaml" in names:
        unread = (
            "was cut off before its first round, so there is nothing to read; go on with `neulite-sim resume`$"
            if has_begun
            else "holds a run that was cut off before it began; remove the folder and run it anew$"
        )
        with pytest.raises(DataNotFoundError, match=unread):
            read_run(run_dir)
        (listed,) = list_runs(run_dir).runs
        assert (listed.state, listed.remark) == ("cut off", "" if has_begun else "before it began; run it anew")
    if not has_begun:
        with pytest.raises(
            OutputError, match="holds a run that was cut off before it began; remove the folder and run"
        ):
            resume(run_dir)
        return
    resume(run_dir)
    assert read_run(run_dir).summary["digest"] == read_run(whole).summary["digest"]
