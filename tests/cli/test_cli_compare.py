"""`compare`: what it prints and writes, and its exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from stored_runs import write_run
from typer.testing import CliRunner, Result

import neulite_sim
from neulite_sim.cli import app

ROOT = Path(neulite_sim.__file__).parents[1]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2):
        write_run(Path(f"runs/a-{seed}"), [(10.0 * seed, 0.5 + 0.1 * seed)], f"seed={seed}")
    return tmp_path


def compared(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["compare", *arguments], prog_name="neulite-sim")


def test_the_runs_of_a_folder_stand_in_a_table() -> None:
    found = compared("runs")
    assert (found.exit_code, found.stderr) == (0, "")
    lines = found.stdout.splitlines()
    assert lines[0] == "2 runs, uniform selection"
    assert lines[1].split()[:4] == ["run", "method", "seed", "accuracy"]
    assert [line.split()[:4] for line in lines[3:5]] == [["a-1", "fedavg", "1", "60.0"], ["a-2", "fedavg", "2", "70.0"]]


def test_a_glob_and_a_folder_name_each_run_once() -> None:
    rows = json.loads(compared("runs/a-2", "runs", "runs/a-1", "--json").stdout)["rows"]
    assert [(row["run"], row["seed"]) for row in rows] == [("a-2", 2), ("a-1", 1)]


def test_rows_are_the_summaries() -> None:
    (row,) = json.loads(compared("runs/a-1", "--json").stdout)["rows"]
    summary = json.loads(Path("runs/a-1/summary.json").read_text())
    assert {key: row[key] for key in summary} == summary
    assert (row["run"], row["inclusive"], row["status"]) == ("a-1", True, "complete")


def test_a_group_is_one_row() -> None:
    (row,) = json.loads(compared("runs", "--group", "--json").stdout)["rows"]
    assert (row["run"], row["seeds"], row["virtual_time_s"]) == ("a", [1, 2], 15.0)
    assert compared("runs", "--group").stdout.splitlines()[3].split()[:6] == ["a", "fedavg", "2", "65.0", "±", "63.5"]


def test_a_group_stands_beside_its_baseline_seed_by_seed() -> None:
    for seed, accuracy in ((1, 0.5), (2, 0.61)):
        write_run(Path(f"others/b-{seed}"), [(10.0, accuracy)], f"seed={seed}", "stop.rounds=9")
    arguments = ("runs", "others", "--group", "--baseline", "b")
    rows = json.loads(compared(*arguments, "--json").stdout)["rows"]
    assert [(row["run"], row["baseline"], row["tail_accuracy_verdict"]) for row in rows] == [
        ("a", "b", "better"),
        ("b", "b", "not told apart"),
    ]
    assert rows[0]["tail_accuracy_difference"] == pytest.approx((0.6 - 0.5 + 0.7 - 0.61) / 2)
    assert "+9.5 ± 6.4" in compared(*arguments).stdout
    printed = compared(*arguments, "--csv", "-").stdout
    (row, _) = csv.DictReader(io.StringIO(printed))
    assert row["tail_accuracy_difference_count"] == "2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--baseline", "c"), "--baseline: c is no group of these runs; name one of the groups: a"),
        (("--group", "--baseline", "c"), "--baseline: c is no group of these runs; name one of the groups: a"),
        (("--plot", "a.svg", "--label", "c=x"), "--label: 'c' is nothing in this figure; name one of: a-1, a-2"),
        (("--interval", "z"), "--interval: 'z' is none of t, bca; use one of them"),
        (("--view", "speed"), "--view: 'speed' is none of quality-under-budget, cost-to-target, robustness; use one"),
        (("--view", "quality-under-budget"), "--view quality-under-budget: needs a budget; add --budget memory=300MB"),
        (("--budget", "time=1h"), "--budget: acts only with --view quality-under-budget; add it, or remove the option"),
        (("--view", "robustness", "--target", "0.9"), "--target: acts only with --view cost-to-target; add it, or"),
    ],
)
def test_a_baseline_that_is_none_is_refused(arguments: tuple[str, ...], message: str) -> None:
    found = compared("runs", *arguments)
    assert found.exit_code == 2
    assert message in found.stderr


@pytest.mark.slow
def test_a_view_is_a_table_rows_and_a_figure() -> None:
    arguments = ("runs", "--view", "cost-to-target", "--target", "60%", "--plot", "view.svg", "--style", "paper")
    found = compared(*arguments)
    assert found.stdout.startswith("cost until 60 % accuracy\n")
    assert "FedAvg" in Path("view.svg").read_text()
    answered = json.loads(compared(*arguments, "--json").stdout)
    assert (answered["view"], answered["target"], answered["notes"]) == ("cost-to-target", 0.6, [])
    (row,) = answered["rows"]
    assert (row["run"], row["time_to_target_s"], row["time_to_target_s_by_seed"]) == ("a", 15.0, {"1": 10.0, "2": 20.0})
    (row,) = csv.DictReader(io.StringIO(compared(*arguments, "--csv", "-").stdout))
    assert (row["time_to_target_s"], row["time_to_target_s_by_seed.2"]) == ("15.0", "20.0")


def test_a_baseline_groups_the_runs_and_missing_seeds_are_said() -> None:
    write_run(Path("others/b-2"), [(10.0, 0.5)], "seed=2", "stop.rounds=9")
    answered = json.loads(compared("runs", "others", "--baseline", "a", "--json").stdout)
    assert [row["run"] for row in answered["rows"]] == ["a", "b"]
    assert "b: seed 1 missing in b, so not paired." in answered["notes"]
    assert (
        "b: one pair has no interval, so it is not told apart." in compared("runs", "others", "--baseline", "a").stdout
    )


def test_csv_has_the_same_rows_flat() -> None:
    printed = compared("runs", "--csv", "-").stdout
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert [(row["run"], row["time_to_accuracy_s.0.7"]) for row in rows] == [("a-1", ""), ("a-2", "20.0")]
    found = compared("runs", "--csv", "rows.csv")
    assert found.stdout.startswith("2 runs")
    assert Path("rows.csv").read_text() == printed


@pytest.mark.slow
def test_a_plot_is_written_beside_the_table() -> None:
    assert compared("runs", "--group", "--plot", "a.png").stdout.startswith("2 runs")
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


def test_every_folder_that_is_no_run_is_told_and_the_others_are_shown() -> None:
    Path("notes").mkdir()
    found = compared("notes", "runs/a-1", "gone")
    assert found.exit_code == 2
    assert found.stdout.startswith("1 run, ")
    wish = "name a folder that `neulite-sim run` wrote"
    assert found.stderr.splitlines() == [
        f"error: notes: is no run folder and holds none (no scenario.yaml in it); {wish}",
        f"error: gone: does not exist; {wish}",
    ]
    alone = compared("gone")
    assert (alone.exit_code, alone.stdout) == (2, "")
    answered = json.loads(compared("notes", "runs/a-1", "gone", "--json").stdout)
    assert [row["run"] for row in answered["rows"]] == ["a-1"]
    told = "\n".join(line.removeprefix("error: ") for line in found.stderr.splitlines())
    assert answered["error"] == {"kind": "data-not-found", "message": told, "hint": wish}


def test_a_damaged_run_among_others_is_told() -> None:
    Path("runs/a-1/summary.json").write_text("{")
    found = compared("runs")
    assert found.exit_code == 2
    assert found.stdout.startswith("1 run, ")
    assert found.stderr.startswith("error: runs/a-1/summary.json: is not what SHA256SUMS beside it says: one of")


def test_a_cut_off_run_is_shown_from_its_rows_and_marked() -> None:
    write_run(Path("runs/b-3"), [(10.0, 0.5)], "seed=3", is_complete=False)
    found = compared("runs")
    assert found.exit_code == 0
    assert "b-3 (cut off)" in found.stdout
    assert "Cut off, or still running (no COMPLETE): b-3; shown as far as the rows go." in found.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--json", "--csv", "-"), "--csv -: prints to standard output, and so does --json; choose one, or name a file"),
        (("--csv", "gone/x.csv"), "error: gone/x.csv: cannot write: No such file or directory; choose another place "
                                  "with --csv"),
        (("--plot", "x.gif"), "--plot: 'x.gif' is none of .png, .svg, .pdf; call the figure one of them"),
        (("--size", "3x2"), "--size: acts only with --plot; add --plot FILE, or remove it"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_refused(arguments: tuple[str, ...], message: str) -> None:
    found = compared("runs", *arguments)
    assert (found.exit_code, found.stderr) == (2, message + "\n")
    assert "--json" in arguments or found.stdout == ""


def test_the_table_does_not_need_matplotlib() -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None; sys.argv = ['neulite-sim', 'compare', 'runs']\n"
        "from neulite_sim.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code in (0, None), end.code\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 runs")


def test_runs_that_lie_deeper_are_not_left_out_in_silence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(Path("runs/one"))
    for name in ("a", "b"):
        write_run(Path(f"runs/sweep/{name}"))
    found = CliRunner().invoke(app, ["compare", "runs"], prog_name="neulite-sim")
    assert found.exit_code == 0
    said = "note: runs: 2 runs lie deeper, such as runs/sweep/a; name the folder around to take them"
    assert said in found.stderr
    assert "deeper" not in CliRunner().invoke(app, ["compare", "runs/sweep"], prog_name="neulite-sim").stderr
