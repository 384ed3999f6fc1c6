"""The runs of a sweep: what is run, what is not, how failures and NA are told, and what an end leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from broken_runs import BreakAfter, Broken
from stored_runs import resealed, write_run
from tiny_scenarios import tiny

import neulite_sim
from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import NotResumableError, OutputError
from neulite_sim.results.places import COMPLETE
from neulite_sim.results.stored import read_run
from neulite_sim.scenario.sweeps import Variant
from neulite_sim.studies.sweeps import EndedRun, PlannedRun, default_jobs, plan, run_all, write_not_applicable

NA = "NA: no device can train anything with method fedavg: too big"


def failing(kind: str, message: str, exit_code: int, **details: str) -> str:
    """The code of a run that fails as `run --json` does."""
    answer = json.dumps({"error": {"kind": kind, "message": message, "hint": "", **details}})
    return f"print({answer!r}); print({'error: ' + message!r}, file=sys.stderr); sys.exit({exit_code})"


def variant(name: str, *overrides: str) -> Variant:
    return Variant(name=name, overrides=overrides, scenario=tiny(*overrides))


def line(code: str) -> tuple[str, ...]:
    """A command that is a line of Python."""
    return (sys.executable, "-c", f"import os, pathlib, sys, time; {code}")


def fake(folder: Path, code: str, state: str = "new", resume: str = "") -> PlannedRun:
    """A run that is a line of Python, and one more where it is resumed."""
    return PlannedRun(name=folder.name, folder=folder, state=state, scenario=tiny(), command=line(code),
                      resume_command=line(resume) if resume else ())  # fmt: skip


def ended(runs: list[PlannedRun], out: Path, jobs: int = 1) -> dict[str, EndedRun]:
    return {event.run.name: event for event in run_all(runs, out=out, jobs=jobs) if isinstance(event, EndedRun)}


# What is planned.


def test_a_run_is_new_finished_or_cut_off_by_what_its_folder_holds(tmp_path):
    write_run(tmp_path / "done", (), "stop.rounds=1")
    write_run(tmp_path / "cut", (), "stop.rounds=2", is_complete=False)
    (tmp_path / "empty").mkdir()
    found = plan([variant("done", "stop.rounds=1"), variant("cut", "stop.rounds=2"), variant("empty"), variant("new")],
                 scenario="x.yaml", out=tmp_path)  # fmt: skip
    assert [run.state for run in found] == ["finished", "cut off", "new", "new"]


def test_the_command_runs_the_scenario_with_the_same_python(tmp_path):
    (run,) = plan([variant("a", "stop.rounds=1", "seed=9")], scenario="x.yaml", out=tmp_path)
    assert run.command == (
        sys.executable, "-P", "-m", "neulite_sim", "run", "x.yaml", "--set", "stop.rounds=1", "--set", "seed=9",
        "--seed", "9", "--out", str(tmp_path / "a"), "--quiet",
    )  # fmt: skip


@pytest.mark.parametrize("is_complete", [True, False])
def test_a_folder_with_a_run_of_another_scenario_is_refused(tmp_path, is_complete):
    write_run(tmp_path / "a", (), "stop.rounds=1", is_complete=is_complete)
    message = (
        f"{tmp_path / 'a'}: holds a run of another scenario than this sweep has under that name (compare its "
        "scenario.yaml); choose another place with --out, or remove it"
    )
    with pytest.raises(OutputError, match=f"^{re.escape(message)}$"):
        plan([variant("a", "stop.rounds=2")], scenario="x.yaml", out=tmp_path)


def test_a_folder_without_a_run_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.tex").touch()
    message = f"{tmp_path / 'a'}: holds other files and no run; choose another place with --out, or remove it"
    with pytest.raises(OutputError, match=f"^{re.escape(message)}$"):
        plan([variant("a")], scenario="x.yaml", out=tmp_path)


@pytest.mark.parametrize(
    ("backends", "jobs"),
    [
        (("inprocess",), 8),
        (("{kind: inprocess, threads_per_worker: 3}",), 2),
        (("{kind: inprocess, threads_per_worker: 3}", "inprocess"), 2),
        (("{kind: inprocess, threads_per_worker: 9}",), 1),
        (("{kind: inprocess, workers: 4}", "inprocess"), 2),
        (("{kind: inprocess, workers: auto}",), 1),
        (("dry-run",), 8),
        (("dry-run", "ray"), 1),
        (("{kind: inprocess, device: cuda}",), 1),
    ],
)
def test_as_many_runs_at_a_time_as_the_processors_hold(tmp_path, monkeypatch, backends, jobs):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    varied = [variant(str(place), f"backend={backend}") for place, backend in enumerate(backends)]
    assert default_jobs(plan(varied, scenario="x.yaml", out=tmp_path)) == jobs


# How a cut-off run goes on.

CUT = ("checkpoint.every_rounds=2",)


@pytest.fixture(scope="module")
def broken_off(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that ended after three rounds, its checkpoint made after the second."""
    folder = tmp_path_factory.mktemp("broken") / "a"
    with pytest.raises(Broken):
        simulate(tiny(*CUT), out=folder, observers=[BreakAfter()])
    return folder


