"""Show what a cluster of Ray nodes does for runs: digests, bytes per node, nodes lost and joined, studies, costs.

    python verification/cluster.py [--parts digests,ordeal,studies,costs] [--rounds 4]

Two nodes of Ray, with one and two processors and an object store each, are started on this machine and joined by Ray's
`cluster_utils`. Then

- `digests`: a method of each kind (folded where it is trained, rows of classes, stages, momentum of the server, a
  buffer, one by one) trains on both nodes; its digest is compared with that of the run in one process. Per node are
  shown the actors, jobs, bytes sent and returned, and beside them what its raylet says came into its store;
- `ordeal`: the same runs lose the second node in the middle of round 2, without warning, and get a new one;
- `studies`: a sweep and a what-if study with training run over the cluster, and give the digests of one process;
- `costs`: what a flight and an update cost the driver, for models of 10 kB to 45 MB, by actors that train nothing.

The exit code is 0 where every digest is that of the run in one process, and nothing was sent to a node twice.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray
import torch
from ray.cluster_utils import Cluster

from neulite_sim import load_scenario, simulate
from neulite_sim.results.rows import Notice, RoundRow
from neulite_sim.training import ray_backend, ray_pool
from neulite_sim.training.ray_options import RayOptions

ROOT = Path(__file__).parents[1]
SCENARIO = ROOT / "scenarios" / "jetson_mix.yaml"
SMALL = (
    "selection.devices_per_round=6",
    "population.devices=16",
    "proxy.width=0.0625",
    "evaluation.every_rounds=2",
    "evaluation.batch_norm=running",
)
ROOMY = "population.available_memory={kind: uniform, low: 800MB, high: 900MB}"
RUNS = {
    "neulite, synchronous": ("method=neulite",),
    "fedavg, deadline": ("method=fedavg", ROOMY, "protocol={kind: deadline, over_selection: 1.5}"),
    "heterofl, synchronous": ("method=heterofl",),
    "depthfl, synchronous": ("method=depthfl",),
    "fedepth, synchronous": ("method=fedepth",),
    "fedavg, fedbuff": ("method=fedavg", ROOMY, "protocol={kind: fedbuff, concurrency: 6, buffer_size: 3}"),
    "fedavg, fedasync": ("method=fedavg", ROOMY, "protocol={kind: fedasync, concurrency: 4}"),
}
QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
"""So that a dead node is found within two seconds, not half a minute."""
SIZES = {"10 kB": 2_500, "250 kB": 62_500, "4.5 MB": 1_125_000, "45 MB": 11_250_000}
JOBS = {"10 kB": 600, "250 kB": 600, "4.5 MB": 120, "45 MB": 24}
PATIENCE_S = 120.0


@contextlib.contextmanager
def nodes(*processors: int) -> Iterator[Cluster]:
    """Start nodes with so many processors each, and connect this process to the first."""
    first = {"num_cpus": processors[0], "include_dashboard": False, "_system_config": QUICK}
    cluster = Cluster(initialize_head=True, head_node_args=first)
    try:
        for count in processors[1:]:
            cluster.add_node(num_cpus=count)
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.CRITICAL)
        # Ray prints what it has to say of dead nodes on standard output, whatever it is told.
        ray._private.worker.print_to_stdstream = lambda *_, **__: None
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def store(node: str) -> Any:
    """Return what a node's raylet says of its object store."""
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import node_manager_pb2, node_manager_pb2_grpc

    (found,) = [item for item in ray.nodes() if item["NodeID"] == node]
    channel = init_grpc_channel(f"{found['NodeManagerAddress']}:{found['NodeManagerPort']}", options=[])
    stub = node_manager_pb2_grpc.NodeManagerServiceStub(channel)
    return stub.GetNodeStats(node_manager_pb2.GetNodeStatsRequest(include_memory_info=False), timeout=20).store_stats


class Kept(ray_backend.RayBackend):
    """A pool that several runs share: starting actors takes longer than these runs."""

    def close(self) -> None:
        """Left to `pool`."""


@contextlib.contextmanager
def pool() -> Iterator[Kept]:
    """Let every run within use the same actors."""
    from neulite_sim.training import ray_component

    component, kept = ray_component.COMPONENT, Kept(RayOptions(workers="auto"))
    ray_component.COMPONENT = component.__class__(**{**vars_of(component), "build": lambda _: kept})
    try:
        yield kept
    finally:
        ray_component.COMPONENT = component
        super(Kept, kept).close()


def vars_of(component: Any) -> dict[str, Any]:
    """Return the fields of a component."""
    return {name: getattr(component, name) for name in component.__dataclass_fields__}


