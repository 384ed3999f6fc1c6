"""How a cluster of one's own starts: ahead of the engine, once, and without helpers that serve nobody."""

import subprocess
import sys

import pytest
import ray._private.node

from neulite_sim.errors import BackendUnavailableError
from neulite_sim.training import ray_ahead, ray_cluster
from neulite_sim.training.ray_options import RayOptions

HELPERS = ("start_monitor", "start_log_monitor", "start_api_server")


@pytest.fixture
def started(monkeypatch):
    """Return what clusters were started for, in place of starting them."""
    asked = []

    def start(address, **how):
        asked.append((address, how))
        if address == "nowhere":
            raise BackendUnavailableError("no cluster there")
        return f"cluster {len(asked)}"

    monkeypatch.setattr(ray_ahead, "start_cluster", start)
    monkeypatch.setattr(ray_ahead, "_begun", {})
    return asked


def test_a_cluster_that_was_begun_is_taken_once_and_the_next_run_starts_its_own(started):
    options = RayOptions(workers=2, threads_per_worker=3)
    ray_ahead.begin(options)
    ray_ahead.begin(options)
    found = [ray_ahead.taken(RayOptions(workers=2, threads_per_worker=3))[1].result(10) for _ in range(2)]
    assert found == ["cluster 1", "cluster 2"]
    assert started == [(None, {"dashboard": False, "num_processors": 6})] * 2


def test_a_cluster_for_other_options_is_none_of_it(started):
    ray_ahead.begin(RayOptions(workers=1))
    assert ray_ahead.taken(RayOptions(workers=2))[1].result(10) in ("cluster 1", "cluster 2")
    assert {how["num_processors"] for _, how in started} == {1, 2}


def test_what_goes_wrong_ahead_is_told_to_whoever_takes_it(started):
    options = RayOptions(address="nowhere")
    ray_ahead.begin(options)
    with pytest.raises(BackendUnavailableError, match=r"^no cluster there$"):
        ray_ahead.taken(options)[1].result(10)


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