def replanned(broken_off: Path, out: Path, change: Callable[[Path], object] = lambda folder: None) -> PlannedRun:
    """Plan the run whose folder was copied to another place and changed there."""
    shutil.copytree(broken_off, out / "a")
    change(out / "a")
    (run,) = plan([variant("a", *CUT)], scenario="x.yaml", out=out)
    assert run.state == "cut off"
    return run


def replaced(file: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))

    return change


def test_a_cut_off_run_is_resumed_where_its_folder_is_now(broken_off, tmp_path):
    run = replanned(broken_off, tmp_path)
    command = (sys.executable, "-P", "-m", "neulite_sim", "resume", str(tmp_path / "a"), "--quiet")
    assert (run.resume_command, run.checkpoint_round, run.anew_because) == (command, 2, "")


STATE, MANIFEST = "checkpoint/round-00000002/state.json", "checkpoint/round-00000002/manifest.json"


def as_of_an_older_version(folder: Path) -> None:
    path = folder / "provenance.json"
    made = {key: value for key, value in json.loads(path.read_text()).items() if key not in ("sha256", "inputs")}
    path.write_text(json.dumps({**made, "schema_version": 1, "neulite_sim": "0.0.1"}))


def test_a_finished_run_of_an_older_version_is_not_passed_over(tmp_path):
    write_run(tmp_path / "a")
    as_of_an_older_version(tmp_path / "a")
    with pytest.raises(
        OutputError, match=r"a: was made by an older version of neulite-sim \(0.0.1\), which kept no check"
    ):
        plan([variant("a")], scenario="x.yaml", out=tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda folder: shutil.rmtree(folder / "checkpoint"), "it has no checkpoint yet"),
        (
            lambda folder: resealed(folder / "provenance.json", neulite_sim="0.0.1"),
            f"was made with neulite-sim 0.0.1 (here {neulite_sim.__version__}), whose bits this installation cannot "
            "repeat",
        ),
        (
            lambda folder: (folder / "provenance.json").unlink(),
            "provenance.json: cannot be read: No such file or directory",
        ),
        (replaced("scenario.yaml", "seed: 3", "seed: 4"), "scenario.yaml: was changed since the run began"),
        (replaced("scenario.yaml", "seed: 3", "seed: x"), "scenario.yaml:2: seed: must be a whole number, found 'x'"),
        (lambda folder: (folder / STATE).unlink(), f"{STATE}: cannot be read: "),
        (lambda folder: (folder / STATE).write_text('{"schema_version": 1, '), f"{STATE}: is not as it was written"),
        (lambda folder: resealed(folder / MANIFEST, schema_version=9), f"{MANIFEST}: is of schema version 9"),
        (as_of_an_older_version, "was made by an older version of neulite-sim (0.0.1), which kept no checksums"),
    ],
    ids=[
        "no checkpoint",
        "version",
        "provenance gone",
        "seed",
        "no scenario",
        "state gone",
        "state cut",
        "schema",
        "older",
    ],
)
def test_a_cut_off_run_that_cannot_be_resumed_is_run_anew_and_the_reason_is_told(broken_off, tmp_path, change, reason):
    run = replanned(broken_off, tmp_path, change)
    assert (run.resume_command, run.checkpoint_round) == ((), 0)
    assert run.anew_because.startswith(reason)
    assert str(tmp_path) not in run.anew_because
    assert "; " not in run.anew_because


# What is run.


def test_finished_runs_are_left_and_cut_off_ones_that_cannot_be_resumed_run_anew(tmp_path):
    touch = "pathlib.Path(sys.argv[0]); pathlib.Path({!r}).mkdir(); pathlib.Path({!r}, 'ran').touch()"
    runs = []
    for state in ("new", "finished", "cut off"):
        folder = tmp_path / state
        if state != "new":
            write_run(folder, is_complete=state == "finished")
        runs.append(fake(folder, touch.format(str(folder), str(folder)), state))
    found = ended(runs, tmp_path)
    assert {name: run.outcome for name, run in found.items()} == {"new": "done", "cut off": "done"}
    assert os.listdir(tmp_path / "cut off") == ["ran"]
    assert (tmp_path / "finished" / COMPLETE).exists()
    assert not (tmp_path / "finished" / "ran").exists()


