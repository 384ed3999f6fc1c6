import contextlib
import gc
import hashlib
import json
import os
import resource
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from neulite_sim.errors import DataNotFoundError, OutputError
from neulite_sim.results.cells import record
from neulite_sim.results.folder import RunFolder, clear_cut_off
from neulite_sim.results.memory import read_rows
from neulite_sim.results.rows import DenialRow, DiagnosticRow, FlightRow, RoundRow, columns
from neulite_sim.results.seals import is_sealed
from neulite_sim.results.trace_events import _HELD_CHARACTERS


def create(path, **changes):
    given = {"name": "job", "seed": 7, "scenario_yaml": "name: job\n", "provenance": {"seed": 7}} | changes
    return RunFolder.create(path, **given)


@contextlib.contextmanager
def full_disk(limit_bytes):
    """Writing any file beyond `limit_bytes` fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_new_folder_holds_scenario_provenance_and_empty_tables(tmp_path):
    with create(tmp_path / "a" / "b") as folder:
        assert folder.path == tmp_path / "a" / "b"
        assert (folder.path / "scenario.yaml").read_text() == "name: job\n"
        made = json.loads((folder.path / "provenance.json").read_text())
        assert made["seed"] == 7
        assert made["scenario_sha256"] == hashlib.sha256(b"name: job\n").hexdigest()
        assert is_sealed(made)
        assert (folder.path / "denials.csv").read_text() == ",".join(columns(DenialRow)) + "\n"
        assert not (folder.path / "COMPLETE").exists()


def test_default_folder_is_the_first_free_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = []
    for _ in range(3):
        with create(None) as folder:
            names.append(folder.path)
    assert names == [Path("runs/job-7"), Path("runs/job-7-2"), Path("runs/job-7-3")]


def test_empty_folder_is_taken(tmp_path):
    with create(tmp_path) as folder:
        assert folder.path == tmp_path


def test_folder_of_a_complete_run_is_refused_with_what_it_holds(tmp_path):
    for name in ("COMPLETE", "rounds.csv", "scenario.yaml", "summary.json"):
        (tmp_path / name).touch()
    with pytest.raises(
        OutputError, match=r"already holds the complete run \(COMPLETE, rounds\.csv, scenario\.yaml and 1"
    ):
        create(tmp_path)


def test_folder_of_an_unfinished_run_is_refused_as_such(tmp_path):
    create(tmp_path).close()
    with pytest.raises(OutputError, match="already holds an unfinished run"):
        create(tmp_path)


def test_folder_with_other_files_is_refused_and_left_as_it_was(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(
        OutputError, match=r"already holds other files \(thesis\.tex\); --out needs a new or empty folder"
    ):
        create(tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["thesis.tex"]


def test_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="out: is a file; --out needs a new or empty folder"):
        create(tmp_path / "out")


def test_file_in_place_of_a_parent_is_refused_with_the_reason(tmp_path):
    (tmp_path / "parent").touch()
    with pytest.raises(OutputError, match="parent/out: cannot create: Not a directory"):
        create(tmp_path / "parent" / "out")


def test_file_in_place_of_runs_is_refused_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").touch()
    with pytest.raises(OutputError, match="runs: cannot create: File exists"):
        create(None)


def test_folder_that_cannot_be_filled_leaves_nothing_behind(tmp_path):
    with full_disk(100), pytest.raises(OutputError, match=r"scenario\.yaml: cannot write: File too large"):
        create(tmp_path / "new" / "out", scenario_yaml="x" * 1000)
    assert list(tmp_path.iterdir()) == []


def test_discarded_folder_takes_its_parents_along_but_no_foreign_file(tmp_path):
    folder = create(tmp_path / "new" / "out")
    (tmp_path / "new" / "mine").touch()
    folder.discard()
    assert [item.name for item in (tmp_path / "new").iterdir()] == ["mine"]


def test_rows_are_on_disk_with_their_round(tmp_path, make_row):
    folder = create(tmp_path)
    folder.write(make_row(FlightRow, flight=3, loss=None))
    folder.write(make_row(DenialRow, shortfall_bytes_median=None))
    assert read_rows(tmp_path / "flights.csv", FlightRow) == []
    folder.write(make_row(RoundRow, round=1))
    assert read_rows(tmp_path / "flights.csv", FlightRow)[0]["flight"] == 3
    assert len(read_rows(tmp_path / "denials.csv", DenialRow)) == 1
    folder.close()


def test_rows_of_a_long_round_reach_the_disk_before_its_end(tmp_path, make_row):
    folder = create(tmp_path)
    for flight in range(1500):
        folder.write(make_row(FlightRow, flight=flight))
    kept = read_rows(tmp_path / "flights.csv", FlightRow)
    assert 0 < len(kept) < 1500
    assert [row["flight"] for row in kept] == list(range(len(kept)))
    folder.close()


def test_leaving_the_folder_writes_rows_that_came_after_the_last_round(tmp_path, make_row):
    with create(tmp_path) as folder:
        folder.write(make_row(FlightRow, flight=9))
    assert read_rows(tmp_path / "flights.csv", FlightRow)[0]["flight"] == 9


def test_carriage_returns_quotes_and_commas_come_back(tmp_path, make_row):
    row = make_row(FlightRow, reason='lost "link",\r then\n gave up', device_class="phone\r")
    with create(tmp_path) as folder:
        folder.write(row)
    assert read_rows(tmp_path / "flights.csv", FlightRow) == [record(row)]


def test_none_is_an_empty_cell_and_floats_stand_with_all_their_digits(tmp_path, make_row):
    with RunFolder.create(tmp_path / "run", name="a", seed=1, scenario_yaml="", provenance={}) as folder:
        folder.write(make_row(FlightRow, ended_s=0.1 + 0.2, staleness=None, loss=None))
    _, line = (tmp_path / "run" / "flights.csv").read_text().splitlines()
    cells = dict(zip(columns(FlightRow), line.split(","), strict=True))
    assert (cells["ended_s"], cells["staleness"], cells["loss"]) == ("0.30000000000000004", "", "")


def test_finished_folder_holds_summary_model_and_the_mark_of_completion(tmp_path):
    folder = create(tmp_path)
    shared = torch.arange(6.0)
    folder.finish(
        {"digest": "ab12", "rounds": np.int64(3)}, {"b": shared[:3], "c": shared, "a": shared.to(torch.bfloat16)}
    )
    assert json.loads((tmp_path / "summary.json").read_text()) == {"digest": "ab12", "rounds": 3}
    assert (tmp_path / "COMPLETE").read_text() == "ab12\n"
    weights = load_file(tmp_path / "model.safetensors")
    assert torch.equal(weights["b"], shared[:3])
    assert weights["a"].dtype == torch.bfloat16
    assert not list(tmp_path.glob("*.partial"))


def test_run_without_weights_can_finish(tmp_path):
    create(tmp_path).finish({"digest": "0"}, {})
    assert load_file(tmp_path / "model.safetensors") == {}


def test_full_disk_in_mid_run_names_the_file_and_keeps_whole_rows(tmp_path, make_row):
    folder = create(tmp_path)

    def play():
        for number in range(1000):
            folder.write(make_row(RoundRow, round=number))

    with full_disk(4096), pytest.raises(OutputError, match=r"rounds\.csv: cannot write: File too large"):
        play()
    folder.close()
    kept = read_rows(tmp_path / "rounds.csv", RoundRow)
    assert [row["round"] for row in kept] == list(range(len(kept)))
    assert len(kept) > 10


def test_full_disk_under_the_model_leaves_no_mark_of_completion(tmp_path):
    folder = create(tmp_path)
    with full_disk(4096), pytest.raises(OutputError, match=r"model\.safetensors: cannot write"):
        folder.finish({"digest": "0"}, {"w": torch.zeros(10_000)})
    assert not (tmp_path / "COMPLETE").exists()
    assert not list(tmp_path.glob("model*"))


@pytest.mark.slow
def test_killed_run_leaves_readable_rows(tmp_path):
    program = f"""
