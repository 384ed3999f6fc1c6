"""`timeline`: what it prints and writes, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from timeline_runs import two_rounds
from trace_rules import read
from typer.testing import CliRunner, Result

from neulite_sim.cli import app


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    two_rounds(Path("run"))
    return tmp_path


def shown(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["timeline", *arguments], prog_name="neulite-sim")


def test_the_tables_and_the_file_to_open_are_printed() -> None:
    found = shown("run")
    assert (found.exit_code, found.stderr) == (0, "")
    lines = found.stdout.splitlines()
    assert lines[0] == "where the time of a round goes"
    assert lines[3].split()[:3] == ["1", "stage-1", "10s"]
    assert "the same flights by class of device" in lines
    assert lines[-1] == "All rounds, a track per device: open run/timeline.json.gz in https://ui.perfetto.dev"


def test_rounds_can_be_chosen() -> None:
    rounds = json.loads(shown("run", "--from", "2", "--rounds", "1", "--json").stdout)["rounds"]
    assert [(item["round"], item["slowest"]["device"]) for item in rounds] == [(2, 7)]


def test_json_holds_the_report_and_the_file() -> None:
    found = json.loads(shown("run", "--json").stdout)
    assert found.keys() == {"rounds", "classes", "timeline"}
    assert found["timeline"] == "run/timeline.json.gz"
    assert [item["dropped"] for item in found["rounds"]] == [1, 0]


@pytest.mark.parametrize(("name", "head"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_a_picture_is_written_beside_the_tables(name: str, head: bytes) -> None:
    assert shown("run", "--plot", name).stdout.startswith("where the time")
    assert Path(name).read_bytes().startswith(head)


def test_a_run_that_was_cut_off_has_a_timeline_made_from_its_rows() -> None:
    two_rounds(Path("cut"), is_complete=False)
    Path("cut/timeline.json.gz").write_bytes(b"\x1f\x8b")
    assert shown("cut").stdout.splitlines()[-1] == (
        "The run was cut off or still goes on: --trace FILE writes its timeline so far."
    )
    assert json.loads(shown("cut", "--json").stdout)["timeline"] is None
    assert (
        shown("cut", "--trace", "cut.json.gz")
        .stdout.splitlines()[-1]
        .endswith("open cut.json.gz in https://ui.perfetto.dev")
    )
    assert read(Path("cut.json.gz")) == read(Path("run/timeline.json.gz"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("gone",), 2, "error: gone/rounds.csv: cannot be read: No such file or directory; name the folder of a run"),
        (("run", "--rounds", "0"), 2, "--rounds: must be at least 1, found 0"),
        (("run", "--from", "5"), 2, "--from: 5 is beyond the last round, 2; name a round from 1 to 2"),
        (("run", "--plot", "a.gif"), 2, "--plot: 'a.gif' is none of .png, .svg, .pdf; call the figure one of them"),
    ],
)
def test_wrong_input_is_told_and_exits_with_two(arguments: tuple[str, ...], code: int, message: str) -> None:
    found = shown(*arguments)
    assert (found.exit_code, found.stdout) == (code, "")
    assert message in found.stderr


def test_a_timeline_that_cannot_be_written_is_told() -> None:
    found = shown("run", "--trace", "no/a.json.gz")
    assert found.exit_code == 2
    message = "error: no/a.json.gz: cannot write: No such file or directory; choose another place with --trace"
    assert found.stderr.strip() == message
