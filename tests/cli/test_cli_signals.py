"""Whatever ends a run ends it as Ctrl-C does: a line to go on with, exit code 130, and no process left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from forks import Command
from forks import started as forked
from processes import listening, of_session
from tiny_scenarios import TINY

import neulite_sim
from neulite_sim.cli.interruption import ENDED
from neulite_sim.stopping import SIGNALS

ROOT = Path(neulite_sim.__file__).parents[1]
MOST_WAITED_S = 180.0
GONE_AFTER_S = 5.0
NUMBERS = [getattr(signal, name) for name in SIGNALS]
GO_ON = "interrupted; go on with: neulite-sim resume out"


def _heeds_signals() -> None:
    """Undo what a shell does to its background jobs, and so perhaps to these tests: it lets them ignore Ctrl-C."""
    for number in NUMBERS:
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    given = {**TINY, "stop": {"rounds": 100_000}, "checkpoint": {"every_rounds": 2}}
    Path("tiny.yaml").write_text(yaml.safe_dump(given))
    return tmp_path


class Program:
    """A command at work in a session of its own, whose processes can be told from those of everybody else."""

    def __init__(self, *arguments: str, is_forked: bool = False, **environment: str) -> None:
        self.process: subprocess.Popen[str] | Command
        if is_forked:
            self.process = forked(*arguments, start_new_session=True, **environment)
            return
        self.process = subprocess.Popen(
            [sys.executable, "-m", "neulite_sim", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True, preexec_fn=_heeds_signals, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )  # fmt: skip

    def wait_until_signals_are_heeded(self) -> None:
        """Wait for the first moment at which a signal no longer kills."""
        caught = 0
        while not caught >> (signal.SIGUSR1 - 1) & 1:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
            (line,) = (line for line in status.splitlines() if line.startswith("SigCgt"))
            caught = int(line.split()[1], 16)

    def wait_for_rows(self, run_dir: str = "out") -> None:
        """Wait until the run has written a round."""
        rounds, until_s = Path(run_dir, "rounds.csv"), time.monotonic() + MOST_WAITED_S
        while not (rounds.exists() and len(rounds.read_text().splitlines()) > 1):
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < until_s, "the run wrote no row"
            time.sleep(0.01)

    def ended(self) -> tuple[int, list[str]]:
        """Return its exit code and the lines of standard error, once nothing of it is left."""
        _, errors = self.process.communicate(timeout=MOST_WAITED_S)
        until_s = time.monotonic() + GONE_AFTER_S
        while of_session(self.process.pid) and time.monotonic() < until_s:
            time.sleep(0.05)
        assert of_session(self.process.pid) == []
        return self.process.returncode, errors.splitlines()

    def kill(self) -> None:
        """End it whatever it does."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()


@pytest.fixture
def started(folder: Path, forks: None) -> Iterator[list[Program]]:
    """Return a list for programs; what is still at work in it at the end is killed."""
    programs: list[Program] = []
    yield programs
    for program in programs:
        program.kill()


def run(started: list[Program], *arguments: str, is_forked: bool = False, **environment: str) -> Program:
    given = ("run", "tiny.yaml", "--out", "out", "--quiet", *arguments)
    started.append(Program(*given, is_forked=is_forked, **environment))
    return started[-1]


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
def test_a_run_ends_with_the_line_to_go_on_whatever_the_signal_and_however_often_it_comes(
    number: signal.Signals, started: list[Program]
) -> None:
    program = run(started, is_forked=number != signal.SIGINT)
    program.wait_for_rows()
    for _ in range(3):
        os.killpg(program.process.pid, number)
        time.sleep(0.02)
    assert program.ended() == (130, [GO_ON])


@pytest.mark.parametrize("wait_s", [0.0, 0.05, 0.2, 0.8])
def test_a_command_that_is_interrupted_as_it_starts_ends_in_one_line(wait_s: float, started: list[Program]) -> None:
    program = run(started)
    program.wait_until_signals_are_heeded()
    time.sleep(wait_s)
    program.process.send_signal(signal.SIGINT)
    exit_code, errors = program.ended()
    assert exit_code == 130
    assert len(errors) == 1, errors
    assert errors[0].startswith("interrupted")


@pytest.mark.slow
def test_a_run_on_ray_ends_like_any_other_and_takes_the_cluster_with_it(started: list[Program]) -> None:
    """The signal comes to all its processes, twice; only the address of the loopback interface was ever open."""
    program = run(started, "--backend", "ray", "--workers", "1", TMPDIR="/tmp")
    program.wait_for_rows()
    everybody = of_session(program.process.pid)
    sockets = listening(everybody)
    folders = {word for pid in everybody for word in _cluster_folders(pid)}
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folders}
    stranger = _stranger(everybody)
    for _ in range(2):
        os.killpg(program.process.pid, signal.SIGTERM)
        time.sleep(0.1)
    assert program.ended() == (130, [GO_ON])
    assert "AuthenticationError" in stranger
    assert len(sockets) >= 5, "a cluster listens somewhere"
    assert [address for address, _ in sockets if not address.is_loopback] == []
    assert (len(folders), modes) == (1, {0o700})
    assert not folders.pop().exists()