def summary_of(overrides: Sequence[str], backend: str, rounds: int, observers: Sequence[Any] = ()) -> dict[str, Any]:
    """Return the summary of one run."""
    scenario = load_scenario(SCENARIO, [*SMALL, *overrides, f"backend={backend}", f"stop.rounds={rounds}"])
    return dict(simulate(scenario, observers=observers).summary)


def show_digests(cluster: Cluster, actors: Kept, rounds: int) -> int:
    """Print each run's digest and bytes per node; return how many are wrong."""
    wrong = 0
    other = next(iter(cluster.worker_nodes)).node_id
    print(f"{'run':<24}{'digest':<10}{'driver: jobs':>13}{'node: jobs':>11}{'actors':>7}{'sent':>12}{'back':>12}"
          f"{'its store':>12}")  # fmt: skip
    while len(actors._equipped.result().slots) < 3:
        time.sleep(0.1)
    for name, overrides in RUNS.items():
        wanted = summary_of(overrides, "inprocess", rounds)["digest"]
        before = store(other).cumulative_created_bytes
        found = summary_of(overrides, "{kind: ray, workers: auto}", rounds)
        created = store(other).cumulative_created_bytes - before
        own, there = found["nodes"]
        same = found["digest"] == wanted
        # Beside what was sent, its store took in what was trained there and is too large to come with the answer.
        is_once = created <= 1.1 * (there["bytes_sent"] + there["bytes_back"]) + 1e6
        wrong += not (same and is_once)
        print(
            f"{name:<24}{'same' if same else found['digest'][:8]:<10}{own['jobs']:>13}{there['jobs']:>11}"
            f"{there['actors']:>7}{there['bytes_sent']:>12,}{there['bytes_back']:>12,}{created:>12,}",
            flush=True,
        )
    return wrong


class Ordeal:
    """Removes the second node in the middle of a round, adds one later, and waits until that has an actor."""

    def __init__(self, cluster: Cluster, actors: Kept) -> None:
        self._cluster = cluster
        self._actors = actors
        self.told: list[str] = []
        self.lost_s = self.joined_s = 0.0

    def notify(self, event: Any) -> None:
        """Act after rounds 2 and 3."""
        if isinstance(event, Notice):
            self.told.append(event.message)
        if not isinstance(event, RoundRow):
            return
        if event.round == 2:
            self._cluster.remove_node(next(iter(self._cluster.worker_nodes)), allow_graceful=False)
        if event.round == 3:
            began_s = time.monotonic()
            self._cluster.add_node(num_cpus=2)
            while len(self._actors._pool.open) < 3 and time.monotonic() < began_s + PATIENCE_S:
                self._actors._settle(0.5)
            self.joined_s = time.monotonic() - began_s


def show_ordeal(cluster: Cluster, actors: Kept, rounds: int) -> int:
    """Print what became of runs that lost a node; return how many are wrong."""
    wrong = 0
    for name, overrides in RUNS.items():
        ordeal, rounds_here = Ordeal(cluster, actors), max(rounds, 8) * (3 if "fedasync" in name else 1)
        wanted = summary_of(overrides, "inprocess", rounds_here)["digest"]
        found = summary_of(overrides, "{kind: ray, workers: auto}", rounds_here, [ordeal])
        jobs = [row["jobs"] for row in found["nodes"]]
        replaced = sum(message.startswith("an actor died") for message in ordeal.told)
        is_right = found["digest"] == wanted and len(jobs) == 3 and min(jobs) > 0
        wrong += not is_right
        print(
            f"{name:<24}{'same' if found['digest'] == wanted else found['digest'][:8]:<10}jobs of driver, lost and "
            f"new node: {jobs}; {replaced} actors replaced; the new node worked after {ordeal.joined_s:.0f} s",
            flush=True,
        )
    return wrong


