"""What a run read is part of it: a resume or a sweep that finds other files says so, and finds them from anywhere."""

import os
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from broken_runs import BreakAfter, Broken
from tiny_scenarios import TINY
from typer.testing import CliRunner

from neulite_sim import cli, registry
from neulite_sim.engine.resuming import find_cut_off, resume
from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import SimulationError
from neulite_sim.methods.fedavg import FedAvg
from neulite_sim.scenario.loading import load_scenario, parse_scenario

SHIFT_S = 0.3


def broken_off(scenario, folder, rounds=3):
    with pytest.raises(Broken):
        simulate(scenario, out=folder, observers=[BreakAfter(rounds)])


def ran(*arguments):
    result = CliRunner().invoke(cli.app, list(arguments), prog_name="neulite-sim")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def write_trace(path, shift_s=0.0):
    lines = [f"{device},{start + shift_s},{start + shift_s + 8}" for device in range(6) for start in range(1, 60, 10)]
    path.write_text("device,start_s,end_s\n" + "\n".join(lines) + "\n")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with a scenario and its trace beside it; the current folder is another one."""
    for name in ("home", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    population = {**TINY["population"], "availability": {"kind": "trace", "path": "trace.csv"}}
    given = {**TINY, "population": population, "checkpoint": {"every_rounds": 1}}
    (tmp_path / "home" / "tiny.yaml").write_text(yaml.safe_dump(given))
    write_trace(tmp_path / "home" / "trace.csv")
    return tmp_path / "home"


def content_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_run_of_which_the_trace_was_shifted_is_not_resumed_and_left_as_it_is(home, tmp_path):
    broken_off(load_scenario(home / "tiny.yaml"), tmp_path / "run")
    write_trace(home / "trace.csv", SHIFT_S)
    before = content_of(tmp_path / "run")
    refused = ran("resume", str(tmp_path / "run"))
    assert refused.exit_code == 2
    assert refused.stderr == (
        f"error: {tmp_path / 'run'}: what the run read has changed since it began: population.availability.path: "
        f"{home / 'trace.csv'} holds something else now; put it back, or run its scenario.yaml as a new one\n"
    )
    assert content_of(tmp_path / "run") == before
    write_trace(home / "trace.csv")
    whole = simulate(load_scenario(home / "tiny.yaml"))
    assert resume(find_cut_off(tmp_path / "run")).summary["digest"] == whole.summary["digest"]


def test_a_run_is_resumed_from_another_folder_with_the_file_that_it_read(home, tmp_path, monkeypatch):
    write_trace(Path("trace.csv"), SHIFT_S)
    broken_off(load_scenario(home / "tiny.yaml"), tmp_path / "run")
    (tmp_path / "third").mkdir()
    monkeypatch.chdir(tmp_path / "third")
    write_trace(Path("trace.csv"), 2 * SHIFT_S)
    whole = simulate(load_scenario(home / "tiny.yaml"))
    assert resume(find_cut_off(tmp_path / "run")).summary["digest"] == whole.summary["digest"]


def test_a_mapping_of_an_api_user_is_kept_with_the_file_of_its_current_folder(home, tmp_path, monkeypatch):
    monkeypatch.chdir(home)
    broken_off(parse_scenario(yaml.safe_load(Path("tiny.yaml").read_text())), tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert find_cut_off(tmp_path / "run").scenario.population.availability.options.path == str(home / "trace.csv")


def test_a_moved_trace_can_be_named_in_the_scenario_of_the_run(home, tmp_path):
    broken_off(load_scenario(home / "tiny.yaml"), tmp_path / "run")
    (tmp_path / "new").mkdir()
    (home / "trace.csv").rename(tmp_path / "new" / "trace.csv")
    refused = ran("resume", str(tmp_path / "run"))
    assert "trace.csv cannot be read any more (No such file or directory)" in refused.stderr
    path = tmp_path / "run" / "scenario.yaml"
    path.write_text(path.read_text().replace(str(home), str(tmp_path / "new")))
    assert find_cut_off(tmp_path / "run").found.round == 2


@pytest.mark.parametrize("is_complete", [True, False])
def test_a_sweep_does_not_pass_over_a_run_that_read_another_file(home, tmp_path, is_complete):
    sweep = ("sweep", str(home / "tiny.yaml"), "--out", str(tmp_path / "out"), "--jobs", "1")
    if is_complete:
        simulate(load_scenario(home / "tiny.yaml"), out=tmp_path / "out" / "tiny-3")
        assert "all 1 finished before" in ran(*sweep).output
    else:
        broken_off(load_scenario(home / "tiny.yaml"), tmp_path / "out" / "tiny-3")
        assert "cut off, to resume after round 2" in ran(*sweep, "--dry-run").output
    write_trace(home / "trace.csv", SHIFT_S)
    before = content_of(tmp_path / "out")
    refused = ran(*sweep)
    assert refused.exit_code == 2
    assert (
        f"{tmp_path / 'out' / 'tiny-3'}: holds a run that read other files than there are now: "
        f"population.availability.path: {home / 'trace.csv'} holds something else now; put them back, choose"
    ) in refused.stderr
    assert content_of(tmp_path / "out") == before


def test_a_study_does_not_pass_over_a_run_that_read_another_file(home, tmp_path, monkeypatch):
    monkeypatch.setattr("neulite_sim.api.running.run_all", lambda *given, **more: (item for item in ()))
    study = (
        "whatif",
        str(home / "tiny.yaml"),
        "--memory",
        "20MB",
        "--methods",
        "fedavg",
        "--train",
        "--out",
        str(tmp_path / "out"),
    )
    from neulite_sim.studies import whatif_training

    planned = []
    plan = whatif_training.plan_written
    monkeypatch.setattr(
        whatif_training,
        "plan_written",
        lambda scenario, name, **more: planned.append((scenario, name, more)) or plan(scenario, name, **more),
    )
    CliRunner().invoke(cli.app, list(study), prog_name="neulite-sim")
    scenario, name, more = planned[0]
    simulate(scenario, out=more["out"] / name)
    write_trace(home / "trace.csv", SHIFT_S)
    refused = ran(*study)
    assert refused.exit_code == 2
    assert f"{home / 'trace.csv'} holds something else now; put them back" in refused.stderr


# ---- what a method forgets -------------------------------------------------------------------------------------------


class Drifting(FedAvg):
    """Its denials change with each digest, and its journal does not tell."""

    def offers(self, state, ledger, candidates):
        proposal = super().offers(state, ledger, candidates)
        return replace(proposal, stage=f"digest-{state.extra or 0}")

    def digest(self, state, updates):
        return replace(super().digest(state, updates), extra=(state.extra or 0) + 1)


class Keeping(FedAvg):
    """Keeps a value of another package in its state."""

    def digest(self, state, updates):
        return replace(super().digest(state, updates), extra={"since": [Fraction(1, 3)]})


class Wordy(FedAvg):
    """Notes what JSON does not have."""

    def progress(self, state):
        return {"seen": {1, 2}}


@pytest.fixture
def plugged(monkeypatch):
    def plug(method):
        real = registry.load
        found = replace(
            real("method", "fedavg"), build=lambda options, setting: method(memory_limit=True, weighting="samples")
        )
        monkeypatch.setattr(
            registry, "load", lambda group, name: found if (group, name) == ("method", "fedavg") else real(group, name)
        )

    return plug


@pytest.mark.parametrize("protocol", ["synchronous", {"kind": "fedbuff", "concurrency": 4, "buffer_size": 2}])
def test_a_method_that_forgets_its_progress_is_not_resumed_to_another_digest(plugged, tmp_path, protocol):
    plugged(Drifting)
    broken_off(parse_scenario({**TINY, "protocol": protocol, "checkpoint": {"every_rounds": 2}}), tmp_path / "run")
    before = content_of(tmp_path / "run")
    with pytest.raises(
        SimulationError, match=r"run: playing rounds 1 to 2 again did not come to what the run had come to"
    ):
        resume(find_cut_off(tmp_path / "run"))
    assert content_of(tmp_path / "run") == before


def test_a_state_that_could_not_be_read_back_ends_the_run_at_its_first_checkpoint(plugged, tmp_path):
    plugged(Keeping)
    with pytest.raises(
        SimulationError,
        match=r"^the method's state.extra\['since'\]\[0\] is fractions.Fraction, which a checkpoint cannot",
    ):
        simulate(parse_scenario({**TINY, "checkpoint": {"every_rounds": 2}}), out=tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint").exists()
    assert (tmp_path / "run" / "rounds.csv").read_text().count("\n") >= 2


def test_a_progress_that_is_not_plain_is_refused_in_words(plugged, tmp_path):
    plugged(Wordy)
    with pytest.raises(
        SimulationError, match=r"the journal cannot keep an entry of rounds: Object of type set is not JSON"
    ):
        simulate(parse_scenario(TINY), out=tmp_path / "run")


# ---- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["journal/updates.jsonl", "journal", "checkpoint", "rounds.csv", "COMPLETE"])
def test_a_link_out_of_the_folder_is_neither_read_nor_written(tmp_path, name):
    broken_off(parse_scenario({**TINY, "checkpoint": {"every_rounds": 1}}), tmp_path / "run")
    place, target = tmp_path / "run" / name, tmp_path / "target"
    if place.exists():
        shutil.move(place, target)
    else:
        target.write_text("keep me")
    place.symlink_to(target)
    before = content_of(target) if target.is_dir() else target.read_bytes()
    for command in ("resume", "compare", "timeline"):
        refused = ran(command, str(tmp_path / "run"))
        assert refused.exit_code == 2
        assert f"{place}: is a symbolic link, where a run has a" in refused.stderr
    assert before == (content_of(target) if target.is_dir() else target.read_bytes())
    assert os.path.islink(place)


def test_a_sweep_follows_no_link_of_its_own_either(home, tmp_path):
    sweep = ("sweep", str(home / "tiny.yaml"), "--out", str(tmp_path / "out"), "--jobs", "1")
    (tmp_path / "target").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".sweep").symlink_to(tmp_path / "target")
    refused = ran(*sweep)
    assert refused.exit_code == 2
    assert ".sweep: cannot be written: is a link, where a sweep has a folder of its own" in refused.stderr
    (tmp_path / "out" / ".sweep").unlink()
    (tmp_path / "out" / ".sweep").mkdir()
    (tmp_path / "file").write_text("keep me")
    (tmp_path / "out" / ".sweep" / "lock").symlink_to(tmp_path / "file")
    refused = ran(*sweep)
    assert refused.exit_code == 2
    assert (tmp_path / "file").read_text() == "keep me"
    assert not list((tmp_path / "target").iterdir())