STRANGER = """
import sys
from ray._raylet import GcsClient
try:
    GcsClient(address=sys.argv[1])
    print("let in")
except Exception as error:
    print(type(error).__name__)
"""
"""The first thing a driver does: `ray.init` itself goes on trying for minutes."""


def _stranger(everybody: list[int]) -> str:
    """Return what comes of a driver that knows the address of a cluster and nothing else."""
    told = "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in everybody)
    (address,) = set(re.findall(r"--gcs-address=([\d.]+:\d+)", told))
    unknowing = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", STRANGER, address], capture_output=True, text=True, timeout=120,
                          env={**unknowing, "HOME": "/nonexistent"}, check=False)  # fmt: skip
    return done.stdout + done.stderr


def _cluster_folders(pid: int) -> set[Path]:
    """Return the folders below /tmp that a process was told of and that are ours by their name."""
    told = Path(f"/proc/{pid}/cmdline").read_text()
    return {Path(found) for found in re.findall(r"/tmp/neulite-\w+", told)}


@pytest.mark.slow
def test_a_run_whose_raylet_is_killed_says_so_and_how_to_go_on(started: list[Program]) -> None:
    # Of a program of its own standard error ends with the watcher, which speaks after it.
    program = run(started, "--backend", "ray", "--workers", "1")
    program.wait_for_rows()
    (raylet,) = [pid for pid in of_session(program.process.pid) if _executable(pid) == "raylet"]
    os.kill(raylet, signal.SIGKILL)
    exit_code, errors = program.ended()
    assert exit_code == 1
    noticed = (
        f"error: Ray's process raylet ({raylet}) has ended in the middle of the run; was it killed, or did the machine "
        "run out of memory? Use fewer workers (backend.workers) if so"
    )
    # Where Ray was at work with its raylet at that very moment it ends the program, and the watcher has the last word.
    assert errors in ([noticed, GO_ON], [ENDED, GO_ON])


def test_a_run_on_ray_that_is_ended_without_a_word_has_one_all_the_same() -> None:
    code = (
        "import os; from types import SimpleNamespace as Event; from neulite_sim.cli.interruption import Whereabouts; "
        "Whereabouts().notify(Event(run_dir='out', backend='ray')); os._exit(1)"
    )
    assert _errors_of(code) == [ENDED, GO_ON]


def test_a_run_on_ray_that_is_ended_without_a_word_is_answered_for() -> None:
    code = (
        "import os; from types import SimpleNamespace as Event; from neulite_sim.cli.interruption import Whereabouts; "
        "from neulite_sim.cli.answers import Answer, answering\n"
        "with answering(Answer()) as answer:\n"
        "    answer.read(is_asked=True); Whereabouts().notify(Event(run_dir='out', backend='ray')); os._exit(1)"
    )
    done = _ran(code)
    assert done.stderr.splitlines() == [ENDED, GO_ON]
    assert json.loads(done.stdout) == {
        "run_dir": "out",
        "error": {
            "kind": "killed",
            "message": ENDED.removeprefix("error: "),
            "hint": GO_ON.removeprefix("interrupted; "),
        },
    }


@pytest.mark.parametrize(
    ("end", "said"), [("os._exit(3)", ["over"]), ("word.drop()", []), ("word.drop(); os._exit(3)", [])]
)
def test_a_last_word_is_said_where_nothing_else_was(end: str, said: list[str]) -> None:
    code = f"import os; from neulite_sim.cli.last_word import LastWord; word = LastWord('over\\n'); {end}"
    assert _errors_of(code) == said


def test_what_is_left_of_a_cluster_is_ended_with_its_folder(tmp_path: Path) -> None:
    """A process of the driver's cluster is ended, one of another's is not."""
    (tmp_path / "cluster").mkdir()
    code = (
        "import os, subprocess, sys; from neulite_sim.cli.last_word import LastWord; from neulite_sim.stopping import CLUSTER_MARK; sleep = ['sleep', '60']; "
        f"mark = lambda pid: {{**os.environ, CLUSTER_MARK: str(pid) + ':{tmp_path / 'cluster'}'}}; "
        "own = subprocess.Popen(sleep, env=mark(os.getpid()), stdout=-3, stderr=-3); "
        "other = subprocess.Popen(sleep, env=mark(1), stdout=-3, stderr=-3); "
        "LastWord(f'{own.pid} {other.pid}'); os._exit(1)"
    )
    own, other = map(int, _errors_of(code)[0].split())
    assert not Path(f"/proc/{own}").exists() or "Z" in Path(f"/proc/{own}/stat").read_text()
    os.kill(other, signal.SIGKILL)
    assert not (tmp_path / "cluster").exists()


def _ran(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip


def _errors_of(code: str) -> list[str]:
    done = _ran(code)
    assert done.stdout == ""
    return done.stderr.splitlines()


def _executable(pid: int) -> str:
    return Path(Path(f"/proc/{pid}/cmdline").read_text().partition("\0")[0]).name
