"""What commands load: nothing that takes long where nothing is trained or profiled."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import stored_runs

import neulite_sim
from neulite_sim.later import homes

ROOT = Path(neulite_sim.__file__).parent.parent
HEAVY = {"torch", "torchvision", "ray", "sklearn", "scipy", "matplotlib", "pandas", "safetensors"}
SCENARIO = ROOT / "scenarios" / "jetson_mix.yaml"

COMMANDS = [
    ["--help"],
    ["run", "--help"],
    ["cache"],
    ["validate", str(SCENARIO)],
    ["validate", str(SCENARIO), "--set", "method=unknown"],
    ["components"],
    ["schema"],
    ["traces", "formats"],
    ["compare", "run"],
    ["report", "run"],
    ["timeline", "run"],
    ["export", "run", "--to", "tensorboard"],
    ["run", str(SCENARIO), "--set", "stop.rounds=-1"],
    ["profile", "missing.yaml"],
]
"""In this order in one process: whatever one of them loads is there for the next."""

CODE = """
import contextlib, io, json, sys
from neulite_sim.cli import main
for command in json.loads(sys.argv[1]):
    sys.argv = ["neulite-sim", *command]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            main()
        except SystemExit as end:
            code = end.code
    print(json.dumps([code or 0, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


@pytest.mark.slow
def test_commands_that_train_nothing_load_nothing_heavy(tmp_path: Path) -> None:
    stored_runs.write_run(tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(COMMANDS)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {" ".join(command): sorted(HEAVY & set(loaded)) for command, (_, loaded) in zip(COMMANDS, found, strict=True)
            if HEAVY & set(loaded)} == {}  # fmt: skip
    assert [code for code, _ in found] == [0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 2]


@pytest.mark.slow
def test_a_warm_study_of_all_methods_loads_no_compiler(tmp_path: Path) -> None:
    """It takes most of the time of PyTorch itself; a cold study checkpoints, for which PyTorch imports it."""
    code = "import sys\nfrom neulite_sim.cli import main\ntry: main()\nfinally: print('torch._dynamo' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NEULITE_SIM_CACHE": str(tmp_path / "kept")}
    told = []
    for _ in ("cold", "warm"):
        done = subprocess.run(
            [sys.executable, "-c", code, "whatif", str(SCENARIO), "--memory", "300MB,900MB", "--json"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told.append(done.stdout.splitlines()[-1])
    assert told == ["True", "False"]


MOVED = {
    "neulite_sim.methods.fedavg": ["ProximalModel"],
    "neulite_sim.methods.progfed": ["GrowingModel"],
    "neulite_sim.methods.depth": ["Classifier", "DepthPlan", "DISTILLATION_WEIGHT", "DRIFT"],
    "neulite_sim.methods.stage": ["Curriculum", "StagePlan", "Operand", "ZSource"],
    "neulite_sim.methods.nhsic": ["Form"],
    "neulite_sim.methods.thin": ["LEVELS", "MOST_RATES", "Rates", "names_of"],
    "neulite_sim.models.output": ["Surrogate"],
    "neulite_sim.models.resnet": ["BasicBlock"],
    "neulite_sim.models.squeezenet": ["Fire", "ClassifierConvolution"],
    "neulite_sim.models.vit": ["Attention", "Encoder", "Encoders", "MeanHead", "Position", "Stem"],
    "neulite_sim.training.ray_pool": ["RayOptions"],
    "neulite_sim.training.ray_backend": ["RayOptions", "COMPONENT"],
}


@pytest.mark.parametrize("module", MOVED)
def test_a_name_that_moved_is_still_found_where_a_plug_in_may_look_for_it(module: str) -> None:
    assert [name for name in MOVED[module] if not hasattr(importlib.import_module(module), name)] == []


def test_a_name_that_is_nowhere_is_missed_as_ever() -> None:
    with pytest.raises(AttributeError, match=r"^module 'here' has no attribute 'gone'$"):
        homes("here", there="os")("gone")


@pytest.mark.slow
def test_what_a_dry_run_prepares_loads_neither_scikit_learn_nor_pytorchs_compiler() -> None:
    """Either takes as long as all that a warm start does beside importing PyTorch."""
    code = (
        "import sys\n"
        "from neulite_sim.registry import component, names\n"
        "from neulite_sim.models.contract import Blueprint\n"
        "from neulite_sim.samples import InputSpec\n"
        "images = InputSpec(shape=(1, 8, 8), num_classes=3)\n"
        "tokens = InputSpec(shape=(8,), vocabulary=5, num_classes=3)\n"
        "for kind in set(names('model')) - {'given', 'python', 'timm', 'torchvision', 'transformers'}:\n"
        "    found = component('model', kind)\n"
        "    architecture = found.build(found.options())\n"
        "    spec = tokens if kind in ('bert', 'gpt') else images\n"
        "    Blueprint(architecture=architecture, spec=spec).build_meta()\n"
        "digits = component('data', 'digits')\n"
        "digits.build(digits.options(), 0)\n"
        "print(sorted({'torch._dynamo', 'sklearn', 'scipy', 'torchvision'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
