"""Runs an app by Flower's own simulation, and writes its final arrays: `python simulated.py APP NODES FILE`.

A program of its own, because Flower's simulation starts Ray.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import numpy as np


def main(app: Path, num_nodes: int, file: Path) -> None:
    import flwr.server.server as old_server
    import flwr.serverapp.strategy.strategy as strategies
    from flwr.app import Context, RecordDict
    from flwr.common import parameters_to_ndarrays
    from flwr.common.config import get_fused_config_from_dir
    from flwr.simulation.run_simulation import _run_simulation
    from flwr.supercore.constant import NOOP_FEDERATION_ID
    from flwr.supercore.run import Run
    from flwr.supercore.task_identity import TaskIdentity
    from flwr.supercore.telemetry import EventType

    found: dict[str, np.ndarray] = {}
    start, fit = strategies.Strategy.start, old_server.Server.fit

    def started(self, *args, **kwargs):
        result = start(self, *args, **kwargs)
        found.update({name: array.numpy() for name, array in result.arrays.items()})
        return result

    def fitted(self, *args, **kwargs):
        result = fit(self, *args, **kwargs)
        arrays = parameters_to_ndarrays(self.parameters)
        found.update({f"{place:04d}": array for place, array in enumerate(arrays)})
        return result

    strategies.Strategy.start, old_server.Server.fit = started, fitted
    parts = tomllib.loads((app / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["components"]
    run = Run.create_empty(run_id=1)
    run.primary_task_id, run.federation_id = 1, NOOP_FEDERATION_ID
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    sys.path.insert(0, str(app))
    context = Context(
        run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=get_fused_config_from_dir(app, {})
    )
    _run_simulation(
        num_supernodes=num_nodes,
        exit_event=EventType.PYTHON_API_RUN_SIMULATION_LEAVE,
        client_app_attr=parts["clientapp"],
        server_app_attr=parts["serverapp"],
        server_app_context=context,
        app_dir=str(app),
        run=run,
        is_app=True,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": 1}},
    )
    np.savez(file, **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]), Path(sys.argv[3]))
