"""With a fleet without limits an app learns, bit for bit, what it learns in Flower's own simulation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from neulite_sim import cli

pytest.importorskip("flwr", reason="Flower is not installed: python -m pip install 'neulite-sim[flower]'")

APPS = Path(__file__).parent.parent / "flower_apps"
FLEET = """\
seed: 3
population:
  devices: {devices}
  groups: [{{device: jetson-nano-4gb, share: 1}}]
  available_memory: {{kind: uniform, low: 1GB, high: 2GB}}
"""
# A sum of two is the same in either order; of more, Flower's simulation adds up replies in the order in which they
# happen to come, unless the app orders them itself.
CASES = [("pytorch-image", 2), ("sklearn-tabular", 2), ("custom-strategy", 4), ("fedprox", 2), ("message-api", 4)]


@pytest.mark.parametrize(("name", "num_nodes"), CASES)
def test_an_ideal_fleet_learns_what_flowers_own_simulation_does(tmp_path: Path, name: str, num_nodes: int) -> None:
    command = [sys.executable, str(APPS / "simulated.py"), str(APPS / name), str(num_nodes), str(tmp_path / "own.npz")]
    environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    simulated = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert simulated.returncode == 0, simulated.stderr[-2000:]
    (tmp_path / "fleet.yaml").write_text(FLEET.format(devices=num_nodes))
    arguments = ["flower", str(APPS / name), "--fleet", str(tmp_path / "fleet.yaml"), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(cli.app, arguments, prog_name="neulite-sim")
    assert done.exit_code == 0, done.output
    if name == "message-api":
        lines = re.findall(r"estimate \[.*\]", simulated.stdout)
        assert len(lines) == 3
        assert re.findall(r"estimate \[.*\]", done.output) == lines
        return
    theirs = dict(np.load(tmp_path / "own.npz"))
    ours = load_file(tmp_path / "run" / "model.safetensors")
    assert theirs
    assert theirs.keys() == ours.keys()
    for key, array in theirs.items():
        assert np.ascontiguousarray(array).tobytes() == ours[key].tobytes(), key