def test_a_run_that_can_be_resumed_is_and_keeps_its_folder(tmp_path):
    write_run(tmp_path / "a", is_complete=False)
    before = sorted(os.listdir(tmp_path / "a"))
    resume = f"pathlib.Path({str(tmp_path / 'a')!r}, 'resumed').touch()"
    assert ended([fake(tmp_path / "a", "sys.exit(3)", "cut off", resume)], tmp_path)["a"].outcome == "done"
    assert sorted(os.listdir(tmp_path / "a")) == sorted([*before, "resumed"])


def test_a_run_whose_past_turns_out_to_be_damaged_is_run_anew_in_the_same_sweep(tmp_path):
    write_run(tmp_path / "a", is_complete=False)
    found = f"{tmp_path / 'a' / 'journal' / 'updates.jsonl'}: has 5 bytes, its checkpoint needs 7"
    error = NotResumableError(found, because="it was cut")
    anew = f"folder = pathlib.Path({str(tmp_path / 'a')!r}); folder.mkdir(); (folder / 'ran').touch()"
    run = fake(tmp_path / "a", anew, "cut off", failing(error.kind, str(error), 2, what=error.what))
    first, second, end = run_all([run], out=tmp_path, jobs=1)
    assert isinstance(first, PlannedRun)
    assert (first.resume_command, first.anew_because) == (run.resume_command, "")
    assert isinstance(second, PlannedRun)
    reason = "journal/updates.jsonl: has 5 bytes, its checkpoint needs 7"
    assert (second.resume_command, second.anew_because) == ((), reason)
    assert isinstance(end, EndedRun)
    assert (end.run, end.outcome) == (second, "done")
    assert os.listdir(tmp_path / "a") == ["ran"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (failing("simulation", "worker lost", 1), "worker lost (all it said: {log}; to run it anew, remove {folder})"),
        ("os.kill(os.getpid(), 9)", "killed by signal 9 (all it said: {log}; to run it anew, remove {folder})"),
        (failing("data-not-found", "x: no images; fetch", 2), "x: no images; fetch (all it said: {log})"),
        (failing("infeasible", NA, 2), NA + " (all it said: {log})"),
    ],
    ids=["failed", "killed", "input", "NA"],
)
def test_a_run_that_fails_while_it_is_resumed_keeps_what_it_has(tmp_path, code, message):
    write_run(tmp_path / "a", is_complete=False)
    before = sorted(os.listdir(tmp_path / "a"))
    end = ended([fake(tmp_path / "a", "pass", "cut off", code)], tmp_path)["a"]
    told = message.format(log=tmp_path / ".sweep" / "a.log", folder=tmp_path / "a")
    assert (end.outcome, end.message) == ("failed", told)
    assert sorted(os.listdir(tmp_path / "a")) == before


def test_no_more_than_so_many_run_at_a_time_and_each_starts_once(tmp_path):
    runs = [fake(tmp_path / str(number), "time.sleep(0.2)") for number in range(5)]
    working, most, started = 0, 0, []
    for event in run_all(runs, out=tmp_path, jobs=2):
        if isinstance(event, EndedRun):
            working -= 1
        else:
            started.append(event.name)
            working += 1
        most = max(most, working)
    assert (started, most, working) == (list("01234"), 2, 0)


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (f"print('hello'); {failing('simulation', 'worker lost', 1)}", "simulation", "worker lost"),
        (failing("scenario", "x.yaml:1: a: bad\nx.yaml:2: b: bad", 2), "scenario", "x.yaml:2: b: bad"),
        (failing("output", "a\nb", 2), "output", "a"),
        ("raise ValueError('no')", "internal", "ValueError: no"),
        ("print('error: NA: {', 3); sys.exit('cut')", "internal", "cut"),
        ('print(\'{"error": {"kind": 3}}\'); sys.exit(3)', "internal", "exit code 3"),
        ("sys.exit(3)", "internal", "exit code 3"),
        ("os.kill(os.getpid(), 9)", "killed", "killed by signal 9"),
        ("print('{\"'); sys.stdout.flush(); os.kill(os.getpid(), 15)", "killed", "killed by signal 15"),
    ],
)
def test_a_failed_run_is_told_by_its_answer_or_its_end_and_the_others_go_on(tmp_path, code, kind, message):
    found = ended([fake(tmp_path / "bad", code), fake(tmp_path / "good", "pass")], tmp_path)
    log = tmp_path / ".sweep" / "bad.log"
    assert (found["bad"].outcome, found["bad"].message) == ("failed", f"{message} (all it said: {log})")
    assert found["bad"].error["kind"] == kind
    assert found["good"].outcome == "done"
    assert sorted(os.listdir(log.parent)) == ["bad.log", "lock"]


