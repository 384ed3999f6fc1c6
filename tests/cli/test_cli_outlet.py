"""Law over all commands: where standard output is full, closed or of nobody any more, one line says so, and all is done."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from forks import ROOT, Command
from stored_runs import write_run
from timeline_runs import two_rounds
from tiny_scenarios import TINY

from neulite_sim import cli
from neulite_sim.results.places import COMPLETE

LINES: dict[str, tuple[str, ...]] = {
    "run": ("run", "good.yaml", "--out", "out"),
    "run --json": ("run", "good.yaml", "--out", "out", "--quiet", "--json"),
    "resume": ("resume", "-h"),
    "validate": ("validate", "good.yaml"),
    "profile": ("profile", "good.yaml"),
    "whatif": ("whatif", "good.yaml", "--methods", "fedavg", "--csv", "rows.csv"),
    "sweep": ("sweep", "good.yaml", "--dry-run"),
    "runs": ("runs", "."),
    "runs --json": ("runs", ".", "--json"),
    "compare": ("compare", "done"),
    "compare --csv": ("compare", "done", "--csv", "-"),
    "report": ("report", "done", "--out", "report.html"),
    "timeline": ("timeline", "run"),
    "device": ("device", "done", "0"),
    "export": ("export", "-h"),
    "flower": ("flower", "-h"),
    "components": ("components",),
    "calibrate": ("calibrate", "-h"),
    "schema": ("schema",),
    "cache": ("cache",),
    "traces import": ("traces", "import", "-h"),
    "traces formats": ("traces", "formats"),
    "--version": ("--version",),
}
"""Of each command a line that prints something and ends with 0 where there is somewhere to print it."""
MADE = {"whatif": "rows.csv", "report": "report.html", "run": f"out/{COMPLETE}", "run --json": f"out/{COMPLETE}"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, forks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.yaml").write_text(yaml.safe_dump({**TINY, "stop": {"rounds": 1}}))
    write_run(Path("done"))
    two_rounds(Path("run"))


@contextmanager
def full() -> Iterator[int]:
    with open("/dev/full", "wb") as file:
        yield file.fileno()


@contextmanager
def of_nobody() -> Iterator[int]:
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


STATES = {"No space left on device": full, "Broken pipe": of_nobody}
WITHOUT_A_READER = ("run", "runs --json", "components", "timeline", "device", "whatif")
CASES = [*((name, "No space left on device") for name in LINES), *((name, "Broken pipe") for name in WITHOUT_A_READER)]


def test_every_command_is_tried_here() -> None:
    named = {f"{word} {name}" for word, (_, members) in cli.COMMAND_GROUPS.items() for name in members}
    assert {*named, *(command.__name__ for command in cli.COMMANDS)} <= set(LINES)


@pytest.mark.parametrize(("name", "why"), CASES)
def test_a_command_that_cannot_print_does_the_rest_and_says_so_in_one_line(name: str, why: str) -> None:
    with STATES[why]() as output, tempfile.TemporaryFile("w+") as told, open(os.devnull) as nothing:
        command = Command(LINES[name], files=(nothing.fileno(), output, told.fileno()))
        code = command.wait(60)
        told.seek(0)
        assert told.read() == f"error: standard output cannot be written: {why}; the command goes on without it\n"
    assert code == 2
    assert name not in MADE or Path(MADE[name]).exists()


@pytest.mark.parametrize("is_buffered", [True, False])
@pytest.mark.parametrize("name", ["--version", "runs", "run"])
def test_a_closed_standard_output_is_one_that_cannot_be_written(name: str, is_buffered: bool) -> None:
    found = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", sys.executable, "-m", "neulite_sim", *LINES[name]],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "" if is_buffered else "1"},
        stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    text = "error: standard output cannot be written: it is closed; the command goes on without it\n"
    assert (found.returncode, found.stderr) == (2, text)
    assert name != "run" or Path("out", COMPLETE).exists()


def test_a_command_that_prints_nothing_has_lost_nothing() -> None:
    with full() as output, tempfile.TemporaryFile("w+") as told, open(os.devnull) as nothing:
        command = Command((*LINES["run"], "--quiet"), files=(nothing.fileno(), output, told.fileno()))
        assert command.wait(60) == 0
        told.seek(0)
        assert told.read() == ""


@pytest.mark.parametrize("option", [(), ("-u",)])
def test_what_is_printed_arrives_whole_where_it_can(option: tuple[str, ...]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    found = subprocess.run(
        [sys.executable, *option, "-m", "neulite_sim", "schema"],
        env={**environment, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.startswith("{")
    assert found.stdout.endswith("}\n")


def test_an_error_keeps_its_own_exit_code_and_its_line() -> None:
    with full() as output, tempfile.TemporaryFile("w+") as told, open(os.devnull) as nothing:
        files = nothing.fileno(), output, told.fileno()
        assert Command(("resume", "gone", "--json"), files=files).wait(60) == 2
        told.seek(0)
        first, second = told.read().splitlines()
    assert first.startswith("error: gone")
    assert second.startswith("error: standard output cannot be written")
