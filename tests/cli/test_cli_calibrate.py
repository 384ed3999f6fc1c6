"""`calibrate`: what it prints is a file of hardware that a scenario can use."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from neulite_sim.cli import app
from neulite_sim.population.hardware.own import read_hardware
from neulite_sim.studies import calibration
from neulite_sim.studies.machine_load import LoadWatch, MachineLoad

SCENARIO = """\
name: own
data: {kind: digits, partition: iid}
model: logistic
population:
  devices: 3
  hardware: here.toml
  groups: [{device: my-board, share: 1}]
  available_memory: {kind: uniform, low: 10MB, high: 20MB}
method: fedavg
selection: {kind: uniform, devices_per_round: 1}
stop: {rounds: 1}
"""


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(calibration, "ARCHITECTURES", (("logistic", 8), ("cnn", 16)))
    monkeypatch.setattr(calibration, "QUICK_BUDGET_S", 1e-9)
    seems(monkeypatch, others=0.0)
    # Networks of microseconds show little of the machine, and this one may be busy.
    monkeypatch.setattr(calibration, "MOST_MEDIAN_ERROR", math.inf)
    monkeypatch.setattr(calibration, "_MOST_ON_A_CPU", {})


def seems(monkeypatch: pytest.MonkeyPatch, *, others: float) -> None:
    """Make the machine look as if so many of its processors were busy with something else."""
    load = MachineLoad(num_processors=4, others=others, own=1.0, spread=0.0, load_average=0.0)
    monkeypatch.setattr(LoadWatch, "load", load)


def called(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), prog_name="neulite-sim")


@pytest.mark.slow
def test_the_output_is_hardware_that_a_scenario_names() -> None:
    found = called("calibrate", "--quick", "--name", "my-board")
    assert (found.exit_code, found.stderr) == (0, "")
    assert found.stdout.startswith("# Seconds of a training step: measured, and predicted by constants fitted without")
    Path("here.toml").write_text(found.stdout)
    Path("own.yaml").write_text(SCENARIO)
    assert list(read_hardware(Path("here.toml"))) == ["my-board"]
    profiled = called("profile", "own.yaml", "--json")
    assert profiled.exit_code == 0, profiled.stderr
    assert list(json.loads(profiled.stdout)["submodels"][0]["seconds_per_flight"]) == ["my-board"]


@pytest.mark.slow
def test_a_busy_machine_is_told_beside_what_it_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    seems(monkeypatch, others=3.0)
    found = called("calibrate", "--quick")
    words = (
        "the machine was busy while it was measured (other programs kept 3.0 of 4 processors busy); let nothing else"
    )
    assert found.exit_code == 0
    assert found.stdout.startswith(f"# {words}")
    assert found.stderr.startswith(f"warning: {words}")
    load = json.loads(called("calibrate", "--quick", "--json").stdout)["load"]
    assert (load["busy"], load["others"], load["num_processors"]) == (True, 3.0, 4)


@pytest.mark.slow
def test_what_no_machine_gives_is_told_and_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_MOST_ON_A_CPU", {"convolution_efficiency": 0.0})
    found = called("calibrate", "--quick")
    assert (found.exit_code, found.stdout) == (1, "")
    assert found.stderr.startswith("error: the measurements do not fit together (convolution_efficiency ")


@pytest.mark.slow
def test_json_has_the_steps_the_error_and_the_entry() -> None:
    report = json.loads(called("calibrate", "--quick", "--threads", "1", "--json").stdout)
    assert (report["name"], report["device"], report["threads"]) == ("this-machine", "cpu", 1)
    assert [step["network"] for step in report["steps"]] == ["logistic", "cnn"]
    assert report["quality"]["count"] == 2
    assert "[devices.this-machine]" in report["toml"]
    assert report["load"]["busy"] is False
    ends = (report["intervals"][end]["efficiency"] for end in ("low", "high"))
    assert next(ends) <= report["constants"]["efficiency"] <= next(ends)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "My Board"], "'My Board' must be small letters and digits, parted by '-'"),
        (["--name", "raspberry-pi-4-4gb"], "'raspberry-pi-4-4gb' is in the catalogue already; choose another name"),
        (["--threads", "0"], "'--threads': Input should be greater than or equal to 1"),
        (["--budget", "soon"], "'soon' is not a duration; write for example 90s, 15min or 48h"),
        (["--budget", "10ms"], "10ms must be between 1s and 1d"),
        (["--device", "tpu"], "'tpu' is not one of 'cpu', 'cuda'"),
    ],
)
def test_what_it_cannot_do_is_refused_before_it_measures(arguments: list[str], message: str) -> None:
    found = called("calibrate", *arguments)
    assert found.exit_code == 2
    assert message in " ".join(found.stderr.split())