def test_a_run_on_ray_that_somebody_else_speaks_for_a_moment_later_is_told_by_that(tmp_path):
    later = failing("killed", "was ended in the middle of the run", 0)
    code = f"import subprocess; subprocess.Popen([sys.executable, '-c', 'import sys, time; time.sleep(0.5); ' + {later!r}]); sys.exit(1)"
    on_ray = replace(fake(tmp_path / "a", code), scenario=tiny("backend=ray"))
    end = ended([on_ray], tmp_path)["a"]
    assert (end.error["kind"], end.message.partition(" (")[0]) == ("killed", "was ended in the middle of the run")


def test_what_no_device_can_train_is_a_result(tmp_path):
    found = ended([fake(tmp_path / "a", failing("infeasible", NA, 2))], tmp_path)
    assert (found["a"].outcome, found["a"].message) == ("NA", NA)
    assert read_run(tmp_path / "a").not_applicable == NA
    assert os.listdir(tmp_path / ".sweep") == ["lock"]


def test_na_in_the_text_of_another_failure_is_no_result(tmp_path):
    code = f"print({'error: ' + NA!r}, file=sys.stderr); {failing('data-not-found', NA, 2)}"
    found = ended([fake(tmp_path / "a", code)], tmp_path)
    assert found["a"].outcome == "failed"
    assert not (tmp_path / "a").exists()


# How it ends early.


def is_alive(process: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


def waited_for(path: Path) -> str:
    for _ in range(600):
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


def test_an_interruption_in_the_moment_a_run_starts_ends_that_run_too_and_leaves_the_folder_free(tmp_path, monkeypatch):
    main, begun = threading.get_ident(), []

    class Interrupted(subprocess.Popen):
        """A process that takes a while to start, and Ctrl-C comes meanwhile."""

        def __init__(self, *given, **how):
            super().__init__(*given, **how)
            begun.append(self.pid)
            signal.pthread_kill(main, signal.SIGINT)
            time.sleep(0.3)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt) as kept:
        ended([fake(tmp_path / "a", "time.sleep(60)")], tmp_path)
    monkeypatch.undo()
    assert [is_alive(process) for process in begun] == [False]
    assert ended([fake(tmp_path / "b", "pass")], tmp_path)["b"].outcome == "done"
    assert kept.value is not None


def test_closing_the_sweep_ends_the_runs_at_work(tmp_path):
    pid = tmp_path / "pid"
    events = run_all([fake(tmp_path / "a", f"pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(600)")],
                     out=tmp_path, jobs=1)  # fmt: skip
    next(events)
    process = int(waited_for(pid))
    events.close()
    assert not is_alive(process)


def test_two_sweeps_do_not_work_in_one_folder(tmp_path):
    events = run_all([fake(tmp_path / "a", "time.sleep(600)")], out=tmp_path, jobs=1)
    next(events)
    message = (
        f"{tmp_path}: another sweep, or a run it left behind, is at work there; wait for it, or choose another place "
        "with --out"
    )
    with pytest.raises(OutputError, match=f"^{re.escape(message)}$"):
        list(run_all([fake(tmp_path / "b", "pass")], out=tmp_path, jobs=1))
    events.close()
    assert ended([fake(tmp_path / "b", "pass")], tmp_path)["b"].outcome == "done"


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    message = r"file/\.sweep: cannot be written: Not a directory; make room or rights there, or choose another place"
    with pytest.raises(OutputError, match=message):
        list(run_all([fake(tmp_path / "a", "pass")], out=tmp_path / "file", jobs=1))


# The folder of what is not applicable.


def test_the_summary_of_na_has_every_key_of_a_run_and_claims_nothing(tmp_path):
    summary = write_not_applicable(tiny(), "NA: too big", out=tmp_path / "na", command=["neulite-sim", "run"])
    real = simulate(tiny("stop.rounds=1", "backend=dry-run")).summary
    assert list(summary) == [*real, "not_applicable"]
    assert json.loads((tmp_path / "na" / "summary.json").read_text()) == summary
    assert {key for key, value in summary.items() if value is None} == {
        "virtual_time_s", "final_accuracy", "tail_accuracy", "best_accuracy", "peak_memory_bytes", "proxy",
        "wall_time_s", "digest",
    }  # fmt: skip
    assert summary["time_to_accuracy_s"] == dict.fromkeys(real["time_to_accuracy_s"])
    assert {summary[key] for key in ("participation_rate", "data_share", "rounds", "bytes_down", "bytes_up")} == {0}
    assert summary["not_applicable"] == "NA: too big"


def test_the_folder_of_na_is_complete_without_a_model(tmp_path):
    write_not_applicable(tiny(), "NA: too big", out=tmp_path)
    assert sorted(os.listdir(tmp_path)) == [
        "COMPLETE", "SHA256SUMS", "denials.csv", "flights.csv", "provenance.json", "rounds.csv", "scenario.yaml",
        "summary.json", "timeline.json.gz",
    ]  # fmt: skip
    (run,) = plan([variant(tmp_path.name)], scenario="x.yaml", out=tmp_path.parent)
    assert run.state == "finished"