import os, signal
from neulite_sim.reports import rehearsal
from neulite_sim.results.folder import RunFolder, clear_cut_off
folder = RunFolder.create({str(tmp_path / "out")!r}, name="job", seed=1, scenario_yaml="", provenance={{}})
for event in rehearsal.events(50):
    if hasattr(event, "train_loss"):
        folder.write(event)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert len(read_rows(tmp_path / "out" / "rounds.csv", RoundRow)) == 50


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path, make_row):
    rounds, flight = make_row(RoundRow), make_row(FlightRow)
    with create(tmp_path) as folder:

        def play(count):
            for _ in range(count):
                folder.write(flight)
                folder.write(rounds)
            folder._timeline._behind.wait()

        # Python keeps up to 2000 freed tuples of a size for later; they are there before the measurement begins.
        play(1200)
        tracemalloc.start()
        play(50)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        play(2000)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    # What the timeline has yet to pack goes up and down by its characters; 2000 rounds have over ten times as many.
    assert after - before < 2 * _HELD_CHARACTERS


def test_a_run_in_which_nothing_was_trained_is_complete_without_a_model(tmp_path):
    with create(tmp_path) as folder:
        folder.finish({"digest": None}, None)
    assert (tmp_path / "COMPLETE").read_text() == "\n"
    assert not (tmp_path / "model.safetensors").exists()


def test_a_cut_off_run_is_cleared_and_other_files_stay(tmp_path):
    for name in ("alone", "shared"):
        create(tmp_path / name).close()
        (tmp_path / name / "summary.json.partial").touch()
    (tmp_path / "shared" / "notes.txt").touch()
    clear_cut_off(tmp_path / "alone")
    clear_cut_off(tmp_path / "shared")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["shared", "shared/notes.txt"]


