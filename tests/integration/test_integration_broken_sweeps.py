"""Sweeps that were broken off and are started again: what goes on where it was, what is run anew, the same digests."""

import csv
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import yaml
from broken_runs import BreakAfter, Broken
from forks import started
from stored_runs import resealed
from tiny_scenarios import TINY
from typer.testing import CliRunner

import neulite_sim
from neulite_sim.cli import app
from neulite_sim.engine.simulation import simulate
from neulite_sim.results.stored import read_run
from neulite_sim.scenario.loading import load_scenario
from neulite_sim.stopping import EXIT_CODE

pytestmark = pytest.mark.usefixtures("forked_sweeps")

MOST_WAITED_S = 180.0


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    taken = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield tmp_path
    for name, handler in taken.items():
        signal.signal(name, handler)


def written(**changes):
    Path("tiny.yaml").write_text(yaml.safe_dump({**TINY, "checkpoint": {"every_rounds": 2}, **changes}))


def swept(*arguments):
    return CliRunner().invoke(app, ["sweep", "tiny.yaml", *arguments], prog_name="neulite-sim")


def unbroken(seed):
    """Return the digest of a run that nothing ever stopped."""
    return simulate(load_scenario("tiny.yaml", seed=seed)).summary["digest"]


def digest(run_dir):
    return read_run(Path(run_dir)).summary["digest"]


def wall_times(run_dir):
    with Path(run_dir, "rounds.csv").open() as lines:
        return [row["wall_time_s"] for row in csv.DictReader(lines)]


def last_checkpoint(run_dir):
    """Return the round of the last checkpoint; 0 where there is none."""
    found = [int(path.name.removeprefix("round-")) for path in Path(run_dir, "checkpoint").glob("round-*")]
    return max(found, default=0)


def interrupted(*arguments, run_dir, after):
    """Start a sweep as a program and send it Ctrl-C once a run has a checkpoint after that round; return what it said.

    It ends with the exit code of an interrupted command, and the run without its end.
    """
    program = started("sweep", "tiny.yaml", *arguments)
    until_s = time.monotonic() + MOST_WAITED_S
    while program.poll() is None and last_checkpoint(run_dir) <= after:
        assert time.monotonic() < until_s, f"{run_dir} got no checkpoint after round {after}"
        time.sleep(0.002)
    program.send_signal(signal.SIGINT)
    output, errors = program.communicate(timeout=MOST_WAITED_S)
    assert (program.returncode, errors) == (EXIT_CODE, "interrupted\n")
    assert not Path(run_dir, "COMPLETE").exists(), "the run was over before the signal came"
    return output.splitlines()


@pytest.mark.slow
def test_a_sweep_that_was_interrupted_twice_goes_on_after_the_last_checkpoint_and_ends_as_an_unbroken_one():
    """The first of its runs is broken off in the middle, and again when it goes on; the other one never began."""
    written(stop={"rounds": 60})
    arguments = ("--seeds", "2", "--jobs", "1", "--out", "broken")
    begun = "2 runs, 1 at a time, in broken"
    assert interrupted(*arguments, run_dir="broken/tiny-3", after=0) == [begun]
    first = last_checkpoint("broken/tiny-3")
    times, provenance = wall_times("broken/tiny-3"), Path("broken/tiny-3/provenance.json").read_bytes()
    listed = swept(*arguments, "--dry-run").stdout.splitlines()
    assert listed == [f"tiny-3  cut off, to resume after round {first}", "tiny-4  to run"]

    resumed = f"tiny-3: cut off, resumed after round {first}"
    assert interrupted(*arguments, run_dir="broken/tiny-3", after=first) == [begun, resumed]
    second = last_checkpoint("broken/tiny-3")

    again = swept(*arguments)
    assert (again.exit_code, again.stderr) == (0, "")
    lines = again.stdout.splitlines()[:4]
    assert lines[:2] == [begun, f"tiny-3: cut off, resumed after round {second}"]
    assert re.fullmatch(rf"\[1/2\] tiny-3: accuracy 0\.\d+, in .*s from round {second + 1} on", lines[2])
    assert re.fullmatch(r"\[2/2\] tiny-4: accuracy 0\.\d+, in .*s", lines[3])
    # Wall times never repeat: those of the rounds up to the first checkpoint come from the journal.
    assert wall_times("broken/tiny-3")[:first] == times[:first]
    assert Path("broken/tiny-3/provenance.json").read_bytes() == provenance
    assert [digest(f"broken/tiny-{seed}") for seed in (3, 4)] == [unbroken(3), unbroken(4)]


def cut(file, *, by):
    os.truncate(file, Path(file).stat().st_size - by)


@pytest.mark.slow
def test_what_cannot_be_resumed_is_run_anew_with_its_reason_and_the_same_digest():
    """Five runs end after round 3, of which a journal, the weights, the version and a checkpoint are then lost."""
    written()
    seeds = range(3, 8)
    for seed in seeds:
        with pytest.raises(Broken):
            simulate(load_scenario("tiny.yaml", seed=seed), out=f"broken/tiny-{seed}", observers=[BreakAfter()])
    # The checkpoint needs two of the three rounds, so more is cut than round 3.
    journal = Path("broken/tiny-4/journal/updates.jsonl")
    cut(journal, by=journal.stat().st_size // 2)
    cut("broken/tiny-5/checkpoint/round-00000002/tensors.safetensors", by=1)
    resealed(Path("broken/tiny-6/provenance.json"), neulite_sim="0.0.1")
    shutil.rmtree("broken/tiny-7/checkpoint")

    found = swept("--seeds", "5", "--jobs", "2", "--out", "broken")
    assert (found.exit_code, found.stderr) == (0, "")
    told = sorted(line for line in found.stdout.splitlines() if re.match(r"tiny-\d: ", line))
    version = f"neulite-sim 0.0.1 (here {neulite_sim.__version__})"
    expected = [
        r"tiny-3: cut off, resumed after round 2",
        r"tiny-4: cut off, resumed after round 2",
        r"tiny-4: cut off, run anew: journal/updates\.jsonl: [^;]+",
        r"tiny-5: cut off, run anew: checkpoint/round-00000002/tensors\.safetensors: is not as it was written",
        rf"tiny-6: cut off, run anew: was made with {re.escape(version)}, whose bits this installation cannot repeat",
        r"tiny-7: cut off, run anew: it has no checkpoint yet",
    ]
    assert len(told) == len(expected)
    assert all(map(re.fullmatch, expected, told)), told
    assert [digest(f"broken/tiny-{seed}") for seed in seeds] == [unbroken(seed) for seed in seeds]
