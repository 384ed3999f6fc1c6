"""With `--json` a command ends with one object on standard output, also where it fails: the law over all commands."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from forks import Command, started
from stored_runs import write_run
from tiny_scenarios import TINY
from typer.testing import CliRunner, Result

import neulite_sim
from neulite_sim import cli, errors, registry
from neulite_sim.cli.failures import OWN_KINDS, answered, words_for
from neulite_sim.reports.plain import PlainConsole
from neulite_sim.results.rows import RoundRow
from neulite_sim.studies import calibration

ROOT = Path(neulite_sim.__file__).parents[1]
EXIT_CODES = {kind: code for kind, (code, _) in {**errors.kinds(), **OWN_KINDS}.items()}
WITH_JSON = {
    name: command
    for name, command in [
        *((command.__name__, command) for command in cli.COMMANDS),
        *(
            (f"{word} {name}", command)
            for word, (_, members) in cli.COMMAND_GROUPS.items()
            for name, command in members.items()
        ),
    ]
    if "as_json" in inspect.signature(command).parameters
}

# A way in which each command fails that has read its options, and the kind of it.
NEVER_FAILS = {"cache"}
"""Commands that fail by wrong usage alone."""
FAILURES: dict[str, tuple[tuple[str, ...], str]] = {
    "run": (("bad.yaml",), "scenario"),
    "resume": (("empty",), "output"),
    "validate": (("good.yaml", "bad.yaml"), "scenario"),
    "profile": (("broken.yaml",), "scenario"),
    "whatif": (("good.yaml", "--memory", "0"), "scenario"),
    "sweep": (("good.yaml", "--grid", "method=fedavgg"), "scenario"),
    "compare": (("gone",), "data-not-found"),
    "timeline": (("gone",), "data-not-found"),
    "device": (("gone", "1"), "data-not-found"),
    "report": (("gone",), "data-not-found"),
    "export": (("gone", "--to", "parquet"), "data-not-found"),
    "flower": (("gone", "--fleet", "good.yaml"), "app" if find_spec("flwr") else "backend-unavailable"),
    "runs": (("gone",), "data-not-found"),
    "components": (("methd",), "unknown-component"),
    "calibrate": ((), "simulation"),
    "traces import": (("plain", "gone.csv"), "unknown-component"),
    "traces formats": (("plain",), "unknown-component"),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("good.yaml").write_text(yaml.safe_dump({**TINY, "stop": {"rounds": 1}}))
    Path("bad.yaml").write_text(yaml.safe_dump({**TINY, "seed": "x", "stop": {"rounds": 0}}))
    Path("broken.yaml").write_text("name: [")
    Path("empty").mkdir()
    return tmp_path


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a calibration find a machine that has no time for it."""

    def fail(*arguments: Any, **options: Any) -> None:
        raise errors.SimulationError("the measurements do not fit together", hint="calibrate again")

    monkeypatch.setattr(calibration, "calibrate", fail)


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments), prog_name="neulite-sim")


