"""A federation of real processes on this machine, and the same scenario on the virtual clock."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "verification" / "deployment.py"


@pytest.mark.slow
def test_processes_over_sockets_do_what_the_simulator_says(tmp_path):
    """Devices of three speeds, of which one leaves for good, one comes back and one comes late."""
    given = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1]), "OMP_NUM_THREADS": "1"}
    command = (sys.executable, str(SCRIPT), "--small", "--scenarios", "churn", "--json", str(tmp_path / "found.json"))
    ended = subprocess.run(command, env=given, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert (tmp_path / "found.json").exists(), ended.stderr
    (found,) = json.loads((tmp_path / "found.json").read_text())["scenarios"]
    assert found["same_arrivals"], ended.stdout
    assert found["same_order"], ended.stdout
    for way in ("down", "up"):
        assert found["bytes"][way]["real"] == found["bytes"][way]["simulated"] > 0
    assert (found["same_weights"], found["same_accuracy"]) == (True, True)
    assert [sorted(line["dropped"]) for line in found["rounds"]] == [
        line["predicted_dropped"] for line in found["rounds"]
    ]
    assert sum(len(line["dropped"]) for line in found["rounds"]) == 2
    # No time is checked to the percent where other tests run beside this one.
    assert 0.5 < found["mean_round_s"]["simulated"] / found["mean_round_s"]["real"] < 1.5
