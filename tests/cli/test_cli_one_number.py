"""A peak and a count of devices are the same text in every command, and say which memory they are of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from tiny_scenarios import TINY
from typer.testing import CliRunner

from neulite_sim.cli import app

pytestmark = pytest.mark.usefixtures("shared_profiles")

# 60 samples on 6 devices: batches of 9 leave one of ten samples over, so that everybody is charged for ten.
MERGING = {**TINY, "training": {**TINY["training"], "batch_size": 9}, "model": "lenet"}


def said(command: str) -> str:
    name, *options = command.split()
    found = CliRunner().invoke(app, [name, *options], prog_name="neulite-sim")
    assert found.exit_code == 0, found.output
    return found.stdout


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """Two of six devices hold what is charged, a third only what the table shows."""
    monkeypatch.chdir(tmp_path)
    Path("one.yaml").write_text(yaml.safe_dump(MERGING))
    shown, charged = (
        json.loads(said(f"profile one.yaml --json --set training.batch_size={size}"))["submodels"][0]["tensor_bytes"]
        for size in (9, 10)
    )
    assert shown < charged
    values = [shown, *[charged] * 2, *[shown // 2] * 3]
    limited = {**MERGING["population"], "available_memory": {"kind": "explicit", "values": values}}
    Path("one.yaml").write_text(yaml.safe_dump({**MERGING, "population": limited}))
    return {"shown": shown, "charged": charged}


def test_a_peak_is_one_text_in_every_command(scenario: dict) -> None:
    charged = f"{scenario['charged'] / 1e6:.3f} MB"
    shown = f"{scenario['shown'] / 1e6:.3f} MB"
    ran = said("run one.yaml --backend dry-run --out run")
    assert f"full {shown}: 2 devices fit; 33.3 % can take part" in ran
    assert f"memory {charged} of tensors at the peak of one device" in " ".join(ran.split())
    profiled = said("profile one.yaml")
    assert shown in profiled
    assert "33.3 % of the devices can train" in profiled
    assert "Memory is that of the tensors of a training step at its peak" in profiled
    assert charged in said("compare run")
    studied = said("whatif one.yaml --scale-memory 1 --methods fedavg --details")
    assert charged in studied
    assert "33.3" in studied
    assert "Memory is that of the tensors of a training step at its peak" in studied


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    ["run one.yaml --backend dry-run", "profile one.yaml", "whatif one.yaml --memory 9MB --methods fedavg,neulite"],
)
def test_who_is_charged_for_another_batch_is_told(scenario: dict, command: str) -> None:
    assert (
        "6 devices are charged for a batch of 10 samples instead of 9, so that none is left over alone, which "
        "BatchNorm could not normalise; who fits is counted by that"
    ) in said(command)


def test_a_method_without_a_limit_says_who_trains_beyond_it(scenario: dict) -> None:
    told = said("profile one.yaml --set method.memory_limit=false")
    assert "fedavg goes on without a memory limit here: 4 of 6 devices train what they cannot hold" in told


@pytest.mark.slow
def test_a_threshold_that_devices_fit_into_is_called_so_and_a_reference_is_counted_whole(scenario: dict) -> None:
    ran = said("run one.yaml --backend dry-run --set method=neulite --set training.fit=auto")
    header = next(line for line in ran.splitlines() if line.startswith("memory: "))
    profiled = json.loads(said("profile one.yaml --json --set method=neulite --set training.fit=auto"))["submodels"]
    full = next(entry for entry in profiled if entry["submodel"] == "full")
    holders = round(6 * full["fits_share"])
    assert f"full 1.250 MB: {holders} devices fit" in header
    assert "stage-2 as fitted " in header
