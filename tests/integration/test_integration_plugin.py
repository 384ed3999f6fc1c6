"""A package that is not part of neulite-sim brings it components through entry points, and they work like any other.

`tests/plugin` is such a package as an installation leaves it. Each command is a process of its own that has this folder
on its path, as it has the folder of any installed package.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from forks import started

PLUGIN = Path(__file__).parents[1] / "plugin"
SCENARIO = """
name: with-toy
seed: 1
data: {kind: digits, train_samples: 60, test_samples: 30}
model: logistic
training: {epochs: 1, batch_size: 5, learning_rate: 0.05}
population:
  devices: 6
  groups: [{device: jetson-nano-4gb, share: 1}]
  available_memory: {kind: uniform, low: 10MB, high: 20MB}
method: {kind: toy, step: 1.0}
selection: {kind: first, devices_per_round: 2}
stop: {rounds: 3}
backend: inprocess
"""


def neulite_sim(*arguments, plugin=True, is_forked=False):
    """Run a command in a fresh Python and return what it did; with `plugin` the package is installed there."""
    path = os.environ.get("PYTHONPATH", "")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PLUGIN), path] if path else [str(PLUGIN)])}
    if is_forked:
        program = started(*map(str, arguments), **(environment if plugin else {}))
        output, errors = program.communicate(timeout=300)
        return subprocess.CompletedProcess(arguments, program.wait(), output, errors)
    return subprocess.run(
        [sys.executable, "-m", "neulite_sim", *map(str, arguments)],
        env=environment if plugin else None,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def scenario(tmp_path):
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory, forks):
    """Return a function that runs the scenario with changes and returns its run folder; the same run is made once."""
    folders = {}

    def run(*more):
        if more not in folders:
            folder = tmp_path_factory.mktemp("run")
            (folder / "scenario.yaml").write_text(SCENARIO, encoding="utf-8")
            # One run without and one with Ray start like any other; what the rest of them shows is in the runs.
            is_forked = "--set" in more
            done = neulite_sim("run", folder / "scenario.yaml", "--out", folder / "out", "--quiet", *more,
                               is_forked=is_forked)  # fmt: skip
            assert done.returncode == 0, done.stderr
            folders[more] = folder / "out"
        return folders[more]

    return run


def summary(folder):
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_components_of_a_plug_in_run_a_scenario(runs):
    found = summary(runs())
    assert (found["method"], found["selection"], found["rounds"]) == ("toy", "first", 3)
    with (runs() / "flights.csv").open() as file:
        assert {row["device"] for row in csv.DictReader(file)} == {"0", "1"}


@pytest.mark.slow
def test_the_method_of_a_plug_in_is_what_makes_the_model(runs):
    """With a whole step `toy` is FedAvg, and gives its weights; half a step gives others."""
    whole, half, fedavg = (
        (runs(*more) / "model.safetensors").read_bytes()
        for more in ((), ("--set", "method.step=0.5"), ("--set", "method=fedavg"))
    )
    assert whole == fedavg
    assert whole != half


@pytest.mark.slow
def test_workers_of_ray_find_the_plug_in(runs):
    ray = runs("--backend", "ray", "--workers", "1")
    assert summary(ray)["backend"] == "ray"
    assert summary(ray)["digest"] == summary(runs())["digest"]


@pytest.mark.slow
@pytest.mark.usefixtures("forks")
def test_a_plug_in_is_listed_with_its_options_like_the_built_in_ones():
    listed = neulite_sim("components")
    assert listed.returncode == 0, listed.stderr
    assert "toy: half a step of fedavg" in listed.stdout
    assert "first: the lowest numbers" in listed.stdout
    assert "fedavg: " in listed.stdout
    described = neulite_sim("components", "toy", is_forked=True).stdout
    assert "step = 0.5" in described
    assert "How far the global model goes towards the mean of the updates." in described


@pytest.mark.usefixtures("forks")
def test_options_of_a_plug_in_are_checked(scenario):
    refused = neulite_sim("validate", scenario, "--set", "method.step=2", "--set", "method.speed=1", is_forked=True)
    assert refused.returncode == 2
    assert "method.step" in refused.stderr
    assert "method.speed" in refused.stderr


@pytest.mark.usefixtures("forks")
def test_without_the_package_the_scenario_is_refused_by_name(scenario):
    refused = neulite_sim("validate", scenario, plugin=False, is_forked=True)
    assert refused.returncode == 2
    assert "'toy' is not a known method" in refused.stderr
    assert "'first' is not a known selection" in refused.stderr