def error_in(found: Result | subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the error of the one object that a command printed; it has the exit code of its kind."""
    error = json.loads(found.stdout)["error"]
    assert list(error)[:3] == ["kind", "message", "hint"]
    assert all(isinstance(error[key], str) for key in ("kind", "message", "hint"))
    exit_code = found.exit_code if isinstance(found, Result) else found.returncode
    assert exit_code == EXIT_CODES[error["kind"]]
    assert error["message"]
    return error


def test_every_command_with_json_is_failed_here() -> None:
    assert {*FAILURES, *NEVER_FAILS} == set(WITH_JSON)


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("name", FAILURES)
def test_a_command_that_fails_answers_with_what_it_says_on_standard_error(name: str) -> None:
    arguments, kind = FAILURES[name]
    plain, found = ran(*name.split(), *arguments), ran(*name.split(), *arguments, "--json")
    error = error_in(found)
    assert error["kind"] == kind
    assert error["message"] in plain.stderr
    assert error["hint"] in error["message"]
    assert (plain.exit_code, "{" in plain.stdout) == (found.exit_code, False)
    # validate tells in its object what it tells on standard error otherwise.
    assert found.stderr == ("" if name == "validate" else plain.stderr)


@pytest.mark.parametrize("name", WITH_JSON)
@pytest.mark.parametrize("place", [1, -1])
def test_wrong_usage_is_answered_wherever_the_option_stands(name: str, place: int) -> None:
    arguments = [*name.split(), "--nosuch"]
    arguments.insert(len(name.split()) if place > 0 else len(arguments), "--json")
    error = error_in(ran(*arguments))
    assert (error["kind"], error["hint"]) == ("usage", f"see neulite-sim {name} --help")
    assert "--nosuch" in error["message"]


@pytest.mark.parametrize("arguments", [("validat",), ("--nosuch", "run"), ("traces", "exprt"), ("run",)])
def test_a_command_line_that_names_no_command_is_answered_too(arguments: tuple[str, ...]) -> None:
    assert error_in(ran(*arguments, "--json"))["kind"] == "usage"
    assert ran(*arguments).stdout == ""


def test_an_option_is_no_wish_for_json_where_it_is_a_value() -> None:
    found = ran("compare", "gone", "--csv", "--json")
    assert (found.exit_code, found.stdout) == (2, "")


def test_help_is_printed_as_ever() -> None:
    for arguments in (("run", "--json", "--help"), ("run", "--help", "--json")):
        found = ran(*arguments)
        assert (found.exit_code, found.stdout[:6]) == (0, "Usage:")


SOME: list[tuple[BaseException, str]] = [
    (errors.ScenarioError([errors.Problem(key="a", message="bad; mend it", hint="mend it")]), "scenario"),
    (errors.UnknownComponentError("x"), "unknown-component"),
    (errors.DataNotFoundError("x"), "data-not-found"),
    (errors.NotResumableError("x", because="it was cut"), "not-resumable"),
    (errors.AppError("x"), "app"),
    (errors.InfeasibleError("x", hint="y"), "infeasible"),
    (errors.OutputError("x"), "output"),
    (errors.BackendUnavailableError("x"), "backend-unavailable"),
    (errors.SimulationError("x"), "simulation"),
    (errors.BackendLostError("x"), "backend-lost"),
    (errors.RunsFailedError("1 of 2 runs failed: x", runs=[{"run": "x"}]), "runs-failed"),
    (errors.NeuliteError("x"), "error"),
    (KeyboardInterrupt(), "interrupted"),
    (MemoryError(), "out-of-memory"),
    (ZeroDivisionError("x"), "internal"),
    (SystemExit(1), "internal"),
]


def test_every_kind_is_here() -> None:
    seen = {kind for _, kind in SOME} | {"usage", "killed", "user-code"}
    assert seen == set(EXIT_CODES)


@pytest.mark.parametrize(("error", "kind"), SOME, ids=[kind for _, kind in SOME])
def test_whatever_is_raised_is_one_object_of_its_kind(
    error: BaseException, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(field: str) -> None:
        sys.stdout.write("noise of a library\n")
        raise error

    monkeypatch.setattr(registry, "names", fail)
    found = ran("components", "--json")
    told = error_in(found)
    assert told["kind"] == kind
    assert found.stderr.startswith("noise of a library\n")
    assert ran("components").stdout == "noise of a library\n"


def test_what_fails_after_the_answer_was_given_stands_beside_it() -> None:
    write_run(Path("runs/a-1"), [(10.0, 0.5)], "seed=1")
    found = ran("compare", "runs", "--json", "--plot", "gone/a.png")
    assert [row["run"] for row in json.loads(found.stdout)["rows"]] == ["a-1"]
    assert error_in(found) == {
        "kind": "output",
        "message": "gone/a.png: cannot write: No such file or directory; choose another place with --plot",
        "hint": "choose another place with --plot",
    }


def test_all_problems_of_a_scenario_are_told_each_with_its_place() -> None:
    error = error_in(ran("run", "bad.yaml", "--json"))
    problems = error["problems"]
    assert [(problem["key"], problem["file"]) for problem in problems] == [
        ("seed", "bad.yaml"), ("stop.rounds", "bad.yaml"),
    ]  # fmt: skip
    assert error["message"].splitlines() == [
        f"{problem['file']}:{problem['line']}: {problem['key']}: {problem['message']}" for problem in problems
    ]


def test_a_run_that_fails_in_its_middle_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: PlainConsole, event: object) -> None:
        if isinstance(event, RoundRow):
            raise errors.SimulationError("worker lost")

    monkeypatch.setattr(PlainConsole, "notify", fail)
    found = ran("run", "good.yaml", "--out", "here", "--backend", "dry-run", "--json")
    assert error_in(found)["kind"] == "simulation"
    assert json.loads(found.stdout)["run_dir"] == "here"


# Signals.


def _heeds_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


LONG_RUN = ("run", "good.yaml", "--set", "stop.rounds=100000", "--out", "a b", "--quiet", "--json", "--backend",
            "dry-run")  # fmt: skip


@contextlib.contextmanager
def surely_ended(program: subprocess.Popen[str] | Command) -> Iterator[None]:
    try:
        yield
    finally:
        if program.poll() is None:
            program.kill()
            program.communicate()


@pytest.fixture
def forked_run(folder: Path, forks: None) -> Iterator[Command]:
    program = started(*LONG_RUN)
    with surely_ended(program):
        yield program


@pytest.fixture
def long_run(folder: Path) -> Iterator[subprocess.Popen[str]]:
    program = subprocess.Popen(
        [sys.executable, "-m", "neulite_sim", *LONG_RUN], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=_heeds_signals, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    with surely_ended(program):
        yield program


def ended(program: subprocess.Popen[str] | Command, number: signal.Signals) -> dict[str, Any]:
    program.send_signal(number)
    output, errors_said = program.communicate(timeout=120)
    error = error_in(subprocess.CompletedProcess((), program.returncode, output, errors_said))
    assert (error["kind"], f"{error['message']}\n") == ("interrupted", errors_said)
    return {**json.loads(output), "hint": error["hint"]}


def test_a_run_that_is_asked_to_stop_answers_how_to_go_on(forked_run: Command) -> None:
    rounds, until_s = Path("a b/rounds.csv"), time.monotonic() + 120
    while not (rounds.exists() and len(rounds.read_text().splitlines()) > 1):
        assert time.monotonic() < until_s
        assert forked_run.poll() is None
        time.sleep(0.01)
    answer = ended(forked_run, signal.SIGTERM)
    assert (answer["run_dir"], answer["hint"]) == ("a b", "go on with: neulite-sim resume 'a b'")


def test_a_command_that_is_stopped_before_it_began_answers_as_well(long_run: subprocess.Popen[str]) -> None:
    caught = 0
    while not caught >> (signal.SIGTERM - 1) & 1:
        status = Path(f"/proc/{long_run.pid}/status").read_text()
        caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
    assert ended(long_run, signal.SIGTERM)["hint"] == ""


# The same without a command line around it.


def test_what_is_no_failure_is_no_answer() -> None:
    for ending in (typer.Exit(0), SystemExit(0), SystemExit(None)):
        with pytest.raises(type(ending)), answered(may_be_json=True):
            raise ending


def test_a_mistake_in_a_plug_in_is_told_with_the_place_in_the_plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "plug_ins", lambda: frozenset({"mine"}))
    code = compile("def choose():\n    return {}['oops']\n", "/somewhere/mine/power.py", "exec")
    names: dict[str, Any] = {}
    exec(code, names)
    with pytest.raises(KeyError) as found:
        names["choose"]()
    assert words_for(found.value).startswith(
        "error: KeyError: 'oops', in power.py line 2. This is a mistake of neulite"
    )
