"""`report`: what it writes and says, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stored_runs import write_run
from typer.testing import CliRunner, Result

from neulite_sim.cli import app


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2):
        write_run(Path(f"runs/a-{seed}"), [(10.0 * seed, 0.5 + 0.1 * seed)], f"seed={seed}")
    return tmp_path


def reported(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["report", *arguments], prog_name="neulite-sim")


def test_a_run_becomes_one_file_whose_path_and_size_are_told() -> None:
    found = reported("runs/a-1")
    assert (found.exit_code, found.stderr) == (0, "")
    assert found.stdout.startswith("report.html (")
    page = Path("report.html").read_text(encoding="utf-8")
    assert "neulite-sim report runs/a-1 --out report.html" in page


def test_json_tells_path_bytes_and_kind() -> None:
    Path("sub").mkdir()
    found = json.loads(reported("runs", "--out", "sub/both.html", "--json").stdout)
    assert found == {"report": "sub/both.html", "bytes": Path("sub/both.html").stat().st_size, "kind": "comparison",
                     "inputs": ["runs"]}  # fmt: skip
    assert "neulite-sim compare ../runs --group" in Path("sub/both.html").read_text()


def test_a_report_that_is_there_is_replaced() -> None:
    Path("report.html").write_text("old")
    assert reported("runs/a-1").exit_code == 0
    assert Path("report.html").read_text().startswith("<!DOCTYPE html>")


def test_what_can_be_read_is_shown_and_the_rest_told() -> None:
    found = reported("runs", "gone")
    assert found.exit_code == 2
    assert found.stderr == "error: gone: does not exist; name a folder that `neulite-sim run` wrote\n"
    assert "2 runs" in Path("report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gone",), "error: gone: does not exist; name a folder that `neulite-sim run` wrote"),
        ((".",), "error: .: is no run folder and holds none (no scenario.yaml in it)"),
        (("runs/a-1", "study.json"), "RUN_DIR: a file beside run folders (study.json): a study and runs are different"),
        (("study.json", "study.json"), "RUN_DIR: several files (study.json): a study and runs are different reports; give"),
        (("study.json",), "error: study.json: holds no study of memory budgets: it is not valid JSON; give a file that"),
        (("study.json", "--out", "study.json"), "--out: study.json is what the report is made from; name another file"),
        (("runs/a-1", "--out", "runs"), "--out: runs is a folder; name a file, such as runs/report.html"),
        (("runs/a-1", "--out", "no/where.html"), "error: no/where.html: cannot write: No such file or directory; make room"),
        (("runs/a-1", "--baseline", "a"), "--baseline: acts only where several runs are compared, but one run is given"),
        (("runs", "--baseline", "b"), "--baseline: b is no group of these runs; name one of the groups: a"),
    ],
)  # fmt: skip
def test_what_cannot_be_reported_is_refused_before_anything_is_written(
    arguments: tuple[str, ...], message: str
) -> None:
    Path("study.json").write_text("{")
    found = reported(*arguments)
    assert (found.exit_code in (1, 2), found.stdout) == (True, "")
    assert message in found.stderr
    assert "Traceback" not in found.stderr
    assert not Path("report.html").exists()


def test_folders_with_spaces_are_quoted_in_the_commands() -> None:
    write_run(Path("mein läufer/a b-1"), [(10.0, 0.5)])
    assert reported("mein läufer/a b-1").exit_code == 0
    assert "neulite-sim timeline &#39;mein läufer/a b-1&#39;" in Path("report.html").read_text(encoding="utf-8")
