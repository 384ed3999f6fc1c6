"""A study is the same with and without help; the helper leaves profiles behind and nothing else."""

import io
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from whatif_fleet import entrant

from neulite_sim.profiling.kept_files import VARIABLE
from neulite_sim.studies import helping, shared_profiler
from neulite_sim.studies.helping import Help, helped, main
from neulite_sim.studies.whatif import Budgets, study

BUDGETS = Budgets(kind="memory", values=(10**5, 10**9))
ENTRANTS = [entrant(name) for name in ("fedavg", "neulite", "exclusivefl")]


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture
def begun(kept, monkeypatch):
    """Return what would have been started; time passes at once."""
    started = []

    class Process(SimpleNamespace):
        def __init__(self, command, *, stdin, **how):
            super().__init__(sent=pickle.load(stdin), command=command, ended=[])
            started.append(self)

        def kill(self):
            self.ended.append("killed")

        def wait(self):
            self.ended.append("awaited")

    monkeypatch.setattr(subprocess, "Popen", Process)
    monkeypatch.setattr(helping, "PATIENCE_S", 0.0)
    monkeypatch.setattr(helping, "processors", lambda: [0, 1])
    monkeypatch.setattr(helping, "free_memory_bytes", lambda: helping.MEMORY_BYTES)
    return started


def test_what_a_helper_leaves_behind_is_what_a_study_would_make(kept, monkeypatch):
    sent = pickle.dumps((tuple(reversed(ENTRANTS)), BUDGETS))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(sent)))
    main()
    assert list(kept.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(shared_profiler, "profile", lambda *_, **__: pytest.fail("profiled again"))
        found = study(ENTRANTS, BUDGETS)
    monkeypatch.setenv(VARIABLE, "off")
    assert found == study(ENTRANTS, BUDGETS)


def test_a_real_helper_is_ended_with_its_study(kept, monkeypatch):
    monkeypatch.setattr(helping, "processors", lambda: [0, 1])
    monkeypatch.setattr(helping, "PATIENCE_S", 0.0)
    with helped(ENTRANTS, BUDGETS) as found:
        found.before_profile()
        found.before_profile()
        assert found.process is not None
        assert found.process.poll() is None
    assert found.process.returncode is not None


def test_help_comes_once_when_profiles_take_long_and_starts_from_the_other_end(begun):
    with helped(ENTRANTS, BUDGETS) as found:
        found.before_profile()
        assert begun == []
        for _ in range(3):
            found.before_profile()
        (process,) = begun
        assert process.ended == []
    assert process.sent == (tuple(reversed(ENTRANTS)), replace(BUDGETS, values=BUDGETS.values[::-1]))
    assert process.ended == ["killed", "awaited"]


def test_a_helper_is_ended_too_where_the_study_is_interrupted_in_the_moment_it_starts(begun, monkeypatch):
    main_thread, start = threading.get_ident(), subprocess.Popen

    def interrupted(*given, **how):
        process = start(*given, **how)
        signal.pthread_kill(main_thread, signal.SIGINT)
        time.sleep(0.2)
        return process

    def ask():
        with helped(ENTRANTS, BUDGETS) as found:
            found.before_profile()
            found.before_profile()

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask()
    assert [process.ended for process in begun] == [["killed", "awaited"]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PATIENCE_S", 60.0),
        ("processors", lambda: [0]),
        ("free_memory_bytes", lambda: helping.MEMORY_BYTES - 1),
        ("kept_profiles", lambda: None),
        ("FEWEST_ENTRANTS", 4),
    ],
)
def test_there_is_no_help_where_it_would_not_be_one(name, value, begun, monkeypatch):
    monkeypatch.setattr(helping, name, value)
    asking = Help(ENTRANTS, BUDGETS)
    for _ in range(3):
        asking.before_profile()
    asking.end()
    assert begun == []


def test_what_cannot_be_sent_goes_without_help(begun):
    asking = Help([*ENTRANTS, lambda: None], BUDGETS)
    for _ in range(3):
        asking.before_profile()
    assert (begun, asking.process) == ([], None)
