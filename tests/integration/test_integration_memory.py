"""The driver streams: what it holds does not grow with the number of rounds."""

import gc
import json
import subprocess
import sys
import tracemalloc

from tiny_scenarios import tiny

from neulite_sim.engine.simulation import simulate
from neulite_sim.results.rows import RoundRow

RUN = """
import json, resource, sys
from tiny_scenarios import tiny
from neulite_sim.engine.simulation import simulate
simulate(tiny("stop.rounds=" + sys.argv[1], "backend=" + sys.argv[2]), out=sys.argv[3])
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""


def peak_kib(tests_folder, rounds, backend, out):
    command = [sys.executable, "-c", RUN, str(rounds), backend, str(out)]
    done = subprocess.run(command, cwd=tests_folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_peak_resident_memory_does_not_grow_with_rounds(tmp_path, pytestconfig):
    """Twenty times the rounds may cost what allocators leave behind, 4 MiB; a row kept per round would cost more."""
    tests_folder = pytestconfig.rootpath / "tests"
    few, many = (peak_kib(tests_folder, rounds, "inprocess", tmp_path / str(rounds)) for rounds in (50, 1000))
    assert many - few < 4096


class Weigher:
    """Notes the traced memory when it is told of chosen rounds."""

    def __init__(self, *rounds):
        self.rounds, self.held_bytes = rounds, []

    def notify(self, event):
        if isinstance(event, RoundRow) and event.round in self.rounds:
            gc.collect()
            self.held_bytes.append(tracemalloc.get_traced_memory()[0])


def test_objects_held_by_the_driver_do_not_grow_with_rounds(tmp_path):
    weigher = Weigher(100, 600)
    tracemalloc.start()
    try:
        simulate(tiny("stop.rounds=600", "backend=dry-run"), out=tmp_path / "run", observers=[weigher])
    finally:
        tracemalloc.stop()
    before, after = weigher.held_bytes
    # 500 rounds with three flights each; the shortest row alone takes some hundred bytes.
    assert after - before < 20_000
