"""A run that is interrupted says how to go on, and `resume` goes on; what `resume` refuses, and its `--json`."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from forks import started
from stored_runs import resealed
from tiny_scenarios import TINY
from typer.testing import CliRunner, Result

from neulite_sim import cli
from neulite_sim.engine.simulation import simulate
from neulite_sim.scenario.loading import parse_scenario

ENOUGH_ROUNDS = 80
"""So many that no machine is through them before the signal comes."""
MOST_WAITED_S = 120.0


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    given = {**TINY, "stop": {"rounds": ENOUGH_ROUNDS}, "checkpoint": {"every_rounds": 2}}
    Path("tiny.yaml").write_text(yaml.safe_dump(given))
    return tmp_path


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments), prog_name="neulite-sim")


def interrupted(number: signal.Signals, run_dir: str) -> subprocess.CompletedProcess[str]:
    """Run the scenario as a program and send it a signal once it has written a row; return how it ended."""
    program = started("run", "tiny.yaml", "--out", run_dir)
    rounds, until_s = Path(run_dir, "rounds.csv"), time.monotonic() + MOST_WAITED_S
    while program.poll() is None and not (rounds.exists() and len(rounds.read_text().splitlines()) > 1):
        assert time.monotonic() < until_s, "the run wrote no row"
        time.sleep(0.002)
    program.send_signal(number)
    output, errors = program.communicate(timeout=MOST_WAITED_S)
    return subprocess.CompletedProcess("run", program.wait(), output, errors)


@pytest.fixture(scope="module")
def whole_digest() -> str:
    """Return the digest of the run that nothing ever stopped."""
    given = parse_scenario({**TINY, "stop": {"rounds": ENOUGH_ROUNDS}, "checkpoint": {"every_rounds": 2}})
    digest: str = simulate(given).summary["digest"]
    return digest


@pytest.mark.slow
@pytest.mark.usefixtures("forks")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on_and_ends_as_an_unbroken_one(
    number: signal.Signals, whole_digest: str
) -> None:
    done = interrupted(number, "a run")
    assert not Path("a run/COMPLETE").exists(), "the run was over before the signal came"
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines() == ["interrupted; go on with: neulite-sim resume 'a run'"]
    assert "stopped after" in done.stdout

    resumed = ran("resume", "a run", "--json", "--quiet")
    assert resumed.exit_code == 0, resumed.output
    told = json.loads(resumed.stdout)
    assert told["digest"] == whole_digest
    assert (told["run_dir"], told["rounds"]) == ("a run", ENOUGH_ROUNDS)
    assert json.loads(Path("a run/summary.json").read_text()) == {k: v for k, v in told.items() if k != "run_dir"}


def test_a_folder_without_a_scenario_is_refused() -> None:
    Path("empty").mkdir()
    refused = ran("resume", "empty")
    assert refused.exit_code == 2
    assert "empty: holds no scenario.yaml, so it is no run folder; name the folder of a run" in refused.output


def test_a_complete_run_is_refused() -> None:
    assert ran("run", "tiny.yaml", "--set", "stop.rounds=1", "--out", "done", "--quiet").exit_code == 0
    refused = ran("resume", "done")
    assert refused.exit_code == 2
    assert "done: the run is complete; nothing is left to resume" in refused.output


def test_a_run_of_another_version_is_refused() -> None:
    assert ran("run", "tiny.yaml", "--set", "stop.rounds=1", "--out", "old", "--quiet").exit_code == 0
    Path("old/COMPLETE").unlink()
    resealed(Path("old/provenance.json"), neulite_sim="0.0.1")
    refused = ran("resume", "old")
    assert refused.exit_code == 2
    assert "old: was made with neulite-sim 0.0.1 (here " in refused.output
    assert "resume it with those versions, or run its scenario.yaml again" in refused.output


def test_a_full_disk_is_told_with_what_can_be_done_about_a_run_that_has_its_place() -> None:
    assert ran("run", "tiny.yaml", "--set", "stop.rounds=3", "--out", "a run", "--quiet").exit_code == 0
    Path("a run/COMPLETE").unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        refused = ran("resume", "a run", "--quiet")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: a run/")
    assert refused.stderr.endswith(
        ": File too large; make room or rights there, then go on with: neulite-sim resume 'a run'\n"
    )
    assert ran("resume", "a run", "--quiet").exit_code == 0
