"""`cache`, `--no-cache`, and profiles that one command keeps for the next."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from neulite_sim import cli, version
from neulite_sim.engine import charging
from neulite_sim.profiling.kept import KeptProfiles

SCENARIO = """\
name: small
data: {kind: synthetic, shape: [1, 8, 8], classes: 3, samples: 30, test_samples: 5}
model: lenet
training: {batch_size: 4}
population:
  devices: 3
  groups: [{device: jetson-nano-4gb, share: 1}]
  available_memory: {kind: uniform, low: 100MB, high: 900MB}
method: neulite
stop: {rounds: 2}
backend: dry-run
"""


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeptProfiles:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEULITE_SIM_CACHE", str(tmp_path / "kept"))
    # Whatever was edited while the tests ran.
    monkeypatch.setattr(version, "LOADED_AT_S", time.time() + 60)
    Path("good.yaml").write_text(SCENARIO)
    return KeptProfiles(tmp_path / "kept")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Take note of the submodels that are profiled."""
    names: list[str] = []

    def noted(submodel, build, **how):
        names.append(submodel)
        return plainly(submodel, build, **how)

    plainly = charging.profile
    monkeypatch.setattr(charging, "profile", noted)
    return names


def ran(*arguments: str) -> Result:
    result = CliRunner().invoke(cli.app, list(arguments), prog_name="neulite-sim")
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.slow
def test_a_second_command_profiles_nothing_and_says_the_same(kept: KeptProfiles, made: list[str]) -> None:
    cold = ran("profile", "good.yaml", "--json").stdout
    assert (made[0], made[-1], kept.contents().entries) == ("stage-1", "full", len(made))
    made.clear()
    assert ran("profile", "good.yaml", "--json").stdout == cold
    # Another seed has the same submodels; so has another command.
    ran("profile", "good.yaml", "--set", "seed=9")
    ran("run", "good.yaml", "--quiet", "--out", "run")
    assert made == []
    ran("profile", "good.yaml", "--set", "workload.batch_size=5")
    assert made


def test_without_cache_nothing_is_read_or_kept_and_the_environment_is_given_back(
    kept: KeptProfiles, made: list[str]
) -> None:
    ran("profile", "good.yaml", "--no-cache")
    assert (kept.contents().entries, os.environ["NEULITE_SIM_CACHE"]) == (0, str(kept.folder))
    ran("profile", "good.yaml")
    made.clear()
    ran("profile", "good.yaml", "--no-cache")
    assert made


@pytest.mark.parametrize("command", ["run", "resume", "profile", "whatif", "sweep"])
def test_every_command_that_profiles_can_do_without(command: str) -> None:
    assert "--no-cache" in ran(command, "--help").stdout


def test_the_command_tells_and_drops_what_is_kept(kept: KeptProfiles) -> None:
    assert ran("cache").stdout == f"{kept.folder}: 0 entries, 0 B\n"
    ran("profile", "good.yaml")
    found = kept.contents()
    assert ran("cache").stdout.startswith(f"{kept.folder}: {found.entries} entries, ")
    answer = {"folder": str(kept.folder), "entries": found.entries, "bytes": found.num_bytes}
    assert json.loads(ran("cache", "--json").stdout) == {"action": "info", **answer}
    assert json.loads(ran("cache", "clear", "--json").stdout) == {"action": "clear", **answer}
    assert ran("cache", "clear").stdout == f"{kept.folder}: dropped 0 entries, 0 B\n"
    assert kept.contents().entries == 0


def test_the_command_says_where_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEULITE_SIM_CACHE", "off")
    assert ran("cache", "clear").stdout == "no profiles are kept: NEULITE_SIM_CACHE is off\n"


def test_a_damaged_folder_changes_nothing(kept: KeptProfiles, made: list[str]) -> None:
    cold = ran("profile", "good.yaml", "--json").stdout
    for path in kept.folder.iterdir():
        path.write_bytes(path.read_bytes()[:-7])
    again = ran("profile", "good.yaml", "--json")
    assert (again.stdout, again.stderr) == (cold, "")
    assert kept.contents().entries == len(made) / 2
