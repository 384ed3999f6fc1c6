"""`sweep`: real runs in processes of their own, and what it says around them."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import pytest
import yaml
from forks import started
from tiny_scenarios import TINY
from typer.testing import CliRunner, Result

from neulite_sim.cli import app
from neulite_sim.engine.simulation import simulate
from neulite_sim.results.stored import read_run
from neulite_sim.scenario.loading import load_scenario
from neulite_sim.stopping import EXIT_CODE


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump({**TINY, "stop": {"rounds": 1}}))
    return tmp_path


def swept(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["sweep", *arguments], prog_name="neulite-sim")


@pytest.mark.slow
def test_a_sweep_runs_compares_and_does_nothing_twice() -> None:
    """Of the fleets, one holds the model, one is too small by far; of the data, one is not there."""
    Path("sweep.yaml").write_text(
        "scenario: tiny.yaml\nseeds: [8]\nset: {stop.rounds: 2}\n"
        "grid:\n  population.available_memory: [{kind: uniform, low: 10MB, high: 20MB}, {kind: explicit, values: "
        "[10B, 11B, 12B, 13B, 14B, 15B]}]\n"
    )
    found = swept("sweep.yaml", "--jobs", "2")
    assert (found.exit_code, found.stderr) == (0, "")
    names = ["tiny-uniform-low-10MB-high-20MB", "tiny-explicit-values-10B-11B-12B-13B-14B-15B"]
    first, *ends = found.stdout.splitlines()[:3]
    assert first == "2 runs, 2 at a time, in runs/sweep"
    done, na = sorted(ends, key=lambda line: "NA, " in line)
    assert re.fullmatch(rf"\[[12]/2\] {names[0]}-8: accuracy 0\.\d+, in .*s", done)
    assert re.fullmatch(rf"\[[12]/2\] {names[1]}-8: NA, no device can train anything", na)
    here = simulate(load_scenario("tiny.yaml", ["stop.rounds=2"], seed=8)).summary
    assert read_run(Path(f"runs/sweep/{names[0]}-8")).summary["digest"] == here["digest"]
    table = found.stdout.splitlines()[4:]
    assert [line.split()[0] for line in table[3:5]] == names
    assert table[4].split()[1:6] == ["fedavg", "1", "NA", "0.0", "no"]
    assert any(line.startswith(f"NA {names[1]}: no device can train anything") for line in table)

    again = swept("sweep.yaml", "--json")
    assert again.stderr == "nothing to run in runs/sweep: all 2 finished before\n"
    rows = json.loads(again.stdout)["rows"]
    assert [(row["run"], row["status"], row["seeds"]) for row in rows] == [
        (names[0], "complete", [8]), (names[1], "NA", [8]),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("forked_sweeps")
def test_a_run_that_fails_is_told_at_once_and_at_the_end() -> None:
    found = swept("tiny.yaml", "--set", "data={kind: cifar10, root: gone}")
    assert found.exit_code == 1
    assert "[1/1] tiny-3: failed: " in found.stdout
    assert "gone" in found.stdout
    assert found.stderr == "error: 1 of 1 runs failed: tiny-3\n"
    (told,) = re.findall(
        r"^\[1/1\] tiny-3: failed: (.*) \(all it said: runs/tiny/\.sweep/tiny-3\.log\)$", found.stdout, re.M
    )

    again = swept("tiny.yaml", "--set", "data={kind: cifar10, root: gone}", "--json")
    assert again.exit_code == 1
    answered = json.loads(again.stdout)
    (run,) = answered["error"].pop("runs")
    assert answered == {
        "rows": [],
        "error": {
            "kind": "runs-failed",
            "message": "1 of 1 runs failed: tiny-3",
            "hint": "started again, it runs what is missing",
        },
    }
    assert (run["run"], run["kind"], run["message"].partition("\n")[0]) == ("tiny-3", "data-not-found", told)
    assert run["hint"]
    assert run["message"].endswith(run["hint"])


def test_a_dry_run_lists_the_runs_with_what_will_become_of_each_and_runs_nothing() -> None:
    """Seed 3 was cut off after its first checkpoint, 4 before, 5 is finished."""
    settings = ("method=fedavg", "checkpoint.every_rounds=1", "stop.rounds=2")
    for seed in (3, 4, 5):
        run_dir = Path(f"runs/tiny/tiny-fedavg-{seed}")
        simulate(load_scenario("tiny.yaml", settings, seed=seed), out=run_dir)
        if seed < 5:
            (run_dir / "COMPLETE").unlink()
    shutil.rmtree("runs/tiny/tiny-fedavg-4/checkpoint")
    before = sorted(Path("runs").rglob("*"))
    given = [part for setting in settings[1:] for part in ("--set", setting)]
    arguments = ("tiny.yaml", "--grid", "method=fedavg", *given, "--seeds", "4", "--dry-run")
    found = swept(*arguments)
    assert (found.exit_code, found.stderr) == (0, "")
    assert found.stdout.splitlines() == [
        "tiny-fedavg-3  cut off, to resume after round 1",
        "tiny-fedavg-4  cut off, to run anew: it has no checkpoint yet",
        "tiny-fedavg-5  finished",
        "tiny-fedavg-6  to run",
    ]
    runs = json.loads(swept(*arguments, "--json").stdout)["runs"]
    keys = ("run", "state", "resumes_after_round", "anew_because")
    assert [tuple(run[key] for key in keys) for run in runs] == [
        ("tiny-fedavg-3", "cut off", 1, None),
        ("tiny-fedavg-4", "cut off", None, "it has no checkpoint yet"),
        ("tiny-fedavg-5", "finished", None, None),
        ("tiny-fedavg-6", "new", None, None),
    ]
    assert runs[0]["command"][4:] == ["resume", "runs/tiny/tiny-fedavg-3", "--quiet"]
    assert runs[1]["command"][4:6] == ["run", "tiny.yaml"]
    assert sorted(Path("runs").rglob("*")) == before


def test_every_problem_of_every_combination_comes_before_the_first_run() -> None:
    found = swept("tiny.yaml", "--grid", "training.epochs=1,0", "--grid", "method=fedavg,fedavgg")
    assert found.exit_code == 2
    lines = found.stderr.splitlines()
    assert lines[0].startswith(
        "--grid: method.kind: 'fedavgg' is not a known method; did you mean 'fedavg' or 'fedra'?"
    )
    assert lines[0].endswith("(in epochs-1-fedavgg and 1 more)")
    assert lines[1:] == [
        "--grid: training.epochs: must be at least 1, found 0 (in epochs-0-fedavg and 1 more)",
        "error: 2 problems found",
    ]
    assert not Path("runs").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("forks")
def test_a_terminated_sweep_ends_its_runs_and_goes_on_from_there(folder: Path) -> None:
    """The long run is ended in its middle; what is left of it is a cut-off run."""
    arguments = ["tiny.yaml", "--set", "stop.rounds=100000", "--set", "checkpoint.every_rounds=2"]
    process = started("sweep", *arguments)
    rounds = folder / "runs" / "tiny" / "tiny-3" / "rounds.csv"
    for _ in range(2400):
        if rounds.exists() and len(rounds.read_text().splitlines()) > 3:
            break
        time.sleep(0.05)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (EXIT_CODE, "interrupted\n")
    length = rounds.stat().st_size
    last = max(int(path.name.removeprefix("round-")) for path in rounds.with_name("checkpoint").glob("round-*"))
    found = swept(*arguments, "--dry-run")
    assert found.stdout == f"tiny-3  cut off, to resume after round {last}\n"
    assert rounds.stat().st_size == length