def show_studies(cluster: Cluster, rounds: int) -> int:
    """Run a sweep and a what-if study in one process each and over the cluster; return how many differ."""
    settings = [f"--set={item}" for item in (*SMALL, f"stop.rounds={rounds}")]
    on_cluster = f"--set=backend={{kind: ray, workers: 1, address: '{cluster.address}'}}"
    asked = {
        "sweep": ["sweep", str(SCENARIO), "--grid", "method=fedavg,neulite", "--jobs", "2"],
        "whatif": ["whatif", str(SCENARIO), "--memory", "400MB,800MB", "--methods", "neulite", "--train"],
    }
    wrong = 0
    with tempfile.TemporaryDirectory() as place:
        for name, command in asked.items():
            found = []
            for number, backend in enumerate(("--set=backend=inprocess", on_cluster)):
                out = Path(place) / f"{name}-{number}"
                full = [sys.executable, "-m", "neulite_sim", *command, *settings, backend, "--out", str(out), "--json"]
                paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
                began_s = time.monotonic()
                subprocess.run(full, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": paths})
                took_s = time.monotonic() - began_s
                runs = [json.loads(path.read_text()) for path in sorted(out.glob("*/summary.json"))]
                found.append(([run["digest"] for run in runs], [run["backend"] for run in runs], took_s))
            (wanted, _, _), (digests, backends, took_s) = found
            is_right = digests == wanted and set(backends) == {"ray"} and len(digests) > 1
            wrong += not is_right
            print(f"{name:<24}{'same' if is_right else 'DIFFERENT':<10}{len(digests)} runs over the cluster in "
                  f"{took_s:.0f} s", flush=True)  # fmt: skip
    return wrong


class Idle:
    """An actor that returns what it was sent, at once."""

    def equip(self, _: Any) -> str:
        """Return the node."""
        return str(ray.get_runtime_context().get_node_id())

    def train(self, task: Any, payload: Any, personal: Any) -> Any:
        """Return an update as large as the model."""
        del personal
        return SimpleNamespace(device=task.device), {name: array.copy() for name, array in payload.items()}


def show_costs(cluster: Cluster) -> int:
    """Print what flights and updates cost the driver, whatever is trained."""
    del cluster
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    actual, ray_pool.DeviceActor = ray_pool.DeviceActor, Idle  # type: ignore[misc]
    actual_replace = ray_backend.replace
    ray_backend.replace = lambda update, tensors: tensors  # type: ignore[assignment]
    try:
        backend = ray_backend.RayBackend(RayOptions(workers="auto"))
        backend.equip(SimpleNamespace(device="cpu"))  # type: ignore[arg-type]
        while backend._pool.starting:
            backend._settle(None)
        print(f"{'model':<8}{'flights':>8}{'driver CPU per flight':>23}{'flights per s':>14}{'bytes up':>12}"
              f"{'most objects':>13}{'most bytes':>13}")  # fmt: skip
        for version, (name, count) in enumerate(SIZES.items()):
            _cost(backend, name, {"weight": torch.zeros(count)}, version)
        backend.close()
    finally:
        ray_pool.DeviceActor, ray_backend.replace = actual, actual_replace  # type: ignore[misc]
    return 0


def _cost(backend: Any, name: str, payload: dict[str, torch.Tensor], version: int) -> None:
    """Dispatch and collect flights of one model as a round does, ten in the air at a time."""
    number = JOBS[name]
    most_objects = most_bytes = 0
    here = ray.get_runtime_context().get_node_id()
    collect: Callable[[int], Any] = backend.collect_update
    cpu_s, wall_s = time.process_time(), time.monotonic()
    tickets: list[int] = []
    for flight in range(number):
        task = SimpleNamespace(flight=flight, device=flight, submodel="full", version=version, fold=None)
        tickets.append(backend.submit_training(task, payload, {}))
        if len(tickets) == 10:
            collect(tickets.pop(0))
        if flight in (number // 3, number // 2):
            stats = store(here)
            most_objects = max(most_objects, stats.num_local_objects)
            most_bytes = max(most_bytes, stats.object_store_bytes_used)
    for ticket in tickets:
        collect(ticket)
    cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - wall_s
    print(
        f"{name:<8}{number:>8}{cpu_s / number * 1e3:>20.2f} ms{number / wall_s:>14.0f}"
        f"{sum(tensor.nbytes for tensor in payload.values()):>12,}{most_objects:>13}{most_bytes:>13,}",
        flush=True,
    )


def main() -> int:
    """Print the parts that were asked for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="digests,ordeal,studies,costs")
    parser.add_argument("--rounds", type=int, default=4)
    given = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray puts its workers behind everything else that the machine does.
    os.environ.setdefault("RAY_worker_niceness", "0")
    parts, wrong = given.parts.split(","), 0
    with nodes(1, 2) as cluster:
        if {"digests", "ordeal"} & set(parts):
            with pool() as actors:
                wrong += show_digests(cluster, actors, given.rounds) if "digests" in parts else 0
                wrong += show_ordeal(cluster, actors, given.rounds) if "ordeal" in parts else 0
        wrong += show_studies(cluster, given.rounds) if "studies" in parts else 0
        wrong += show_costs(cluster) if "costs" in parts else 0
    print(f"{wrong} of the checks failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
