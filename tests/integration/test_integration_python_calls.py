"""Functions called from where people call them: again and again, in a thread, in a script without a guard, from a pipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_scenarios import TINY

import neulite_sim

pytestmark = pytest.mark.usefixtures("shared_profiles")

ROOT = Path(neulite_sim.__file__).parents[1]
SCRIPT = """
import gc, json, os, sys, threading
print("begun")
import neulite_sim

def held():
    gc.collect()
    return threading.active_count(), len(os.listdir("/proc/self/fd"))

def once():
    neulite_sim.profile("tiny.yaml")
    return neulite_sim.simulate(neulite_sim.load_scenario("tiny.yaml"))

once()
neulite_sim.compare(once()).to_html()
before = held()
for _ in range(20):
    neulite_sim.profile("tiny.yaml")
digests = {once().summary["digest"] for _ in range(3)}
told = []
thread = threading.Thread(target=lambda: told.append(once().summary["digest"]))
thread.start()
thread.join()
inside = []
thread = threading.Thread(target=lambda: inside.append(neulite_sim.sweep("tiny.yaml", {"seed": [3, 4]}, out="runs", jobs=2)))
thread.start()
thread.join()
again = neulite_sim.sweep("tiny.yaml", seeds=[3, 4], out="runs")
json.dump({
    "before": before, "after": held(), "digests": sorted(digests | set(told)), "seeds": [run.summary["seed"] for run in inside[0].runs],
    "swept": inside[0].runs[0].summary["digest"], "again": again.to_json() == inside[0].to_json(),
    "modules": "ray" in sys.modules,
}, open("answer.json", "w"))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**TINY, "stop": {"rounds": 1}}))
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


def ran(*command: str, folder: Path, **how: Any) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False, **how
    )


PIPED = """
print("begun")
import neulite_sim
print(neulite_sim.sweep("tiny.yaml", seeds=[5], out="piped").runs[0].summary["seed"])
"""


@pytest.mark.slow
def test_calls_leave_nothing_behind_and_start_no_script_again(folder: Path) -> None:
    """A script without `if __name__ == "__main__"`, and one from standard input."""
    done = ran("script.py", folder=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "begun\n"
    found = json.loads((folder / "answer.json").read_text())
    assert found["after"] == found["before"]
    assert len(found["digests"]) == 1
    assert found["swept"] == found["digests"][0]
    assert (found["seeds"], found["again"], found["modules"]) == ([3, 4], True, False)
    piped = ran("-", folder=folder, input=PIPED)
    assert (piped.returncode, piped.stdout) == (0, "begun\n5\n"), piped.stderr
