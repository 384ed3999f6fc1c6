"""The Flower server of the job: FedAvg over a random sample of the nodes each round, without evaluation."""

from __future__ import annotations

import json
import time

import throughput
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg


def server_app(rounds: int, devices_per_round: int, devices: int) -> ServerApp:
    """Return the app; it prints one line of JSON: seconds at the ends of the rounds, and when the first ended."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        times_s, ends_at = [], []

        def note_time(server_round: int, arrays: ArrayRecord) -> None:
            """Note when a round ended; round 0 is before the first."""
            times_s.append(time.perf_counter())
            ends_at.append(time.time())

        strategy = FedAvg(
            fraction_train=devices_per_round / devices,
            min_train_nodes=devices_per_round,
            min_available_nodes=devices,
            fraction_evaluate=0.0,
        )
        strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(throughput.network().state_dict()),
            num_rounds=rounds,
            evaluate_fn=note_time,
        )
        ends_s = [moment_s - times_s[0] for moment_s in times_s[1:]]
        print(json.dumps({"ends_s": ends_s, "first_at": ends_at[1]}), flush=True)

    return app
