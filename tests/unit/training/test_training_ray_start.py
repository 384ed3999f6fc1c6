"""How a cluster of one's own starts: ahead of the engine, once, and without helpers that serve nobody."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import ray._private.node

import neulite_sim
from neulite_sim.errors import BackendUnavailableError
from neulite_sim.training import ray_ahead, ray_cluster
from neulite_sim.training.ray_options import RayOptions

ROOT = Path(neulite_sim.__file__).parent.parent
HELPERS = ("start_monitor", "start_log_monitor", "start_api_server")


class Started:
    """A cluster that is none, and notes which thread stops it."""

    def __init__(self, number):
        self.number = number
        self.stopped_by = []

    def stop(self):
        self.stopped_by.append(threading.current_thread().name)


@pytest.fixture
def started(monkeypatch):
    """Return what clusters were started, and for what, in place of starting them."""
    found = []

    def start(address, **how):
        if address == "nowhere":
            raise BackendUnavailableError("no cluster there")
        found.append((Started(len(found) + 1), how))
        return found[-1][0]

    monkeypatch.setattr(ray_ahead, "start_cluster", start)
    monkeypatch.setattr(ray_ahead, "_begun", {})
    return found


def taken(options):
    thread, cluster = ray_ahead.taken(options)
    try:
        return cluster.result(10).number
    finally:
        thread.shutdown()


def test_a_cluster_that_was_begun_is_taken_once_and_the_next_run_starts_its_own(started):
    options = RayOptions(workers=2, threads_per_worker=3)
    with ray_ahead.begun(options):
        found = [taken(RayOptions(workers=2, threads_per_worker=3)) for _ in range(2)]
    assert found == [1, 2]
    assert [how for _, how in started] == [{"dashboard": False, "num_processors": 6}] * 2
    assert not any(cluster.stopped_by for cluster, _ in started)


def test_a_cluster_that_nobody_took_is_stopped_by_the_thread_that_started_it(started):
    def broken_off():
        with ray_ahead.begun(RayOptions(workers=1)):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    ((cluster, _),) = started
    assert cluster.stopped_by == ["ray_0"]
    assert ray_ahead._begun == {}


def test_a_cluster_for_other_options_is_none_of_it(started):
    with ray_ahead.begun(RayOptions(workers=1)):
        taken(RayOptions(workers=2))
    assert sorted((how["num_processors"], len(cluster.stopped_by)) for cluster, how in started) == [(1, 1), (2, 0)]


def test_what_goes_wrong_ahead_is_told_to_whoever_takes_it_and_nobody_else(started):
    options = RayOptions(address="nowhere")
    with ray_ahead.begun(options):
        pass
    with ray_ahead.begun(options), pytest.raises(BackendUnavailableError, match=r"^no cluster there$"):
        taken(options)
    assert not started


def test_helpers_are_left_out_only_while_a_cluster_starts_and_a_dashboard_keeps_its_server():
    node = ray._private.node.Node
    before = {name: getattr(node, name) for name in HELPERS}
    with ray_cluster._without_helpers(dashboard=False):
        assert all(getattr(node, name)(None) is None for name in HELPERS)
    with ray_cluster._without_helpers(dashboard=True):
        assert node.start_api_server is before["start_api_server"]
        assert node.start_monitor is not before["start_monitor"]
    assert {name: getattr(node, name) for name in HELPERS} == before


def test_a_version_of_ray_that_starts_other_helpers_starts(monkeypatch):
    monkeypatch.delattr(ray._private.node.Node, "start_log_monitor")
    with ray_cluster._without_helpers(dashboard=False):
        pass
    assert not hasattr(ray._private.node.Node, "start_log_monitor")


@pytest.mark.slow
@pytest.mark.parametrize("dashboard", [False, True])
def test_a_cluster_of_ones_own_has_the_processes_that_it_needs(dashboard):
    program = (
        "import ray\n"
        "from neulite_sim.training.ray_cluster import start_cluster\n"
        f"cluster = start_cluster(None, dashboard={dashboard})\n"
        "print('kinds', sorted(ray._private.worker._global_node.all_processes))\n"
        "print(ray.get(ray.remote(lambda: 7).remote()))\n"
        "cluster.stop()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    kinds = ["gcs_server", "raylet"]
    assert done.stdout == f"kinds {sorted([*kinds, 'dashboard'] if dashboard else kinds)}\n7\n", done.stderr


CONNECTED_BEFORE = """
import sys
import ray
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
ray.shutdown()
sys.path.insert(0, "tests")
from tiny_scenarios import tiny
from neulite_sim.engine.simulation import simulate
print(*(simulate(tiny("stop.rounds=3", f"backend={kind}")).summary["digest"]
        for kind in ("inprocess", "{kind: ray, workers: 1}", "{kind: ray, workers: 1}")))
"""


@pytest.mark.slow
def test_a_program_that_was_connected_to_ray_before_gets_the_same_digests():
    """Ray numbers what the thread puts that connects, and what one puts that has done so before, alike."""
    done = subprocess.run([sys.executable, "-c", CONNECTED_BEFORE], capture_output=True, text=True, timeout=240,
                          check=False, cwd=ROOT)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    digests = done.stdout.split()
    assert len(digests) == 3
    assert len(set(digests)) == 1


@pytest.mark.slow
def test_an_interruption_while_the_cluster_starts_ahead_leaves_nothing_behind():
    """The engine is still being imported then, and nobody has taken the cluster."""
    with tempfile.TemporaryDirectory(prefix="n", dir="/tmp") as place:
        given = {**os.environ, "TMPDIR": place}
        command = [sys.executable, "-m", "neulite_sim", "run", "scenarios/jetson_mix.yaml", "--out", f"{place}/run"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=given,
                              start_new_session=True) as run:  # fmt: skip
            while not list(Path(place).glob("neulite-*")) and run.poll() is None:
                time.sleep(0.01)
            time.sleep(0.3)
            run.send_signal(signal.SIGINT)
            output, _ = run.communicate(timeout=60)
        assert (run.returncode, output) == (130, "interrupted before the run began\n")
        assert list(Path(place).iterdir()) == []