def test_diagnostics_have_a_file_with_their_first_row_and_are_on_disk_with_their_round(tmp_path, make_row):
    with create(tmp_path) as folder:
        folder.write(make_row(RoundRow))
        assert not (tmp_path / "diagnostics.csv").exists()
        folder.write(make_row(DiagnosticRow, block=3, value=None))
        folder.write(make_row(RoundRow))
        assert [(row["block"], row["value"]) for row in read_rows(tmp_path / "diagnostics.csv", DiagnosticRow)] == [
            (3, None)
        ]


def test_diagnostics_go_with_the_other_tables(tmp_path, make_row):
    for name in ("cleared", "discarded", "reopened"):
        folder = create(tmp_path / name)
        folder.write(make_row(DiagnosticRow))
        folder.discard() if name == "discarded" else folder.close()
    clear_cut_off(tmp_path / "cleared")
    with RunFolder.reopen(tmp_path / "reopened") as again:
        again.put_in_place()
    assert [path.name for path in tmp_path.iterdir()] == ["reopened"]
    assert not (tmp_path / "reopened" / "diagnostics.csv").exists()


def test_a_complete_run_is_not_cleared(tmp_path):
    with create(tmp_path) as folder:
        folder.finish({"digest": "d"}, {})
    with pytest.raises(OutputError, match=r": holds a complete run, which is not removed; choose another place with "):
        clear_cut_off(tmp_path)
    assert (tmp_path / "summary.json").exists()


def content_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def cut_off(tmp_path, make_row):
    with create(tmp_path / "run") as folder:
        folder.write(make_row(DiagnosticRow))
        folder.write(make_row(RoundRow, round=1))
    return tmp_path / "run"


@pytest.mark.parametrize("error", [OutputError("full"), KeyboardInterrupt(), None])
def test_a_replay_that_does_not_succeed_leaves_every_byte(cut_off, make_row, error):
    before = content_of(cut_off)
    with contextlib.suppress(OutputError, KeyboardInterrupt), RunFolder.reopen(cut_off) as folder:
        for kind in (FlightRow, DiagnosticRow, RoundRow):
            folder.write(make_row(kind))
        if error is not None:
            raise error
    assert content_of(cut_off) == before


def test_a_replay_that_was_killed_is_cleared_away_by_the_next(cut_off, make_row):
    before = content_of(cut_off)
    (cut_off / "rounds.csv.replayed").write_text("half a row")
    (cut_off / "diagnostics.csv.replayed").write_text("half a row")
    with RunFolder.reopen(cut_off):
        pass
    assert content_of(cut_off) == before


def test_a_replay_that_succeeds_replaces_the_tables_and_goes_on_in_them(cut_off, make_row):
    with RunFolder.reopen(cut_off) as folder:
        folder.write(make_row(RoundRow, round=5))
        folder.put_in_place()
        folder.write(make_row(RoundRow, round=6))
    assert [row["round"] for row in read_rows(cut_off / "rounds.csv", RoundRow)] == [5, 6]
    assert {path.name for path in cut_off.iterdir()} == {
        "scenario.yaml", "provenance.json", "rounds.csv", "flights.csv", "denials.csv", "timeline.json.gz"}  # fmt: skip


PLACES = ("rounds.csv", "diagnostics.csv", "timeline.json.gz", "summary.json", "COMPLETE", "journal", "checkpoint")


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda path, target: path.symlink_to(target), "a symbolic link"),
        (lambda path, target: path.symlink_to(target / "nowhere"), "a symbolic link"),
        (lambda path, target: os.mkfifo(path), "no regular file"),
        (lambda path, target: path.touch() if path.name in ("journal", "checkpoint") else path.mkdir(), "a f"),
    ],
    ids=["link", "dangling link", "pipe", "other kind"],
)
def test_what_stands_in_the_place_of_a_file_is_refused_and_left(cut_off, tmp_path, name, make, what):
    (tmp_path / "precious").mkdir()
    (cut_off / name).unlink(missing_ok=True)
    make(cut_off / name, tmp_path / "precious")
    for use in (RunFolder.reopen, clear_cut_off):
        with pytest.raises(
            DataNotFoundError, match=rf"{name}: is {what}.*, where a run has a \w+ of its own; nothing was"
        ):
            use(cut_off)
    assert os.path.lexists(cut_off / name)
    assert not list((tmp_path / "precious").iterdir())


def test_a_link_that_comes_while_a_run_goes_on_is_not_written_through(tmp_path):
    with create(tmp_path / "run") as folder:
        (tmp_path / "precious").write_text("keep me")
        (tmp_path / "run" / "summary.json").symlink_to(tmp_path / "precious")
        with pytest.raises(OutputError, match=r"summary.json: cannot write: a symbolic link is in its place"):
            folder.finish({"digest": "ab"}, None)
    assert (tmp_path / "precious").read_text() == "keep me"
