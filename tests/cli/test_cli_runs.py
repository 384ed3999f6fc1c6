"""`runs`: what is listed, in which order, at which width."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest
from stored_runs import round_row, write_rows
from typer.testing import CliRunner, Result

from neulite_sim.cli import app
from neulite_sim.reports.runs_table import runs_tables
from neulite_sim.results.listing import list_runs

NOW = datetime.datetime(2026, 11, 28, 20, 0, tzinfo=datetime.UTC)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, method, accuracy, day in (
        ("first-1", "fedavg", 0.9, "2025-03-01"),
        ("sweep/federated-dropout-with-a-long-name-2", "federated-dropout", 0.95, "2026-11-27"),
        ("third-3", "fedavg", 0.5, "2026-11-28"),
    ):
        rows = [round_row(1, 86400.0 * 3, accuracy)]
        began = f"{day}T12:00:00+00:00"
        is_complete = name != "third-3"
        write_rows(Path("runs") / name, rows, f"method={method}", f"seed={name[-1]}", is_complete=is_complete, started_at_utc=began)  # fmt: skip
    return tmp_path


def listed(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["runs", *arguments], prog_name="neulite-sim")


def order(*arguments: str) -> list[str]:
    return [run["run"][:5] for run in json.loads(listed(*arguments, "--json").stdout)["runs"]]


def test_runs_are_listed_the_latest_first() -> None:
    found = listed()
    assert (found.exit_code, found.stderr) == (0, "")
    lines = found.stdout.splitlines()
    assert lines[0] == "3 runs: 2 complete, 1 cut off"
    assert lines[1].split() == ["run", "method", "seed", "state", "rounds", "accuracy", "%", "virtual", "started"]
    assert [line.split()[0] for line in lines[3:6]] == [
        "third-3",
        "sweep/federated-dropout-with-a-long-name-2",
        "first-1",
    ]
    assert lines[3].split()[1:8] == ["fedavg", "3", "cut", "off", "1", "50.0", "72h"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ["third", "sweep", "first"]),
        (("--sort", "accuracy"), ["sweep", "first", "third"]),
        (("--sort", "run"), ["first", "sweep", "third"]),
        (("--method", "fedavg"), ["third", "first"]),
        (("--state", "complete"), ["sweep", "first"]),
        (("--name", "dropout"), ["sweep"]),
        (("--name", "tiny"), ["third", "sweep", "first"]),
        (("--since", "2026-11-27"), ["third", "sweep"]),
        (("--since", "2026-11-27T18:00:00+00:00"), ["third"]),
        (("--since", "36500d"), ["third", "sweep", "first"]),
        (("--method", "neulite"), []),
    ],
)
def test_runs_are_chosen_and_sorted(arguments: tuple[str, ...], expected: list[str]) -> None:
    assert order(*arguments) == expected


def test_runs_are_answered_in_json() -> None:
    (run,) = json.loads(listed("--name", "first", "--json").stdout)["runs"]
    assert run | {"run_dir": "runs/first-1"} == run
    assert (run["method"], run["seed"], run["state"], run["rounds"]) == ("fedavg", 1, "complete", 1)
    assert run["accuracy"] == run["final_accuracy"] == 0.9
    assert run["started_at_utc"] == "2025-03-01T12:00:00+00:00"


def test_where_there_is_none_it_says_so() -> None:
    assert listed("--method", "neulite").stdout == "no run of 3 is one of these\n"
    Path("empty").mkdir()
    assert listed("empty").stdout == "no run below empty\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--state", "complet"), "--state: 'complet' is not known; did you mean 'complete'; choose complete, NA, running, "
                                 "resumable, cut off, failed or damaged"),
        (("--sort", "size"), "--sort: 'size' is not known; choose started, run, name, method, state, accuracy, rounds or virtual"),
        (("--since", "3x"), "--since: '3x' is no time; write a day such as 2026-11-28, or how long ago, such as 90min, 2h or 7d"),
        (("gone",), "error: gone: does not exist; name the folder in which runs are, such as runs"),
    ],
)  # fmt: skip
def test_what_is_no_state_column_time_or_folder_is_refused(arguments: tuple[str, ...], message: str) -> None:
    found = listed(*arguments)
    assert (found.exit_code, found.stderr) == (2, f"{message}\n")


@pytest.mark.parametrize("width", [80, 100, 140])
def test_a_table_breaks_no_word_and_no_number(width: int) -> None:
    tables = runs_tables(list_runs(Path("runs")).runs, width=width, now=NOW)
    text = "\n".join(table.text() for table in tables)
    assert all(len(line) <= width for line in text.splitlines())
    for word in ("sweep/federated-dropout-with-a-long-name-2", "federated-dropout", "95.0", "72h 00m", "11-27 12:00"):
        assert word in text
    assert "2025-03-01" in text
    assert len(tables) == {80: 3, 100: 2, 140: 1}[width]


def test_names_of_folders_write_nothing_onto_a_terminal_but_themselves() -> None:
    Path("runs/first-1").rename("runs/\x1b[2Jfirst")
    assert "\x1b" not in listed().stdout
    assert "\\x1b[2Jfirst" in listed().stdout


def test_many_remarks_are_cut(folder: Path) -> None:
    for number in range(12):
        (folder / "bad" / f"run-{number:02}").mkdir(parents=True)
        (folder / "bad" / f"run-{number:02}" / "summary.json").touch()
    lines = listed("bad").stdout.splitlines()
    assert lines[-2:] == ["run-09: no scenario.yaml", "and 2 more remarks: --json has all"]
    assert len(json.loads(listed("bad", "--json").stdout)["runs"]) == 12
