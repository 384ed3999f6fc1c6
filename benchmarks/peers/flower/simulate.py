"""The job of benchmarks/throughput.py on Flower's simulation with its Ray backend.

    PYTHONPATH=benchmarks python benchmarks/peers/flower/simulate.py [--rounds 20] [--threads 2]

As many workers as threads are asked for, each of one processor and one thread. Prints one line of JSON: seconds at the
ends of the rounds, and when the first ended.
"""

from __future__ import annotations

import argparse

import throughput
from client_app import app as client_app
from flwr.simulation import run_simulation
from server_app import server_app


def main() -> None:
    """Run the job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    throughput.add_job(parser)
    given = parser.parse_args()
    run_simulation(
        server_app=server_app(given.rounds, given.devices_per_round, given.devices),
        client_app=client_app,
        num_supernodes=given.devices,
        backend_name="ray",
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {"num_cpus": given.threads, "include_dashboard": False},
        },
    )


if __name__ == "__main__":
    main()
