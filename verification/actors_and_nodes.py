"""Compare digests of the same runs: one worker, two and three threads, one to four Ray actors, and two nodes.

    python verification/actors_and_nodes.py [--rounds 3] [--methods fedavg,neulite] [--protocols synchronous]

Each method trains a thin proxy on eight devices under each protocol. The two nodes are two of Ray's on this machine,
each with its own object store, joined by Ray's `cluster_utils`; actors are spread over both. The exit code is 0 where
every digest is that of the run with one worker in process.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from neulite_sim import load_scenario, simulate
from neulite_sim.errors import ScenarioError
from neulite_sim.registry import names

SCENARIO = Path(__file__).parents[1] / "scenarios" / "jetson_mix.yaml"
PROTOCOLS = {
    "synchronous": "synchronous",
    "deadline": "{kind: deadline, over_selection: 1.5}",
    "fedbuff": "{kind: fedbuff, concurrency: 6, buffer_size: 3}",
    "fedasync": "{kind: fedasync, concurrency: 4}",
}
SMALL = (
    "selection.devices_per_round=6",
    "population.devices=16",
    "proxy.width=0.0625",
    "evaluation.every_rounds=2",
    "evaluation.batch_norm=running",
)


def digest_of(method: str, protocol: str, backend: str, rounds: int) -> str:
    """Return the digest of one run."""
    chosen = (f"method={method}", f"protocol={PROTOCOLS[protocol]}", f"backend={backend}", f"stop.rounds={rounds}")
    return str(simulate(load_scenario(SCENARIO, [*SMALL, *chosen])).summary["digest"])


@contextlib.contextmanager
def two_nodes() -> Iterator[str]:
    """Start two nodes that take actors, and yield their address."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=2)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()


def main() -> int:
    """Print a row per method and protocol; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", default=",".join(names("method")))
    parser.add_argument("--protocols", default="synchronous", help=", ".join(PROTOCOLS))
    given = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    logging.getLogger("ray").setLevel(logging.ERROR)
    pairs = [(method, protocol) for method in given.methods.split(",") for protocol in given.protocols.split(",")]
    wrong = left_out = 0
    print(f"{'method':<18}{'protocol':<14}{'in process':<14}2 and 3 threads, 1, 2, 3 and 4 actors, two nodes")
    with two_nodes() as address:
        for method, protocol in pairs:
            try:
                wanted = digest_of(method, protocol, "inprocess", given.rounds)
            except ScenarioError as refused:
                print(f"{method:<18}{protocol:<14}left out: {refused}", flush=True)
                left_out += 1
                continue
            backends = [f"{{kind: inprocess, workers: {workers}}}" for workers in (2, 3)]
            backends += [f"{{kind: ray, workers: {workers}}}" for workers in (1, 2, 3, 4)]
            backends.append(f"{{kind: ray, workers: 4, address: '{address}'}}")
            found = [digest_of(method, protocol, backend, given.rounds) for backend in backends]
            same = ["same" if digest == wanted else digest[:12] for digest in found]
            wrong += sum(digest != wanted for digest in found)
            print(f"{method:<18}{protocol:<14}{wanted[:12]:<14}{', '.join(same)}", flush=True)
    print(f"{wrong} of {7 * (len(pairs) - left_out)} digests differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
