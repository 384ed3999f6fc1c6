"""The driver streams: what it holds does not grow with the number of rounds."""

import gc
import json
import subprocess
import sys
import tracemalloc

import pytest
from tiny_scenarios import tiny

from neulite_sim.engine.simulation import simulate
from neulite_sim.results.rows import RoundRow

RUN = """
import json, resource, sys
from tiny_scenarios import tiny
from neulite_sim.engine.simulation import simulate
from neulite_sim.results.rows import RoundRow

class Scales:
    peaks_kib = {}

    def notify(self, event):
        if isinstance(event, RoundRow):
            self.peaks_kib[event.round] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

simulate(tiny(*sys.argv[2:]), out=sys.argv[1], observers=[Scales()])
print(json.dumps(Scales.peaks_kib))
"""
SMALL = ("data.train_samples=12", "data.test_samples=10", "stop.rounds=1000", "training.batch_size=2")
"""Two samples for each device: a step, then a test of ten images, so that a thousand rounds take seconds."""


@pytest.mark.slow
def test_peak_resident_memory_does_not_grow_with_rounds(tmp_path, pytestconfig):
    """Twenty times the rounds may cost what allocators leave behind, 4 MiB; a row kept per round would cost more."""
    command = [sys.executable, "-c", RUN, str(tmp_path / "run"), *SMALL]
    tests_folder = pytestconfig.rootpath / "tests"
    done = subprocess.run(command, cwd=tests_folder, capture_output=True, text=True, check=True)
    peaks_kib = json.loads(done.stdout.splitlines()[-1])
    assert len(peaks_kib) == 1000
    assert peaks_kib["1000"] - peaks_kib["50"] < 4096


class Weigher:
    """Notes the traced memory when it is told of chosen rounds."""

    def __init__(self, *rounds):
        self.rounds, self.held_bytes = rounds, []

    def notify(self, event):
        if isinstance(event, RoundRow) and event.round in self.rounds:
            gc.collect()
            self.held_bytes.append(tracemalloc.get_traced_memory()[0])


@pytest.mark.slow
def test_objects_held_by_the_driver_do_not_grow_with_rounds(tmp_path, monkeypatch):
    # What happens to devices is counted after so many dispatches and flights; here after fewer than are weighed.
    monkeypatch.setattr("neulite_sim.engine.looks.MOST_LOOKS", 50)
    monkeypatch.setattr("neulite_sim.engine.roll_call.FEW_FLIGHTS", 100)
    weigher = Weigher(500, 1000)
    tracemalloc.start()
    try:
        simulate(tiny("stop.rounds=1000", "backend=dry-run"), out=tmp_path / "run", observers=[weigher])
    finally:
        tracemalloc.stop()
    before, after = weigher.held_bytes
    # 500 rounds with three flights each; the shortest row alone takes some hundred bytes.
    assert after - before < 20_000
